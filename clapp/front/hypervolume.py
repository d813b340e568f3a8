"""The hypervolume of a study: the quality of its front as one number, which never decreases.

It is the volume between the front and a reference point, the worst point (Zitzler and Thiele,
1998), on log10 of the objectives. A loss of 0.001 is then as far from 0.01 as 0.01 is from 0.1, and
the volume one is a factor of ten in every objective.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clapp.front.objectives import ZERO, worst_values
from clapp.front.outcomes import candidates, limits_of, objectives
from clapp.front.record import ended, started
from clapp.front.trials import is_trained

if TYPE_CHECKING:
    from optuna import Study

_EVER = datetime.min.replace(tzinfo=UTC)

Values = NDArray[np.float64]


class Moment(NamedTuple):
    """The state of a study just after one of its trials was trained.

    Attributes:
        seconds: since its first trial started; pauses between runs count.
        trials: number of trials trained so far, to the end or stopped early.
        hypervolume: hypervolume of the trials trained to the end within the limits.
    """

    seconds: float
    trials: int
    hypervolume: float


def log_hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """The hypervolume of points on log10 scales; all objectives are minimised.

    Args:
        values: (n, m), one row a point, in the objectives' own units; n may be 0.
        reference: (m,), the worst point in the same units, all above zero. A point that is not
            better in every objective adds nothing.
    """
    from moocore import hypervolume  # type: ignore[import-untyped]

    worst = np.log10(np.asarray(reference, float))
    points = np.asarray(values, float).reshape(-1, len(worst))
    if not len(points):
        return 0.0
    return float(hypervolume(np.log10(np.maximum(points, ZERO)), ref=worst))


def worst_point(study: "Study") -> dict[str, float]:
    """The reference point of a study, by objective; see `clapp.front.objectives.worst_values`.

    That of the loss is the loss of the best constant prediction, which a worker records when it
    starts.
    """
    values = [candidate.values for candidate in candidates(study)]
    return worst_values(objectives(study), study.user_attrs, limits_of(study), values)


def history(study: "Study", worst: dict[str, float] | None = None) -> list[Moment]:
    """The hypervolume after each trained trial, in the order in which they finished.

    Args:
        worst: the reference point, by objective; None: `worst_point`.

    Raises:
        UserError: see `clapp.front.outcomes.objectives`.
    """
    worst = worst_point(study) if worst is None else worst
    reference = np.array(list(worst.values()))  # (m,)
    within = {c.trial: [c.values[name] for name in worst] for c in candidates(study)}
    done = [t for t in study.get_trials(deepcopy=False) if is_trained(t)]
    done.sort(key=lambda t: (ended(t) or _EVER, t.number))
    begun = min(filter(None, map(started, done)), default=None)
    front: Values = np.empty((0, len(reference)))
    volume, moments = 0.0, []
    for position, trial in enumerate(done, start=1):
        point = within.get(trial.number)
        if point is not None and not np.any(np.all(front <= point, axis=1)):
            front = np.vstack([front[np.any(front < point, axis=1)], point])
            volume = log_hypervolume(front, reference)
        end = ended(trial)
        seconds = (end - begun).total_seconds() if end and begun else 0.0
        moments.append(Moment(seconds, position, volume))
    return moments
