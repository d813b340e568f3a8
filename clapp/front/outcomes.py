"""The Pareto front of a study: which trained models no other model beats in every objective."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clapp.errors import UserError
from clapp.front.feasible import is_feasible
from clapp.front.objectives import amount, objective
from clapp.front.record import record_of
from clapp.front.repeats import Repeats, expected_loss, repeats_of
from clapp.training.losses import Spread

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

REFERENCE = "reference"
ALWAYS = ("loss", "params", "flops")


@dataclass(frozen=True)
class Candidate:
    """A trial that trained to the end within the study's limits.

    Attributes:
        trial: its number in the study.
        values: objective name -> value, all of them minimised.
        params: parameters of the network.
        flops: floating-point operations at 224x224, 2 per multiply-add.
        loss: mean L2 over the validation set.
        config: dotted key -> value, where the trial's configuration differs from the defaults.
        baseline: name of the baseline of the study that the trial is, if any.
        spread: what the loss is a mean over; None: an older version did not store it.
        repeats: its trainings from other seeds, if there are any; see `expected_loss`.
    """

    trial: int
    values: dict[str, float]
    params: int
    flops: int
    loss: float
    config: dict[str, Any]
    baseline: str | None = None
    spread: Spread | None = None
    repeats: Repeats | None = None

    def shown(self) -> dict[str, float]:
        """Objective -> value, for tables: loss, parameters, FLOPs, and the study's others."""
        always = {name: float(getattr(self, name)) for name in ALWAYS}
        return always | {name: value for name, value in self.values.items() if name not in always}

    def cells(self) -> dict[str, str]:
        """The same, written."""
        return {name: objective(name).cell(value) for name, value in self.shown().items()}

    def figures(self) -> str:
        """The same in a sentence: "loss 0.004 (24.0 dB), 300 parameters, 8M FLOPs"."""
        return ", ".join(amount(name, value) for name, value in self.shown().items())

    def document(self) -> dict[str, Any]:
        """The candidate as `clapp front --json` prints it."""
        whole = {"params": self.params, "flops": self.flops}
        spread = self.spread.document() if self.spread is not None else {}
        repeats = {"repeats": self.repeats.document()} if self.repeats is not None else {}
        known = {"trial": self.trial, **self.shown(), **whole, **spread, **repeats}
        return known | {"config": self.config}


def settled(one: Candidate) -> Candidate:
    """The candidate with the loss that counts when a model is picked, see `expected_loss`."""
    loss = expected_loss(one)
    if loss == one.loss:
        return one
    values = one.values | ({"loss": loss} if "loss" in one.values else {})
    return replace(one, loss=loss, values=values)


def objectives(study: "Study") -> list[str]:
    """The study's objective names.

    Raises:
        UserError: the study has none, so it was not made by CLAPP.
    """
    names = study.metric_names
    if not names:
        raise UserError(
            f"study {study.study_name}: its objectives have no names; it was not made by CLAPP"
        )
    return list(names)


def candidates(study: "Study") -> list[Candidate]:
    """Every complete and feasible trial of `study`, in the order of the trials.

    Raises:
        UserError: see `objectives`.
    """
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found, repeats = feasible(complete, objectives(study), limits_of(study)), repeats_of(study)
    return [replace(one, repeats=repeats.get(one.trial)) for one in found]


def limits_of(study: "Study") -> dict[str, float]:
    """The present limits of a study, by objective."""
    limits = study.user_attrs.get("definition", {}).get("limits") or {}
    return {name: float(limit) for name, limit in limits.items() if limit is not None}


def feasible(
    complete: "Iterable[FrozenTrial]", names: list[str], limits: Mapping[str, float]
) -> list[Candidate]:
    """The trials within the present limits of a study with the objectives `names`.

    A trial whose size or loss nobody stored is left out.
    """
    within = (trial for trial in complete if is_feasible(trial, names, limits))
    found = (_candidate(trial, names) for trial in within)
    return [candidate for candidate in found if candidate is not None]


def _candidate(trial: "FrozenTrial", names: list[str]) -> Candidate | None:
    record, values = record_of(trial), dict(zip(names, trial.values, strict=True))
    known = {name: values.get(name, record.value(name)) for name in ALWAYS}
    if any(value is None for value in known.values()):
        return None
    return Candidate(
        trial=trial.number,
        values=values,
        params=int(known["params"] or 0),
        flops=int(known["flops"] or 0),
        loss=float(known["loss"] or 0.0),
        config=dict(record.config or {}),
        baseline=record.baseline,
        spread=record.spread,
    )


def front(found: Iterable[Candidate], names: Sequence[str]) -> list[Candidate]:
    """The non-dominated candidates in the objectives `names`, sorted by params, then loss.

    Of candidates with equal objectives the earliest trial stays.
    """
    ordered = sorted(found, key=lambda c: c.trial)
    if not ordered:
        return []
    from moocore import is_nondominated  # type: ignore[import-untyped]

    # keep_weakly=False (its default) keeps the first of equal points: the earliest trial.
    keep = is_nondominated([[c.values[name] for name in names] for c in ordered])
    return sorted(
        (c for c, kept in zip(ordered, keep, strict=True) if kept),
        key=lambda c: (c.params, c.loss, c.trial),
    )


def front_of(study: "Study") -> list[Candidate]:
    """The front of `study`; see `front` and `candidates`."""
    return front(candidates(study), objectives(study))


def reference_of(study: "Study") -> Candidate | None:
    """The hand-tuned reference trained in the same study, once it is finished."""
    return reference_among(candidates(study))


def reference_among(found: Iterable[Candidate]) -> Candidate | None:
    """See `reference_of`."""
    return next((c for c in found if c.baseline == REFERENCE), None)


def counts(study: "Study") -> dict[str, int]:
    """Trials by what became of them: complete, pruned, skipped, failed, running.

    Skipped trials (duplicates, over a limit) are those pruned before any training. Interrupted ones
    are not counted: their configurations are tried again.
    """
    return counted(study.get_trials(deepcopy=False))


def counted(trials: "Iterable[FrozenTrial]") -> dict[str, int]:
    """See `counts`."""
    from optuna.trial import TrialState

    from clapp.front.trials import is_lost

    number = dict.fromkeys(("complete", "pruned", "skipped", "failed", "running"), 0)
    words = {
        TrialState.COMPLETE: "complete",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    for trial in trials:
        if trial.state is TrialState.PRUNED:
            number["pruned" if record_of(trial).skipped is None else "skipped"] += 1
        elif trial.state in words and not is_lost(trial):
            number[words[trial.state]] += 1
    return number


def beats(one: Candidate, other: Candidate) -> bool:
    """Whether `one` is no worse than `other` in loss, params and FLOPs, and better in one.

    The losses are the ones to expect, see `expected_loss`.
    """
    ours, theirs = ((expected_loss(c), c.params, c.flops) for c in (one, other))
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))
