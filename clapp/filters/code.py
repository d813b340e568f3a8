"""Filters given as `module:function`: where their code is found, what it is, whether it works."""

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
FOLDERS = "CLAPP_FILTERS"
"""Environment variable with the folders, parted by `os.pathsep`, in which modules of filters are
looked for before the working directory. Processes that a study starts inherit it."""


def look_in(folder: Path) -> None:
    """Look for the modules of filters in `folder` first, in this process and those it starts."""
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


def load_function(spec: str) -> Callable[[Picture], Any]:
    """The function that `module:function` names.

    A module that is a file of its own is looked for in the folders of `FOLDERS`, then in the
    working directory, then among what is installed.

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
    """Import a module that registers something of its own; it is looked for like a filter's.

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
            sys.path.append(place)  # last, so that nothing installed is shadowed
    if name.isidentifier():
        for place in places:
            file = Path(place, f"{name}.py")
            if file.is_file():
                return _from_file(file.resolve())
    return importlib.import_module(name)


@cache
def _from_file(path: Path) -> ModuleType:
    """The module in a file, under a name of its own: `random.py` must not become `random`."""
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
    """A hash of the source that `module:function` is written in, equal for equal files.

    A function that another file defines, or a decorator wraps, counts with that file too.

    Raises:
        ConfigError: see `load_function`.
    """
    function = inspect.unwrap(load_function(spec))
    module = _module(spec.partition(":")[0])
    files = {getattr(module, "__file__", None), _source(function)}
    digests = sorted(_digest(file) for file in files if file is not None)
    return sha256("".join(digests).encode()).hexdigest()[:16]


@cache  # what was loaded counts, not what was written since
def _digest(file: str) -> str:
    return sha256(Path(file).read_bytes()).hexdigest()


def _source(function: Any) -> str | None:
    try:
        return inspect.getsourcefile(function)
    except TypeError:  # it is built in, or an object with __call__
        return None


def checked(name: str, function: Callable[[Picture], Any]) -> Callable[[Picture], Picture]:
    """`function` with its result checked; a wrong one would be learned without complaint."""

    def call(image: Picture) -> Picture:
        try:
            result = function(image)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"filter {name!r} failed: {reason}") from error
        height, width = image.shape[:2]
        if not isinstance(result, np.ndarray):
            raise UserError(f"filter {name!r} returned {type(result).__name__}, not an array")
        if result.dtype != np.uint8 or result.shape != (height, width):
            raise UserError(
                f"filter {name!r} returned {result.dtype} {result.shape} "
                f"for a picture of {image.shape}; uint8 ({height}, {width}) is expected"
            )
        return result

    return call


def try_filter(function: Callable[[Picture], Picture], name: str, *sides: int) -> None:
    """Call a filter on a picture of each side, before anything is started that needs it.

    Args:
        function: takes uint8 (H, W, 3).
        sides: heights of the pictures, in pixels; their widths are the same.

    Raises:
        UserError: it fails, returns something else than a grey picture of the same size, changes
            the picture it is given, or returns two results for one picture.
    """
    for side in sides:
        noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        given = noise.copy()
        first = function(given)
        if not np.array_equal(given, noise):
            raise UserError(f"filter {name!r} changes the picture it is given; let it copy first")
        if not np.array_equal(first, function(noise.copy())):
            raise UserError(
                f"filter {name!r} returns two results for one picture; a network can learn only one"
            )
