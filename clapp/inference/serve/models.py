"""The models of a server: their names, their filters, and how each is applied to a picture."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import numpy as np

from clapp.errors import ClappError, UserError, one_line
from clapp.filters.base import as_unit
from clapp.filters.learned.settings import Values, at_values
from clapp.filters.library import filter_name, resolve
from clapp.inference.adjusted import at
from clapp.inference.parts import Apply, Gather, See
from clapp.inference.picture import filter_picture
from clapp.inference.runner import Batch, Runner, opened
from clapp.inference.serve.desk import Deadline
from clapp.inference.serve.pictures import Picture
from clapp.inference.serve.refused import RefusedError
from clapp.inference.tiles import bytes_at_once
from clapp.models.published import plain_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WARM_UP = 64  # pixels
_NO_VALUES: Values = {}
OPTION = "set="
"""What stands before NAME=VALUE in an address, for errors."""


class Served:
    """One model of a server.

    Attributes:
        name: in addresses.
        channels: of its output, 1 or 3.
        settings: what a request has to give a value of.
        filter_name: of the classical filter it learned; None: it is not known or cannot be run.
    """

    def __init__(self, name: str, path: str, memory: int) -> None:
        self.name = name
        self._memory = memory
        self._runner = runner = opened(path)
        self.channels, self.settings = runner.channels, runner.settings
        self._lowest = {setting.name: setting.low for setting in runner.settings}
        self._filter: Callable[[Picture], Picture] | None = None  # at the lowest values
        self.filter_name: str | None = None
        if runner.filter is not None:
            with suppress(ClappError):  # a function that is not on this machine
                self._filter = resolve(at_values(runner.filter, runner.settings, self._lowest))
                self.filter_name = filter_name(runner.filter)

    def warm_up(self) -> str | None:
        """Apply it once, which is slower than later on; what is wrong with that, if anything."""
        black, forever = np.zeros((_WARM_UP, _WARM_UP, 3), np.uint8), Deadline(float("inf"))
        try:
            self.apply(black, forever, self._lowest)
        except RefusedError as refused:
            return str(refused)
        return None

    def apply(self, picture: Picture, deadline: Deadline, values: Values = _NO_VALUES) -> Picture:
        """The model's output for uint8 (H, W, 3), as uint8 (H, W) or (H, W, 3).

        Args:
            values: of its settings, by name.

        Raises:
            RefusedError: too large for a model that needs whole pictures, too slow, a size that
                the model's file does not take, or a value that is missing or not allowed.
        """
        runner = self._at(values)
        needed = bytes_at_once(self._runner, *picture.shape[:2])
        if self._runner.parts is None and needed > self._memory:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{self.name} needs the whole picture at once, for which {needed / 1e6:.0f} MB "
                f"are not allowed here (--memory {self._memory / 1e6:.0f}MB)",
            )
        try:
            return filter_picture(_Timed(runner, deadline), picture, self._memory)
        except UserError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, one_line(error)) from error

    def classical(
        self, picture: Picture, deadline: Deadline, values: Values = _NO_VALUES
    ) -> Picture:
        """What the classical filter makes of uint8 (H, W, 3) at values, as `apply` returns it.

        Raises:
            RefusedError: there is none, or it fails, or a value is missing or not allowed.
        """
        deadline.check()
        spec = self._at(values).filter
        if self._filter is None or spec is None:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"{self.name}: its classical filter is not known here"
            )
        try:
            found = as_unit((resolve(spec) if values else self._filter)(picture))
        except Exception as error:  # of OpenCV, or of somebody's own function
            message = f"the filter {self.filter_name} fails: {one_line(error)}"
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, message) from error
        levels: Picture = np.rint(np.nan_to_num(found).clip(0, 1) * 255).astype(np.uint8)
        return levels

    def _at(self, values: Values) -> Runner:
        try:
            return at(self._runner, values, self.name, OPTION)
        except UserError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, one_line(error)) from error


class _Timed:
    """A runner that looks at a deadline before each tile."""

    def __init__(self, runner: Runner, deadline: Deadline) -> None:
        self._runner, self._deadline = runner, deadline
        self.filter, self.min_size = runner.filter, runner.min_size
        self.channels, self.parts, self.gathers = runner.channels, runner.parts, runner.gathers
        self.settings = runner.settings

    def run(self, images: Batch) -> Batch:
        self._deadline.check()
        return self._runner.run(images)

    @contextmanager
    def by_parts(self, gather: Gather) -> Iterator[Apply]:
        def checked(see: See) -> None:
            def seen(images: Batch, where: tuple[slice, slice]) -> None:
                self._deadline.check()
                see(images, where)

            gather(seen)

        with self._runner.by_parts(checked) as apply:

            def timed(images: Batch, where: tuple[slice, slice]) -> Batch:
                self._deadline.check()
                return apply(images, where)

            yield timed


def open_models(given: Iterable[str], memory: int) -> dict[str, Served]:
    """Models by name.

    Args:
        given: `PATH` or `NAME=PATH`; without a name, the folder's or file's. `sobel3:23` is a
            published model, named `sobel3-23`.
        memory: bytes for a picture; see `clapp.inference.tiles`.

    Raises:
        UserError: no such model, a name that cannot be in an address, or one name twice.
    """
    found: dict[str, Served] = {}
    for text in given:
        name, path = _named(text)
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{text}: {name!r} cannot be a name here; letters, digits, '.', '_' and '-' are "
                "allowed: NAME=PATH gives another one"
            )
        if name in found:
            raise UserError(f"{text}: there is a model {name!r} already; NAME=PATH names it")
        found[name] = Served(name, path, memory)
    return found


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if equals and "/" not in name and not Path(text).exists():
        return name, path
    resolved = Path(text).absolute()
    if resolved.suffix.lower() == ".onnx":
        return resolved.stem, text
    return plain_name(text) or resolved.name, text
