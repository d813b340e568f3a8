"""The data of a report: a study and the small files in its results, without pictures."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from clapp.config import defaults, flatten
from clapp.filters.learned.settings import ranged_name
from clapp.front.hypervolume import Moment, history, worst_point
from clapp.front.objectives import positive
from clapp.front.optimism import FrontTest
from clapp.front.outcomes import (
    Candidate,
    candidates,
    counts,
    front,
    objectives,
    reference_of,
    settled,
)
from clapp.front.pick.choose import Finished, pick
from clapp.front.pick.resampled import Stability, stability
from clapp.front.pick.rules import meaning
from clapp.front.record import record_of
from clapp.front.repeats import repeats_of
from clapp.front.trials import is_trained
from clapp.report.importances import Importances, importances
from clapp.report.trials import Trial, outcome, read_json, read_trial
from clapp.study.plan.definition import DEFINITION, ELAPSED
from clapp.system.intervals import Interval, log_interval

if TYPE_CHECKING:
    from optuna import Study


class Pick(NamedTuple):
    """A model worth recommending: the rule that `clapp export --pick` takes, and why.

    Attributes:
        stability: how often the rule chooses it when losses are resampled; None: not known.
    """

    rule: str
    why: str
    model: Candidate
    stability: Stability | None = None


class Repeats(NamedTuple):
    """Losses of one configuration trained several times."""

    trial: int
    losses: list[float]

    @property
    def interval(self) -> Interval:
        """The mean over seeds and its 95 % interval."""
        return log_interval([positive(loss) for loss in self.losses])


@dataclass(frozen=True)
class StudyData:
    """The data of one study for its report.

    Attributes:
        label: its name in the report; the study's name, unless two have the same.
        folder: its results folder, which may lack files or not exist.
        definition: the resolved study file.
        space: parameter -> its distribution; the latest one if it changed.
        worst: the study's own reference point of the hypervolume, by objective; it does not depend
            on other studies in the report.
        shared: the history of the hypervolume from a reference point shared by all studies of the
            report.
        elapsed: seconds in which the study was running.
        ledger: the content of `ledger.json`.
        provenance: of the latest trained trial that has one.
        tested: losses of the front on validation and test pictures; None: not asked for.
    """

    name: str
    label: str
    folder: Path
    definition: dict[str, Any]
    objectives: list[str]
    counts: dict[str, int]
    trials: list[Trial]
    candidates: list[Candidate]
    front: list[Candidate]
    reference: Candidate | None
    picks: list[Pick]
    space: dict[str, BaseDistribution]
    worst: dict[str, float]
    history: list[Moment]
    shared: list[Moment]
    importances: Importances
    repeats: list[Repeats]
    elapsed: float
    ledger: dict[str, Any]
    provenance: dict[str, Any]
    tested: FrontTest | None = None

    @property
    def trained(self) -> int:
        """The trials that were trained, to the end or stopped early."""
        return self.counts["complete"] + self.counts["pruned"]

    @property
    def config(self) -> dict[str, Any]:
        """The study's configuration, as dotted keys."""
        return {**flatten(defaults()), **flatten(self.definition.get("config", {}))}

    @property
    def filter(self) -> str:
        """The name of the classical filter, or the shape of its kernel."""
        spec = self.config["train_data.target_filter"]
        named = not isinstance(spec, Mapping) or "name" in spec
        return ranged_name(spec, self.config["parameter"]) if named else "a kernel of its own"


def gather(
    study: "Study",
    folder: Path,
    label: str | None = None,
    worst: dict[str, float] | None = None,
    tested: FrontTest | None = None,
) -> StudyData:
    """Read everything a report shows of `study`, except pictures.

    Args:
        folder: its results folder; what is missing there is left out.
        label: what to call it; None: its name.
        worst: the reference point of its `shared` history; None: its own.
        tested: see `StudyData`.

    Raises:
        UserError: the study was not made by CLAPP.
    """
    names, found = objectives(study), candidates(study)
    own = worst_point(study)
    best, reference = front(found, names), reference_of(study)
    frozen = study.get_trials(deepcopy=False)
    within, on_front = {c.trial for c in found}, {c.trial for c in best}
    definition = study.user_attrs.get(DEFINITION, {})
    common = flatten(definition.get("config", {}))
    trials = [
        read_trial(trial, outcome(trial, within, on_front), folder, common)
        for trial in frozen
        if trial.state is not TrialState.WAITING
    ]
    return StudyData(
        name=study.study_name,
        label=label or study.study_name,
        folder=folder,
        definition=definition,
        objectives=names,
        counts=counts(study),
        trials=trials,
        candidates=found,
        front=best,
        reference=reference,
        picks=_picks(Finished.of(found, names), reference),
        space={name: d for trial in frozen for name, d in trial.distributions.items()},
        worst=own,
        history=history(study, own),
        shared=history(study, own if worst is None else worst),
        importances=importances(study),
        repeats=_repeats(study, frozen),
        elapsed=float(study.user_attrs.get(ELAPSED, 0.0)) or _span(trials),
        ledger=_read_mapping(folder / "ledger.json"),
        provenance=_provenance(frozen),
        tested=tested,
    )


def _picks(found: Finished, reference: Candidate | None) -> list[Pick]:
    """The knee, the lowest loss, and the smallest model as good as the reference."""
    if not found.front:
        return []
    picks = [
        Pick(rule, meaning(rule), pick(rule, found), stability(rule, found))
        for rule in ("knee", "min-loss")
    ]
    if reference is not None:
        rule = f"loss<={settled(reference).loss!r}"
        why = "the fewest parameters that do what the reference does"
        picks.insert(0, Pick(rule, why, pick(rule, found)))
    return picks


def _repeats(study: "Study", trials: Iterable[FrozenTrial]) -> list[Repeats]:
    """Configurations with several losses: repeated by `clapp repeat`, or of equal trials."""
    repeated = repeats_of(study)
    equal: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for trial in trials:
        record = record_of(trial)
        if trial.state is TrialState.COMPLETE and None not in (record.key, record.loss):
            equal[str(record.key)].append((trial.number, float(record.loss or 0.0)))
    found = [Repeats(number, one.finite) for number, one in repeated.items()]
    found += [
        Repeats(same[0][0], [loss for _, loss in same])  # equal for all seeds
        for same in equal.values()
        if same[0][0] not in repeated
    ]
    return sorted(one for one in found if len(one.losses) > 1)


def _span(trials: Sequence[Trial]) -> float:
    """Seconds from the first start to the last end."""
    starts = [trial.start for trial in trials if trial.start]
    ends = [trial.end for trial in trials if trial.end]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0


def _provenance(trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """The provenance of the latest trained trial that has one, and what measured others."""
    found = (record_of(t).provenance for t in reversed(trials) if is_trained(t))
    latest = next((dict(value) for value in found if value), {})
    measured = sorted({on for t in trials if (on := record_of(t).measured_on)})
    return latest | ({"measured on": "; ".join(measured)} if measured else {})


def _read_mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    return value if isinstance(value, dict) else {}
