"""The table of objectives: everything a study may minimise or limit, one entry each.

The study file, trials, samplers, pruners, front, report, dashboard and terminal all read this
table. Entries from outside the package work the same way:

    import clapp

    def steps(result):  # see clapp.training.trainer.TrainResult
        return next((p.step for p in result.curve if p.l2 <= 0.005), result.iterations)

    clapp.register_objective(clapp.Objective("steps", "steps to 0.005", after=steps))

All objectives are minimised.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clapp.errors import ConfigError, UserError
from clapp.system.registry import Registry
from clapp.system.suggest import hint
from clapp.training.losses import ZERO as ZERO
from clapp.training.losses import decibels as decibels
from clapp.training.losses import loss_text as loss_text
from clapp.training.losses import positive as positive
from clapp.training.losses import short as short

if TYPE_CHECKING:
    from clapp.config import Config
    from clapp.training.trainer import TrainResult

CONSTANT_LOSS = "constant_loss"
"""User attribute of a study: the loss of the best constant prediction, see `worst`."""


def whole(value: float) -> str:
    """A whole number with commas: 2,505."""
    return f"{value:,.0f}"


def scaled(value: float) -> str:
    """Three significant digits and the letter of a power of a thousand: 230M, 1.2k."""
    for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Objective:
    """One thing that a study may minimise or limit.

    At least one of `before` and `after` is given.

    Attributes:
        name: in study files, storages and JSON documents.
        label: name in tables, plots and sentences: "parameters".
        unit: unit behind a value: "ms"; "": none.
        format: writes a value without its unit.
        before: computes the value from a configuration, before a training.
        exact: whether `before` takes microseconds and gives the same value on every machine, so
            that samplers and pruners can use it.
        after: computes the value from the result of a training; used instead of `before` if both
            are given.
        worst: computes the value of a useless model from the user attributes of a study; None: use
            the study's limit or, without one, the largest value of its candidates.
        axis: title of a plot's axis; "": made of label and unit.
        meaning: a short explanation; "": the title of the axis.
        counted: whether the label follows the value, as in "300 parameters".
        beside: formats the value in another unit, for brackets behind it.
    """

    name: str
    label: str
    unit: str = ""
    format: Callable[[float], str] = short
    before: "Callable[[Config], float] | None" = None
    exact: bool = False
    after: "Callable[[TrainResult], float] | None" = None
    worst: Callable[[Mapping[str, Any]], float | None] | None = None
    axis: str = ""
    meaning: str = ""
    counted: bool = False
    beside: Callable[[float], str] | None = None

    @property
    def heading(self) -> str:
        """The heading of a column: "latency (ms)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def cell(self, value: float) -> str:
        """A value in a table, without its unit: "2,505", "0.004731 (23.3 dB)"."""
        beside = f" ({self.beside(value)})" if self.beside is not None else ""
        return f"{self.format(value)}{beside}"

    @property
    def title(self) -> str:
        """The title of a plot's axis: "FLOPs at 224x224"."""
        return self.axis or self.heading

    def amount(self, value: float) -> str:
        """A value in a sentence: "2,505 parameters", "latency 1.2 ms", "loss 0.001 (30.0 dB)"."""
        if self.counted:
            return f"{self.format(value)} {self.label}"
        unit = f" {self.unit}" if self.unit else ""
        beside = f" ({self.beside(value)})" if self.beside is not None else ""
        return f"{self.label} {self.format(value)}{unit}{beside}"


OBJECTIVES: Registry[Objective] = Registry("objective")


def register_objective(objective: Objective) -> Objective:
    """Make an objective known to study files; see `Objective`.

    Raises:
        UserError: its name is taken or not a name, or nothing says how to find its value.
    """
    if objective.before is None and objective.after is None:
        raise UserError(f"objective {objective.name!r}: give `before` or `after` to find its value")
    if objective.exact and objective.before is None:
        raise UserError(f"objective {objective.name!r}: only `before` can be exact")
    return OBJECTIVES.add(objective.name, objective)


def _recorded(attributes: Mapping[str, Any]) -> float | None:
    value = attributes.get(CONSTANT_LOSS)
    return None if value is None else float(value)


def _params(config: "Config") -> float:
    from clapp.models.costs import cost

    return float(cost(config.model).params)


def _flops(config: "Config") -> float:
    from clapp.models.costs import cost

    return float(cost(config.model).flops)


def _latency(config: "Config") -> float:
    from clapp.models.measure import latency

    return latency(config.model)


def _memory(config: "Config") -> float:
    from clapp.models.graph.footprint import footprint

    return float(footprint(config.model).memory)


def _weight_bytes(config: "Config") -> float:
    from clapp.models.graph.footprint import footprint

    return float(footprint(config.model).weight_bytes)


def _operators(config: "Config") -> float:
    from clapp.models.graph.footprint import footprint

    return float(len(footprint(config.model).operators))


def _loss_int8(result: "TrainResult") -> float:
    from clapp.training.int8.loss import int8_loss

    assert result.config is not None
    return int8_loss(result.model, result.config)


def _loss_16x8(result: "TrainResult") -> float:
    from clapp.training.int8.loss import int8_loss

    assert result.config is not None
    return int8_loss(result.model, result.config, 16)


for _entry in (
    Objective(
        "loss",
        "loss",
        after=lambda result: result.loss,
        worst=_recorded,
        axis="loss (validation L2)",
        meaning="loss (mean L2 over the validation pictures)",
        beside=decibels,
    ),
    Objective(
        "loss_int8",
        "loss in int8",
        after=_loss_int8,
        worst=_recorded,
        meaning="loss of the network in int8, its scales from training pictures",
        beside=decibels,
    ),
    Objective(
        "loss_16x8",
        "loss in 16x8",
        after=_loss_16x8,
        worst=_recorded,
        meaning="loss of the network with values of 16 bits and kernels of 8",
        beside=decibels,
    ),
    Objective("params", "parameters", format=whole, before=_params, exact=True, counted=True),
    Objective(
        "flops",
        "FLOPs",
        format=scaled,
        before=_flops,
        exact=True,
        axis="FLOPs at 224x224",
        counted=True,
    ),
    Objective("latency", "latency", "ms", before=_latency),
    Objective(
        "memory",
        "memory",
        "bytes",
        format=scaled,
        before=_memory,
        exact=True,
        meaning="most bytes of values alive at once, float32 at 224x224, step by step",
    ),
    Objective(
        "weight_bytes",
        "weights",
        "bytes",
        format=whole,
        before=_weight_bytes,
        exact=True,
        meaning="bytes of the weights as int8, biases and scales in four bytes",
    ),
    Objective(
        "operators",
        "operators",
        format=whole,
        before=_operators,
        exact=True,
        meaning="how many different operators of ONNX it uses",
        counted=True,
    ),
):
    register_objective(_entry)


NEVER = {"steps": 1e7, "seconds": 1e6}
"""The steps or seconds of a training that never reached the loss (as seconds: 116 days)."""
_CONVERGENCE = re.compile(r"(steps|seconds)_to_(\d+(?:\.\d+)?(?:e-\d+)?)", re.ASCII)


def convergence(name: str) -> Objective | None:
    """The objective with a name such as `steps_to_0.005` or `seconds_to_0.001`.

    Its value is the step, or second, of the first validation whose L2 is no higher.
    """
    match = _CONVERGENCE.fullmatch(name)
    if match is None or not float(match[2]):
        return None
    what, loss = match[1], float(match[2])
    never = NEVER[what]

    def after(result: "TrainResult") -> float:
        points = (point for point in result.curve if point.l2 <= loss)
        first = next(points, None)
        if first is None:
            return never
        return float(first.step if what == "steps" else first.seconds)

    def written(value: float) -> str:
        return "never" if value >= never else short(value)

    unit = "s" if what == "seconds" else ""
    label = f"{'steps' if what == 'steps' else 'time'} to {match[2]}"
    meaning = f"{what} of training until the validation L2 is at most {match[2]}"
    return Objective(
        name, label, unit, written, after=after, worst=lambda _: never, meaning=meaning
    )


def known_objective(name: Any) -> str:
    """The name of an objective as a study file has it: a name, or `{steps_to: 0.005}`.

    Raises:
        ValueError: there is no such objective.
    """
    if isinstance(name, Mapping) and len(name) == 1:
        ((key, value),) = name.items()
        if isinstance(value, int | float) and not isinstance(value, bool):
            name = f"{key}_{short_number(value)}"
    if isinstance(name, str) and (name in OBJECTIVES or convergence(name)):
        return name
    raise ValueError(
        f"{name!r} is not allowed; {hint(str(name), OBJECTIVES)}allowed: {', '.join(OBJECTIVES)}, "
        "steps_to: L2, seconds_to: L2"
    )


def short_number(value: float) -> str:
    """A number as text without a sign or capitals: 0.005, 2e-05."""
    return f"{value:g}"


def objective(name: str) -> Objective:
    """The entry called `name`; one that nobody registered here, such as a plug-in's, has no more
    than its name.
    """
    return OBJECTIVES.get(name) or convergence(name) or Objective(name, name)


def amount(name: str, value: float) -> str:
    """A value of the objective `name` in a sentence; see `Objective.amount`."""
    return objective(name).amount(value)


def exact_names(names: Iterable[str]) -> list[str]:
    """The objectives in `names` that are exact before a training."""
    return [name for name in names if objective(name).exact]


def exact_costs(config: "Config", names: Iterable[str] | None = None) -> dict[str, float]:
    """The objectives that are exact before a training: name -> value.

    Args:
        names: the objectives to compute; None: all.
    """
    if names is None:
        return _all_exact(config)
    entries = (objective(name) for name in names)
    return {o.name: float(o.before(config)) for o in entries if o.exact and o.before is not None}


def _all_exact(config: "Config") -> dict[str, float]:
    """All exact objectives that can be computed; some need a graph, which a family may not have."""
    found = {}
    for entry in OBJECTIVES.values():
        if entry.exact and entry.before is not None:
            with suppress(ConfigError):
                found[entry.name] = float(entry.before(config))
    return found


def measured_names(names: Iterable[str]) -> list[str]:
    """Those of the objectives that are measured before a training."""
    entries = (objective(name) for name in names)
    return [o.name for o in entries if o.before is not None and not o.exact]


def measured_costs(config: "Config", names: Iterable[str]) -> dict[str, float]:
    """The objectives in `names` that are measured before a training: name -> value."""
    entries = (objective(name) for name in measured_names(names))
    return {o.name: float(o.before(config)) for o in entries if o.before is not None}


def results(result: "TrainResult", names: Iterable[str]) -> dict[str, float]:
    """The objectives in `names` that only a training can give: name -> value.

    Raises:
        UserError: a value is not a finite number.
    """
    entries = (objective(name) for name in names)
    found = {o.name: float(o.after(result)) for o in entries if o.after is not None}
    for name, value in found.items():
        if not math.isfinite(value):
            raise UserError(f"objective {name!r}: {value} is not a finite number")
    return found


def worst_values(
    names: Sequence[str],
    attributes: Mapping[str, Any],
    limits: Mapping[str, float],
    found: Iterable[Mapping[str, float]],
) -> dict[str, float]:
    """The reference point of a hypervolume, by objective, all above zero.

    It is the objective's own `worst` if there is one, else the study's limit, else the largest
    value found. In the last case the hypervolume of a running study may change in hindsight.

    Args:
        attributes: the user attributes of the study.
        found: values of candidates, by objective.
    """
    rows = list(found)
    worst = {}
    for name in names:
        own = objective(name).worst
        value = own(attributes) if own is not None else limits.get(name)
        if value is None:
            value = max((row[name] for row in rows), default=ZERO)
        worst[name] = positive(value)
    return worst
