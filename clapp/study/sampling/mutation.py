"""Mutations of the parameters of a trial.

Parameters have Optuna's names: `model.capacity[1]` is the capacity of the second block. A mutation
returns the parameters to keep. Missing parameters are then drawn, and those that no longer apply
are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from clapp.study.sampling.credit import Credit
from clapp.study.sampling.draw import step_from

Parameters = dict[str, Any]
Distributions = Mapping[str, BaseDistribution]
Weights = Mapping[str, Sequence[float]]
LAYERS = "model.num_layers"
MUTATIONS = {
    "change keys": 7,
    "redraw output": 4,
    "cross": 1,
    "insert layer": 0.5,
    "remove layer": 0.5,
    "factor kernel": 0.7,
}
"""How often each is tried, relative to others, as long as all bring equally much."""
NEARBY = 0.5
"""Share of the changed numbers that move a little instead of being drawn anew."""
ANOTHER = 0.4
"""Probability that one more key is changed."""
ALSO = 0.25
"""Probability that the head or the norm of the output is drawn anew with the last activation."""


def change_keys(
    given: Parameters, distributions: Distributions, weights: Weights, random: np.random.Generator
) -> Parameters:
    """One key or a few get another value; half of the numbers only move a little.

    A key that every block has counts as one: what all blocks share, as the padding, is changed as
    often as the kernels are, however many blocks there are. A key with a choice that is drawn most
    of the time is changed less often, as it would be if it were drawn anew.
    """
    kept = dict(given)
    places: dict[str, list[str]] = {}
    for key in sorted(kept):
        places.setdefault(key.partition("[")[0], []).append(key)
    names = sorted(places)
    chances = np.array(
        [_variety(distributions[places[name][0]], weights.get(places[name][0])) for name in names]
    )
    count = min(int(np.count_nonzero(chances)), int(random.geometric(1 - ANOTHER)))
    for name in random.choice(names, size=count, replace=False, p=chances / chances.sum()):
        key = str(random.choice(places[name]))
        old, distribution = kept.pop(key), distributions[key]
        if isinstance(distribution, CategoricalDistribution):
            kept |= _another(key, old, distribution, weights.get(key), random)
        elif random.random() < NEARBY:
            kept[key] = step_from(old, distribution, random)
    return kept


def _variety(distribution: BaseDistribution, weights: Sequence[float] | None) -> float:
    """The probability that two random draws differ; a number always does."""
    if not isinstance(distribution, CategoricalDistribution):
        return 1.0
    chances = np.array(weights if weights is not None else [1.0] * len(distribution.choices))
    return float(1 - np.sum((chances / chances.sum()) ** 2))


def _another(
    key: str,
    old: Any,
    distribution: CategoricalDistribution,
    weights: Sequence[float] | None,
    random: np.random.Generator,
) -> Parameters:
    """Another choice for a key; nothing where there is no other one."""
    chances = np.array(weights if weights is not None else [1.0] * len(distribution.choices))
    chances[distribution.choices.index(old)] = 0
    if not chances.any():
        return {}
    return {key: distribution.choices[random.choice(len(chances), p=chances / chances.sum())]}


def redraw_output(given: Parameters, random: np.random.Generator) -> Parameters:
    """Draw the end of the network anew: the last activation and the steps after it.

    They depend on each other: a root goes with a square, a rectifier with a difference.
    """
    last = f"[{int(given.get(LAYERS, 1)) - 1}]"
    ends = ("model.output_activation", "model.output_norm", "model.head")
    dropped = {"model.activation" + last, *(key for key in ends if random.random() < ALSO)}
    dropped.add("model.output_activation")
    return {key: value for key, value in given.items() if key not in dropped}


def cross(given: Parameters, other: Mapping[str, Any], random: np.random.Generator) -> Parameters:
    """Cross two trials: blocks of one and the rest of the other, or first and last blocks."""
    if random.random() < 0.5:
        mine = {key: value for key, value in given.items() if _is_layered(key) or key == LAYERS}
        rest = {key: v for key, v in other.items() if not _is_layered(key) and key != LAYERS}
        return rest | mine
    kept = int(random.integers(0, int(given.get(LAYERS, 1)) + 1))
    start = int(random.integers(0, int(other.get(LAYERS, 1))))
    count = int(other.get(LAYERS, 1)) - start
    result = {k: v for k, v in given.items() if not _is_layered(k) or _layer(k) < kept}
    for key, value in other.items():
        if _is_layered(key) and _layer(key) >= start:
            result[_moved(key, _layer(key) - start + kept)] = value
    result[LAYERS] = kept + count
    return result


def insert_layer(given: Parameters, random: np.random.Generator) -> Parameters:
    """Insert a block anywhere: mostly as wide as the one before and linear, which changes
    little."""
    layers = int(given.get(LAYERS, 1))
    place = int(random.integers(0, layers + 1))
    result = _shifted(given, place, 1) | {LAYERS: layers + 1}
    width = given.get(f"model.capacity[{max(place - 1, 0)}]")
    if width is not None and random.random() < 0.7:
        result[f"model.capacity[{place}]"] = width
    if random.random() < 0.7:
        result[f"model.activation[{place}]"] = "none"
        result[f"model.norm[{place}]"] = "none"
    return result


def remove_layer(given: Parameters, random: np.random.Generator) -> Parameters:
    """Remove a block."""
    layers = int(given.get(LAYERS, 1))
    place = int(random.integers(0, layers))
    kept = {k: v for k, v in given.items() if not _is_layered(k) or _layer(k) != place}
    return _shifted(kept, place + 1, -1) | {LAYERS: layers - 1}


def factor_kernel(given: Parameters, random: np.random.Generator) -> Parameters:
    """Replace a k x k kernel by a column and a row, or a row and a column."""
    squares = [
        _layer(key)
        for key, value in given.items()
        if key.startswith("model.kernel_size[") and isinstance(value, int) and value > 1
    ]
    if not squares:
        return {}
    place = int(random.choice(squares))
    size = given[f"model.kernel_size[{place}]"]
    result = _shifted(given, place + 1, 1) | {LAYERS: int(given.get(LAYERS, 1)) + 1}
    for key, value in given.items():
        if _is_layered(key) and _layer(key) == place:
            result[_moved(key, place + 1)] = value
    kernels = [f"{size}x1", f"1x{size}"]
    random.shuffle(kernels)
    result[f"model.kernel_size[{place}]"], result[f"model.kernel_size[{place + 1}]"] = kernels
    result[f"model.activation[{place}]"] = "none"
    depthwise = random.random() < 0.5
    result[f"model.depthwise[{place + 1}]"] = depthwise
    if not depthwise and random.random() < 0.5:
        result[f"model.capacity[{place}]"] = 1
    return result


def changed(
    given: Parameters,
    distributions: Distributions,
    others: Sequence[Mapping[str, Any]],
    weights: Weights,
    credit: Credit,
    random: np.random.Generator,
) -> tuple[str, Parameters]:
    """A random mutation of `given` and its name; empty if it is impossible.

    Args:
        given: the parameters of a trial, and their distributions.
        others: parameters of other good trials.
        weights: how often the choices of a key are drawn; those of other keys as often as another.
        credit: what each mutation brought so far.
    """
    moves: dict[str, Callable[[], Parameters]] = {
        "change keys": lambda: change_keys(given, distributions, weights, random),
        "redraw output": lambda: redraw_output(given, random),
        "cross": lambda: cross(given, others[int(random.integers(len(others)))], random),
        "insert layer": lambda: insert_layer(given, random),
        "remove layer": lambda: remove_layer(given, random),
        "factor kernel": lambda: factor_kernel(given, random),
    }
    possible = [*moves] if LAYERS in given else ["change keys"]
    chances = np.array([MUTATIONS[name] for name in possible]) * credit.weights(possible)
    name = str(random.choice(possible, p=chances / chances.sum()))
    return name, moves[name]()


def _is_layered(key: str) -> bool:
    return key.endswith("]")


def _layer(key: str) -> int:
    return int(key[key.index("[") + 1 : -1]) if _is_layered(key) else -1


def _moved(key: str, layer: int) -> str:
    return f"{key[: key.index('[')]}[{layer}]"


def _shifted(given: Mapping[str, Any], start: int, by: int) -> Parameters:
    """Renumber the entries of the blocks from `start` on."""
    return {
        _moved(key, _layer(key) + by) if _is_layered(key) and _layer(key) >= start else key: value
        for key, value in given.items()
    }
