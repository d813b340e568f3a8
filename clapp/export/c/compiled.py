"""Compile and run C files on this machine: for comparison with PyTorch, and for their size."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clapp.errors import ClappError
from clapp.export.c.header import Code
from clapp.inference.adjusted import feed
from clapp.inference.runner import Batch

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O3", "-fno-math-errno")
_SMALL = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Os", "-fno-math-errno")
_TEXT = (".text", ".rodata", ".init", ".data")


class CompilerError(ClappError):
    """A C compiler rejected the generated code."""


class Footprint(NamedTuple):
    """Bytes that a source file takes when it is compiled for size.

    Attributes:
        flash: machine code and constants, without functions of the C library.
        stack: stack of all functions together, an upper bound for any call.
    """

    flash: int
    stack: int
    compiler: str


def compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_c(folder: Path, out: Path, *flags: str, file: str = "model") -> Path:
    """Compile a source in `folder`, `file`.c, to the shared library `out`.

    Raises:
        CompilerError: compiling fails or gives a warning.
    """
    found = compiler()
    if found is None:
        raise CompilerError("no C compiler: cc, gcc and clang are not on the path")
    command = [found, *(flags or FLAGS), "-fPIC", "-shared", "-o", str(out), f"{file}.c"]
    command.append("-lm")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompilerError(f"{folder / file}.c: does not compile: {done.stderr.strip()}")
    return out


def load_c(library: Path, code: Code, *, uint8: bool) -> Callable[[Batch], Batch]:
    """A compiled network as a function of (1, 3 + n, H, W) in [0, 1]; its workspace is guarded."""
    loaded = ctypes.CDLL(str(library))
    run = getattr(loaded, f"{code.name}_run")
    pointer = ctypes.c_void_p
    more = [ctypes.c_float] * len(code.settings)
    run.argtypes = [pointer, ctypes.c_int, ctypes.c_int, *more, pointer, pointer]

    def apply(batch: Batch) -> Batch:
        height, width = batch.shape[2:]
        image, *values = feed(batch, code.settings, uint8=uint8).values()
        image = np.ascontiguousarray(image[0])
        given = (height, width, *(float(value[0]) for value in values))
        channels = code.output_channels
        output = np.zeros((1, channels, height, width), code.dtype)
        guard = 64
        size = code.ram(width)
        workspace = np.full(size + 2 * guard, 0xA5, np.uint8)
        middle = workspace[guard:]
        if run(image.ctypes.data, *given, output.ctypes.data, middle.ctypes.data):
            raise ValueError(f"the C code refuses {width}x{height} pixels")
        if (workspace[:guard] != 0xA5).any() or (middle[size:] != 0xA5).any():
            raise CompilerError("the C code wrote outside of its workspace")
        return code.as_float(output)

    return apply


def footprint(folder: Path, file: str = "model") -> Footprint | None:
    """The footprint of a source compiled on this machine; None without a compiler or the tool
    `size`."""
    found, size = compiler(), shutil.which("size")
    if found is None or size is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        target = Path(name, "model.o")
        command = [found, *_SMALL, "-fstack-usage", "-c", "-o", str(target), f"{file}.c"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        listing = subprocess.run([size, "-A", str(target)], check=True, capture_output=True)
        usage = target.with_suffix(".su").read_text().splitlines()
    machine = subprocess.run([found, "-dumpmachine"], check=True, capture_output=True, text=True)
    sections = [line.split() for line in listing.stdout.decode().splitlines()]
    flash = sum(int(parts[1]) for parts in sections if parts and parts[0].startswith(_TEXT))
    stack = sum(int(line.split("\t")[1]) for line in usage)
    return Footprint(flash, stack, f"{Path(found).name} -Os for {machine.stdout.strip()}")
