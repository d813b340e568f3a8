"""Filters given as `module:function`: import them, hash their code, check their results."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clapp.errors import ClappError, ConfigError, UserError, one_line

Picture = NDArray[np.uint8]
Target = NDArray[Any]
TAKES_KEY = "takes"
"""Key that names the input of a user's function; see `clapp.filters.base.TAKES`."""
_ROUNDING = 1e-5
"""How far a float may lie outside of [0, 1], because of rounding in single precision."""
FOLDERS = "CLAPP_FILTERS"
"""Environment variable with the folders, separated by `os.pathsep`, that are searched for modules
of filters before the working directory. Processes that a study starts inherit it."""


def look_in(folder: Path) -> None:
    """Search `folder` first for modules of filters, in this process and in its child processes."""
    here = str(folder.resolve())
    others = [place for place in _folders() if place != here]
    os.environ[FOLDERS] = os.pathsep.join([here, *others])


def _folders() -> list[str]:
    return [place for place in os.environ.get(FOLDERS, "").split(os.pathsep) if place]


def functions_in(spec: Any) -> Iterator[str]:
    """Every `module:function` in the specification of a filter, however it is nested."""
    if isinstance(spec, str):
        if ":" in spec:
            yield spec
    elif isinstance(spec, Mapping):
        for value in spec.values():
            yield from functions_in(value)
    elif isinstance(spec, list | tuple):
        for value in spec:
            yield from functions_in(value)


def load_function(spec: str) -> Callable[..., Any]:
    """Import the function that `module:function` names.

    A module that is a single file is looked for in the folders of `FOLDERS`, then in the working
    directory, then among the installed packages.

    Raises:
        ConfigError: it cannot be imported, or is no function; the message says why.
    """
    module_name, _, name = spec.partition(":")
    try:
        function = getattr(_module(module_name), name)
    except AttributeError as error:
        raise ConfigError(f"filter {spec!r}: {one_line(error)}") from error
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(f"filter {spec!r} cannot be imported: {reason}") from error
    if not callable(function):
        raise ConfigError(f"filter {spec!r} is not a function")
    return function  # type: ignore[no-any-return]


def load_plugin(name: str) -> str:
    """Import a module that adds entries to registries; it is searched for like the module of a
    filter.

    Raises:
        ConfigError: it cannot be imported; the message says why.
    """
    try:
        _module(name)
    except ClappError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(f"plugin {name!r} cannot be imported: {reason}") from error
    return name


def _module(name: str) -> ModuleType:
    places = [*_folders(), str(Path.cwd())]
    for place in places:
        if place not in sys.path:
            sys.path.append(place)  # last, so that it shadows no installed package
    if name.isidentifier():
        for place in places:
            file = Path(place, f"{name}.py")
            if file.is_file():
                return _from_file(file.resolve())
    return importlib.import_module(name)


@cache
def _from_file(path: Path) -> ModuleType:
    """Import a file under a unique name, so that `random.py` does not replace Python's `random`."""
    name = f"clapp_filter_{path.stem}_{sha256(bytes(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def code_hash(spec: str) -> str:
    """A hash of the source files of `module:function`.

    If the function is defined in another file, or wrapped by a decorator, that file is hashed too.

    Raises:
        ConfigError: see `load_function`.
    """
    function = inspect.unwrap(load_function(spec))
    module = _module(spec.partition(":")[0])
    files = {getattr(module, "__file__", None), _source(function)}
    digests = sorted(_digest(file) for file in files if file is not None)
    return sha256("".join(digests).encode()).hexdigest()[:16]


@cache  # cached: the code that was loaded counts, not later edits
def _digest(file: str) -> str:
    return sha256(Path(file).read_bytes()).hexdigest()


def _source(function: Any) -> str | None:
    try:
        return inspect.getsourcefile(function)
    except TypeError:  # it is built in, or an object with __call__
        return None


def checked(name: str, function: Callable[[Picture], Any]) -> Callable[[Picture], Target]:
    """Wrap `function` so that its results are checked; wrong ones would be learned silently."""

    def call(image: Picture) -> Target:
        try:
            result = function(image)
        except ClappError:
            raise
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"filter {name!r} failed: {reason}") from error
        if not isinstance(result, np.ndarray):
            raise UserError(f"filter {name!r} returned {type(result).__name__}, not an array")
        return _checked_target(name, result, image.shape)

    return call


def _checked_target(name: str, result: NDArray[Any], shape: tuple[int, ...]) -> Target:
    """A result as uint8 or float32; raises UserError if type, shape or range do not fit `shape`."""
    height, width = shape[:2]
    floating = result.dtype in (np.float32, np.float64)
    if result.dtype != np.uint8 and not floating:
        raise UserError(
            f"filter {name!r} returned {result.dtype} {result.shape}; uint8, or float32 or float64 "
            "in [0, 1], is expected"
        )
    if result.shape not in ((height, width), (height, width, 3)):
        raise UserError(
            f"filter {name!r} returned {result.dtype} {result.shape} for a picture of {shape}; "
            f"({height}, {width}) or ({height}, {width}, 3) is expected"
        )
    if not floating:
        return result
    lowest, highest = float(result.min()), float(result.max())  # NaN where one is
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        count = int((~np.isfinite(result)).sum())
        raise UserError(
            f"filter {name!r} returned {count} values that are not finite (NaN or infinite) for a "
            f"picture of {shape}"
        )
    if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
        raise UserError(
            f"filter {name!r} returned values from {lowest:g} to {highest:g}; floats in [0, 1], or "
            "uint8, are expected"
        )
    return result.astype(np.float32, copy=False)


def try_filter(
    function: Callable[[Picture], Target], name: str, *sides: int, channels: int | None = None
) -> None:
    """Test a filter on noise, black, white and a ramp, before a study or training starts.

    Args:
        function: takes uint8 (H, W, 3).
        sides: heights of the pictures, in pixels; their widths are the same.
        channels: the channels that its targets must have; None: any.

    Raises:
        UserError: the filter fails, returns something that is no target, changes its argument,
            returns different results for one picture, or different types for different pictures.
    """
    kind = None
    for picture in (one for side in sides for one in _trials(side)):
        given = picture.copy()
        first = np.array(function(given))
        if not np.array_equal(given, picture):
            raise UserError(f"filter {name!r} changes the picture it is given; let it copy first")
        if not np.array_equal(first, function(picture.copy())):
            raise UserError(
                f"filter {name!r} returns two results for one picture; a network can learn only one"
            )
        found = (first.dtype, first.shape[2:])
        if kind is not None and found != kind:
            raise UserError(
                f"filter {name!r} returns {_kind(*kind)} for one picture and {_kind(*found)} for "
                "another"
            )
        kind = found
        if channels is not None and channels != (first.shape[2:] or (1,))[0]:
            raise UserError(
                f"filter {name!r} returns {_kind(*found)}; model.output_channels is {channels}"
            )


def _trials(side: int) -> Iterator[Picture]:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    yield noise
    yield np.zeros_like(noise)
    yield np.full_like(noise, 255)
    yield np.repeat(np.minimum(ramp[:, None], ramp)[..., None], 3, axis=2)


def _kind(dtype: Any, more: tuple[int, ...]) -> str:
    count = (more or (1,))[0]
    return f"{dtype} of {count} channel{'s' * (count != 1)}"
