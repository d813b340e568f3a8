"""The tricks of a training and its network: what takes each away, or adds it, at matched size.

A trick is a function of a configuration that says whether it is in use, and which keys change that.
Keys of the network change its size; `matched` then chooses the width that has nearest to as many
parameters as before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from clapp.config import Config, FilterNetConfig, Layer, compose, flatten, identity, nest
from clapp.errors import ConfigError
from clapp.models.costs import cost
from clapp.system.registry import Registry
from clapp.training.optimisers.registry import LM_MOST_PARAMETERS, chosen
from clapp.training.trainer import check

WIDEST = 2
"""By how many times a network may become wider in search of its old size."""


class Toggle(NamedTuple):
    """What turns a trick on or off.

    Attributes:
        on: whether the configuration uses it.
        changes: dotted keys with the values that change that.
        inherits: whether the training starts from the weights of its ancestor; None: as before.
    """

    on: bool
    changes: Mapping[str, Any]
    inherits: bool | None = None


@dataclass(frozen=True)
class Trick:
    """A trick: its name, what it is, and how to toggle it; a text says why that is impossible."""

    name: str
    meaning: str
    toggle: Callable[[Config, bool], Toggle | str]


@dataclass(frozen=True)
class Variant:
    """A configuration with one trick toggled.

    Attributes:
        on: whether the configuration as it was uses the trick.
        changes: every key that differs, the width among them.
        inherits: whether it starts from the ancestor's weights.
    """

    trick: Trick
    on: bool
    changes: Mapping[str, Any]
    config: Config
    params: int
    inherits: bool


TRICKS: Registry[Trick] = Registry("trick")
_NOT_HERE = "only FilterNet has it"


def _trick(
    name: str, meaning: str
) -> Callable[[Callable[[Config, bool], Toggle | str]], Callable[[Config, bool], Toggle | str]]:
    def register(
        toggle: Callable[[Config, bool], Toggle | str],
    ) -> Callable[[Config, bool], Toggle | str]:
        TRICKS.add(name, Trick(name, meaning, toggle))
        return toggle

    return register


def _some(value: Any, wanted: Any) -> bool:
    """Whether a block has a value that is wanted."""
    return wanted in value if isinstance(value, list) else value == wanted


def _switch(key: str, used: Any, otherwise: Any) -> Callable[[Config, bool], Toggle | str]:
    """Toggle a key of FilterNet between the value that is the trick and another one."""

    def toggle(config: Config, _: bool) -> Toggle | str:
        if not isinstance(config.model, FilterNetConfig):
            return _NOT_HERE
        on = _some(getattr(config.model, key), used)
        return Toggle(on, {f"model.{key}": otherwise if on else used})

    return toggle


_trick("rezero", "each block is scaled by a learned factor and added to its input")(
    _switch("rezero", True, False)
)
_trick("reskip", "each block's input is scaled by a learned factor and added")(
    _switch("reskip", True, False)
)
_trick("norm", "group normalisation in each block")(_switch("norm", "group", "none"))
_trick("output-norm", "the output is divided by its maximum")(_switch("output_norm", "max", "none"))
_trick("zeros-after", "zeros around each convolution's result instead of a mirrored input")(
    _switch("padding", "zero_after", "reflect")
)


@_trick("norm-first", "normalisation before each convolution instead of after it")
def _norm_order(config: Config, _: bool) -> Toggle | str:
    if not isinstance(config.model, FilterNetConfig):
        return _NOT_HERE
    if not _some(config.model.norm, "group"):
        return "there is no normalisation"
    on = _some(config.model.flip_conv_norm, True)
    return Toggle(on, {"model.flip_conv_norm": not on})


@_trick("activation", "its activations instead of relu; of a network with relu, gelu instead")
def _activation(config: Config, _: bool) -> Toggle | str:
    if not isinstance(config.model, FilterNetConfig):
        return _NOT_HERE
    value = config.model.activation
    used = value if isinstance(value, list) else [value]
    on = any(name != "relu" for name in used)
    return Toggle(on, {"model.activation": "relu" if on else "gelu"})


@_trick("loss", "its training loss instead of L2; of a training with L2, `all` instead")
def _loss(config: Config, _: bool) -> Toggle | str:
    on = config.train.loss_type != "l2"
    return Toggle(on, {"train.loss_type": "l2" if on else "all"})


@_trick("progressive", "half of the iterations at half the resolution, with twice the batch")
def _progressive(config: Config, _: bool) -> Toggle | str:
    stages, data, train = config.num_resolutions, config.train_data, config.train
    if stages > 1:
        factor = 2 ** (stages - 1)
        return Toggle(
            True,
            {
                "num_resolutions": 1,
                "train_data.crop_size": data.crop_size * factor,
                "train_data.resize_base": data.resize_base * factor,
                "train.batch_size": train.batch_size // factor,
                "train.max_iterations": train.max_iterations * stages,
                "train.min_iterations": train.min_iterations * stages,
            },
        )
    if data.crop_size % 2 or data.resize_base % 2:
        return "crop_size or resize_base is odd"
    return Toggle(
        False,
        {
            "num_resolutions": 2,
            "train_data.crop_size": data.crop_size // 2,
            "train_data.resize_base": data.resize_base // 2,
            "train.batch_size": train.batch_size * 2,
            "train.max_iterations": max(1, train.max_iterations // 2),
            "train.min_iterations": train.min_iterations // 2,
        },
    )


@_trick("schedule", "its learning rate falls; of a constant one, a cosine instead")
def _schedule(config: Config, _: bool) -> Toggle | str:
    if chosen(config) == "lm":
        return "Levenberg-Marquardt has no learning rate"
    on = config.train.schedule != "constant"
    return Toggle(on, {"train.schedule": "constant" if on else "cosine"})


@_trick("lm", "Levenberg-Marquardt instead of Adam, for as many iterations as it counts as")
def _optimiser(config: Config, _: bool) -> Toggle | str:
    on = chosen(config) == "lm"
    if not on and cost(config.model).params > LM_MOST_PARAMETERS:
        return f"more than {LM_MOST_PARAMETERS} parameters are too many for it"
    # `starts` belongs to it.
    return Toggle(on, {"train.optimizer": "adam", "train.starts": 1} if on else _LM)


_LM = {"train.optimizer": "lm"}


@_trick("inheritance", "first weights from its parent in the study")
def _inheritance(_: Config, inherits: bool) -> Toggle | str:
    if not inherits:
        return "it has no parent"
    return Toggle(True, {}, inherits=False)


def variant(trick: Trick, config: Config, inherits: bool) -> Variant | str:
    """The configuration with a trick toggled at matched size, or why there is none.

    Args:
        inherits: whether its training starts from the weights of an ancestor.
    """
    toggle = trick.toggle(config, inherits)
    if isinstance(toggle, str):
        return toggle
    try:
        changes = matched(config, toggle.changes)
        changed = changed_by(config, changes)
        check(changed)
    except ConfigError as error:
        return str(error)
    goes_on = inherits if toggle.inherits is None else toggle.inherits
    if identity(changed) == identity(config) and goes_on == inherits:
        return "it changes nothing here"
    params = cost(changed.model).params
    return Variant(trick, toggle.on, changes, changed, params, goes_on)


def changed_by(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with dotted keys changed.

    Raises:
        ConfigError: it is not possible.
    """
    values = flatten(config.model_dump()) | dict(changes)
    return compose([Layer("clapp ablate", nest(values))])


def matched(config: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of the network, and the width with which it has nearest to as many parameters.

    Of widths that are equally near, the one nearest to what it was.

    Raises:
        ConfigError: the changes are not possible with any width.
    """
    if not any(key.startswith("model.") for key in changes):
        return dict(changes)
    model = config.model
    if not isinstance(model, FilterNetConfig):
        return dict(changes)
    wanted = cost(model).params
    found: list[tuple[int, float, dict[str, Any]]] = []
    error: ConfigError | None = None
    for scale, capacity in _widths(model.capacity):
        wider = {**changes, "model.capacity": capacity} if capacity != model.capacity else changes
        try:
            params = cost(changed_by(config, wider).model).params
        except ConfigError as impossible:
            error = error or impossible
            continue
        found.append((abs(params - wanted), abs(scale - 1), dict(wider)))
    if not found:
        assert error is not None  # there is always a width
        raise error
    return min(found, key=lambda one: one[:2])[2]


def _widths(capacity: int | Sequence[int]) -> list[tuple[float, int | list[int]]]:
    """Widths to try, each with its share of what it was."""
    widest = capacity if isinstance(capacity, int) else max(capacity)
    steps = range(1, WIDEST * widest + 1)
    if isinstance(capacity, int):
        return [(step / widest, step) for step in steps]
    return [
        (step / widest, [max(1, round(width * step / widest)) for width in capacity])
        for step in steps
    ]
