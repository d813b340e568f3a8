"""The importance of each parameter of the search for each objective.

Importances for exact costs are computed from the formula of the costs. A loss has no formula: its
importances are estimated from trials with random parameters. Trials chosen by a sampler are left
out, because it changes several parameters together.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clapp.config import Layer, compose, defaults_of, flatten, nest
from clapp.errors import ClappError
from clapp.front.objectives import exact_costs, exact_names, objective, positive
from clapp.front.outcomes import candidates, objectives
from clapp.front.record import record_of
from clapp.study.plan.definition import DEFINITION
from clapp.study.plan.space import Space, load_space
from clapp.study.sampling.draw import Draw
from clapp.study.sampling.samplers import STARTUP

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

LEAST_TRIALS = 15
DRAWS = 60
"""Number of configurations in which each parameter is drawn again to measure changes of costs."""
_BEST = 5  # PED-ANOVA's authors advise at least five trials among the best
# Of `evolution`, only trials without a parent count.
_ALWAYS_RANDOM = ("evolution", "random", "qmc", "grid")
_RANDOM_FIRST = {"front_trees": STARTUP, "tpe": STARTUP, "gp": 10, "nsga2": 50, "nsga3": 50}


class Importances(NamedTuple):
    """The share of each parameter by objective, sorted by importance for the first objective.

    Attributes:
        shares: objective -> parameter -> share; the shares of an objective add up to 1.
        best: the share of the random trials that counts as the best.
        random: number of random trials from which shares of losses and measured values are
            estimated.
        note: the objectives without shares, and the reason; "" if all have them.
    """

    shares: dict[str, dict[str, float]]
    best: float
    random: int
    note: str

    def ranked(self) -> list[str]:
        """The parameters, the most important for the first objective first."""
        first = next(iter(self.shares.values()), {})
        every = {name: 0.0 for shares in self.shares.values() for name in shares}
        return sorted(every, key=lambda name: -first.get(name, 0.0))


def importances(study: "Study") -> Importances:
    """Importances for exact costs by their formula, for the rest by PED-ANOVA.

    PED-ANOVA (Watanabe et al., 2023) compares the parameters of the best random trials with those
    of all. The note names objectives without shares.
    """
    definition, names = study.user_attrs.get(DEFINITION, {}), objectives(study)
    drawn = random_trials(study, str(definition.get("sampler", "")))
    best = max(0.1, _BEST / max(len(drawn), 1))
    costs = cost_shares(definition, exact_names(names))
    shares, without = {}, []
    for position, name in enumerate(names):
        if name in exact_names(names):
            found = costs.get(name, {})
        else:
            found = _from_trials(drawn, position, best) if len(drawn) >= LEAST_TRIALS else {}
        if found:
            shares[name] = found
        else:
            without.append(objective(name).label)
    return Importances(shares, best, len(drawn), _note(without, len(drawn)))


def _note(without: Sequence[str], drawn: int) -> str:
    if not without:
        return ""
    said = f"No importances for {', '.join(without)}: "
    if drawn < LEAST_TRIALS:
        return (
            f"{said}they need at least {LEAST_TRIALS} trained trials whose parameters were drawn "
            f"at random; this study has {drawn}."
        )
    return f"{said}the parameters of the search do not change it."


def random_trials(study: "Study", sampler: str) -> "list[FrozenTrial]":
    """Trials that were trained to the end and whose parameters `sampler` drew at random."""
    within = {candidate.trial for candidate in candidates(study)}
    trials = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.params and record_of(trial).baseline is None
    ]
    if sampler not in _ALWAYS_RANDOM:
        trials = trials[: _RANDOM_FIRST.get(sampler, 0)]
    return [t for t in trials if t.number in within and record_of(t).parent is None]


def _from_trials(trials: "Sequence[FrozenTrial]", position: int, best: float) -> dict[str, float]:
    """Shares for one objective of the parameters that all the trials have.

    Parameters that few trials have, such as those of a fourth block, would get random shares. The
    result is empty if the trials are too uniform.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    sample = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    for trial in trials:
        sample.add_trial(
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=trial.values[position],
            )
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PED-ANOVA minimises, as we do
            evaluator = PedAnovaImportanceEvaluator(target_quantile=best)
            shared = sorted(set.intersection(*(set(trial.params) for trial in trials)))
            return get_param_importances(sample, evaluator=evaluator, params=shared)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}


def cost_shares(definition: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Shares of the keys of a search space in the exact costs `names`.

    The share of a key is its total Sobol index (Jansen, 1999) of log10 of the cost, over random
    configurations of the space: half the mean squared change when that key alone is drawn again.
    A key with a value for each block counts as one key. Keys that change no cost are left out.

    Args:
        definition: the resolved study file; without a search space nothing is known.
    """
    if not names or "search_space" not in definition:
        return {}
    layers = [Layer("the study", nest(flatten(definition.get("config", {}))))]
    try:
        space = load_space(definition["search_space"], "search_space", layers)
    except ClappError:
        return {}  # the study was made by another version
    changes = _squared_changes(space, layers, names)
    found = {}
    for name in names:
        total = sum(change[name] for change in changes.values())
        if total > 0:
            shares = {key: change[name] / total for key, change in changes.items() if change[name]}
            found[name] = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return found


def _squared_changes(
    space: Space, layers: Sequence[Layer], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Key -> cost -> mean squared change of its log10 when the key is drawn again."""
    layers = space.over(layers)
    base = flatten(defaults_of(space.families[0] if space.families else None))
    for layer in layers:
        base |= flatten(layer.values)
    random, weights = np.random.default_rng(0), space.weights()

    def draw(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]] | None:
        one = Draw(random, given, weights)
        values = nest(space.suggest(one, base))
        try:
            costs = exact_costs(compose([*layers, Layer("draw", values)]), names)
        except ClappError:
            return None  # an impossible combination
        return one.values, {name: math.log10(positive(cost)) for name, cost in costs.items()}

    squares: dict[str, list[dict[str, float]]] = {key: [] for key in space.parameters}
    for first in filter(None, (draw({}) for _ in range(DRAWS))):
        values, costs = first
        for key, found in squares.items():
            kept = {name: v for name, v in values.items() if name.partition("[")[0] != key}
            again = draw(kept) if len(kept) < len(values) else None
            if again is not None:
                found.append({name: (again[1][name] - costs[name]) ** 2 for name in names})
    return {
        key: {name: sum(one[name] for one in found) / DRAWS for name in names}
        for key, found in squares.items()
    }
