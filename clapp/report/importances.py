"""How much each parameter of the search decided, objective by objective."""

import warnings
from typing import TYPE_CHECKING, NamedTuple

from clapp.front import candidates, objectives

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

LEAST_TRIALS = 15
_BEST = 5  # PED-ANOVA's authors advise at least five trials among the best


class Importances(NamedTuple):
    """Shares of each parameter, by objective; the most important for the first objective first.

    Attributes:
        shares: objective -> parameter -> share; the shares of an objective add up to 1.
        best: the share of trials that counted as the best.
        note: why there are none; empty when there are.
    """

    shares: dict[str, dict[str, float]]
    best: float
    note: str

    def ranked(self) -> list[str]:
        """The parameters, the most important for the first objective first."""
        first = next(iter(self.shares.values()), {})
        return sorted(first, key=lambda name: -first[name])


def importances(study: "Study") -> Importances:
    """PED-ANOVA (Watanabe et al., 2023) of each objective: what the best trials share.

    Too few trials, or too uniform ones, give none and a note that says so.
    """
    trained = len(candidates(study))
    if trained < LEAST_TRIALS:
        note = f"Importances need at least {LEAST_TRIALS} finished trials; there are {trained}."
        return Importances({}, 0.0, note)
    best = max(0.1, _BEST / trained)
    try:
        shares = {
            name: _shares(study, position, best) for position, name in enumerate(objectives(study))
        }
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        return Importances({}, best, f"Importances cannot be computed: {error}.")
    return Importances(shares, best, "")


def _shares(study: "Study", position: int, best: float) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    def target(trial: "FrozenTrial") -> float:
        return float(trial.values[position])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low values are wanted, which they are
        evaluator = PedAnovaImportanceEvaluator(target_quantile=best)
        return get_param_importances(study, evaluator=evaluator, target=target)
