"""The formats `c` and `c-int8` of an export."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from clapp.export.c.compiled import FLAGS, compile_c, compiler, footprint, load_c
from clapp.export.c.header import Code, identifier
from clapp.export.c.source import write_c
from clapp.export.formats import Bundle, Written
from clapp.filters.learned.settings import ranged_name
from clapp.inference.runner import Batch
from clapp.system.files import write_text

_WIDTH = 224


def write_float(bundle: Bundle) -> Written:
    """`model.h` and `model.c`, in floats."""
    name = ranged_name(bundle.config.target_filter, bundle.config.parameter)
    params = sum(values.size for values in bundle.weights.values())
    code = write_c(
        bundle.graph,
        bundle.weights,
        identifier(name),
        f"{name} in {params} parameters",
        bundle.model.min_size,
        uint8=bundle.options.uint8,
        settings=bundle.config.settings,
    )
    return written(bundle, code, "C", uint8=bundle.options.uint8)


def written(bundle: Bundle, code: Code, label: str, *, uint8: bool) -> Written:
    """Write a header and a source; compile and measure them where there is a compiler."""
    write_text(bundle.folder / f"{code.file}.h", code.header)
    write_text(bundle.folder / f"{code.file}.c", code.source)
    files = {
        f"{code.file}.h": f"the network as C99: declares `{code.name}_run`",
        f"{code.file}.c": "its source; no malloc, no stdio, weights as constants",
    }
    return Written(
        files, _facts(bundle, code, label), {label: _run(bundle.folder, code, uint8=uint8)}
    )


def _facts(bundle: Bundle, code: Code, label: str) -> dict[str, str]:
    width = _WIDTH if bundle.options.size is None else bundle.options.size[1]
    facts = {
        f"{label}: working memory": f"{code.ram(width):,} bytes at a width of {width} "
        f"({code.space.words()}), whatever the height",
        f"{label}: passes over the picture": str(code.plan.passes)
        + (", and one over the result" if code.plan.maximum else ""),
        f"{label}: weights": f"{code.weight_bytes:,} bytes",
    }
    size = footprint(bundle.folder, code.file)
    if size is not None:
        facts[f"{label}: flash"] = (
            f"{size.flash:,} bytes of code and constants, stack at most {size.stack:,} "
            f"({size.compiler})"
        )
    return facts


def _run(folder: Path, code: Code, *, uint8: bool) -> Callable[[Batch], Batch] | str:
    if compiler() is None:
        return "not compiled: this machine has no C compiler"
    with tempfile.TemporaryDirectory() as name:  # a loaded library does not need its file any more
        library = compile_c(folder, Path(name, "model.so"), *FLAGS, file=code.file)
        return load_c(library, code, uint8=uint8)
