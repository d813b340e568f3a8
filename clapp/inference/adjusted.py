"""A model with settings, applied at certain values of them as if it had none."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from clapp.config import FilterSpec
from clapp.errors import UserError
from clapp.filters.learned.settings import PICTURE, Setting, Values, at_values, chosen
from clapp.inference.parts import Apply, Gather, Parts, See

if TYPE_CHECKING:
    from clapp.inference.runner import Runner

Batch = NDArray[np.float32]
OPTION = "--set "
"""What stands before NAME=VALUE on the command line, for errors."""


def parse_values(texts: Iterable[str], option: str = OPTION) -> dict[str, float]:
    """The values of texts such as `sigma=1.2`, which `option` begins in errors.

    Raises:
        UserError: a text is something else, or names a setting twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        name = name.strip()
        try:
            number = float(value)
        except ValueError:
            separator = ""
            number = 0.0
        if not separator or not name:
            raise UserError(f"{option}{text}: NAME=NUMBER is expected, such as sigma=1.2")
        if name in found:
            raise UserError(f"{option}{text}: {name} is given twice")
        found[name] = number
    return found


def feed(batch: Batch, settings: Sequence[Setting], *, uint8: bool) -> dict[str, NDArray[Any]]:
    """Pictures (N, 3 + n, H, W) as the inputs of an ONNX file: `image` and each setting, (N,)."""
    image: NDArray[Any] = np.ascontiguousarray(batch[:, :PICTURE]) if settings else batch
    if uint8:
        image = np.rint(image * 255).astype(np.uint8)
    planes = batch[:, PICTURE:, 0, 0]
    values = {
        s.name: (s.low + planes[:, i] * (s.high - s.low)).astype(np.float32)
        for i, s in enumerate(settings)
    }
    return {"image": image, **values}


class Adjusted:
    """A runner (see `clapp.inference.runner`) at certain values of its settings.

    Attributes:
        values: of each setting.
    """

    def __init__(self, runner: "Runner", values: Mapping[str, float]) -> None:
        self._runner, self.values = runner, dict(values)
        self.settings: tuple[Setting, ...] = ()
        self.filter: FilterSpec | None = runner.filter
        if runner.filter is not None:
            self.filter = cast(FilterSpec, at_values(runner.filter, runner.settings, values))
        self.min_size, self.channels = runner.min_size, runner.channels
        self.parts: Parts | None = runner.parts
        self.gathers = runner.gathers
        self._fractions = np.array(
            [s.fraction(values[s.name]) for s in runner.settings], np.float32
        )

    def run(self, images: Batch) -> Batch:
        """See `Runner`."""
        found: Batch = self._runner.run(self._joined(images))
        return found

    @contextmanager
    def by_parts(self, gather: Gather) -> Iterator[Apply]:
        """See `Runner`."""

        def joined(see: See) -> None:
            gather(lambda images, where: see(self._joined(images), where))

        with self._runner.by_parts(joined) as apply:
            yield lambda images, where: apply(self._joined(images), where)

    def _joined(self, images: Batch) -> Batch:
        planes = self._fractions[None, :, None, None]
        shape = (len(images), len(self._fractions), *images.shape[2:])
        return np.concatenate([images, np.broadcast_to(planes, shape)], axis=1)


def at(runner: "Runner", values: Values, source: str, option: str = OPTION) -> "Runner":
    """A runner at the values of its settings; itself where it has none.

    Args:
        source: the model, and `option` what gives a value; both are named in errors.

    Raises:
        UserError: a value is missing, unknown or out of its range.
    """
    found = chosen(runner.settings, values, source, option + "{}=")
    return Adjusted(runner, found) if runner.settings else runner
