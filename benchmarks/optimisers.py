"""`clapp bench optimisers`: Levenberg-Marquardt beside Adam, on networks for `sobel_3`.

Three comparisons, each in one process with one thread, the two optimisers in turn:

- the filter's own form with 59 parameters, until validation L2 is at a threshold, by several seeds;
- random networks of the search space, small enough that `train.optimizer: auto` chooses
  Levenberg-Marquardt for them: Adam has one cosine cycle at each of two learning rates, the better
  result counts, with the seconds of that one training; Levenberg-Marquardt gets the same seconds;
- larger ones, for which `auto` chooses Adam: what it would lose or gain by the other choice.

Both validate equally often for their iterations (`Optimiser.iterations`), on the same pictures.
"""

import math
from statistics import geometric_mean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.infer import SMALL
from benchmarks.measure import Result, Row, in_process
from clapp.config import Config, Layer, nest

if TYPE_CHECKING:
    from clapp.study.plan.plan import Plan
    from clapp.training.trainer import TrainResult

THRESHOLD = 2e-5
RATES = (0.01, 0.05)
"""Learning rates of Adam; small networks want larger ones (docs/training.md)."""
PLATEAU = 0.5
"""Share of the loss of predicting the mean above which a network has learned nothing."""
LARGER = 1200
"""The most parameters of the networks that `auto` gives to Adam."""
SETTINGS: dict[str, Any] = {
    "train_data.crop_size": 40,
    "train.loss_type": "l2",
    "train.batch_size": 6,
    "train.validation_interval": 40,
    "train.validation_images": None,
    "train.stop_l2_loss": None,
    "train.patience": None,
    "train.min_iterations": 1,
    "valid_data.num_images": 6,
}


class Race(NamedTuple):
    """One network trained by both.

    Attributes:
        params: its weights.
        adam: the loss of Adam in the end, and its seconds.
        lm: that of Levenberg-Marquardt after about as many seconds.
        reached: seconds of Levenberg-Marquardt until a validation was as good as Adam's end; inf:
            none was.
        constant: the loss of predicting the mean.
    """

    params: int
    adam: float
    seconds: float
    lm: float
    reached: float
    constant: float


def run(seeds: int, networks: int, larger: int, iterations: int, first_seed: int) -> Result:
    """Run the three comparisons.

    Args:
        seeds: first weights of the filter's own form.
        networks: random ones for which `auto` chooses Levenberg-Marquardt.
        larger: those for which it chooses Adam.
        iterations: length of Adam's cycle.
        first_seed: of weights and of the draws of networks.
    """
    (rows, ratios), _ = in_process(compare, seeds, networks, larger, iterations, first_seed)
    return Result(rows, ratios)


def compare(
    seeds: int, networks: int, larger: int, iterations: int, first_seed: int
) -> tuple[list[Row], dict[str, float]]:
    """All comparisons, in this process; as `run`."""
    from clapp.pool.validation import constant_l2
    from clapp.study.plan.plan import make_plan
    from clapp.system.process import prepare_process
    from clapp.training.optimisers.registry import LM_MOST_PARAMETERS

    prepare_process(threads=1)
    plan = make_plan("sobel3", overrides=[Layer("the benchmark", nest({"limits.params": LARGER}))])
    form = _config(plan, {f"model.{key}": value for key, value in SMALL.items()}, first_seed)
    constant = constant_l2(form.valid_data, form.target_filter)
    for optimizer in ("adam", "lm"):  # compiles and loads what the first training needs
        _train(form, optimizer, max_iterations=80)
    rows, ratios = _of_the_form(form, seeds, iterations)
    for name, count, least, most in (
        (f"up to {LM_MOST_PARAMETERS} parameters", networks, 1, LM_MOST_PARAMETERS),
        (f"{LM_MOST_PARAMETERS + 1} to {LARGER}", larger, LM_MOST_PARAMETERS + 1, LARGER),
    ):
        drawn = _drawn(plan, count, least, most, first_seed)
        races = [_race(one, iterations, constant) for one in drawn]
        if races:
            rows.append(_row(name, races))
            ratios |= _ratios(name, races)
    return rows, ratios


def _config(plan: "Plan", changes: dict[str, Any], seed: int) -> Config:
    return plan.config({**SETTINGS, **changes, "train.seed": seed}, seed, "cpu")


def _drawn(plan: "Plan", count: int, least: int, most: int, seed: int) -> list[Config]:
    """Random configurations of a study with so many parameters, as its sampler would draw them."""
    import numpy as np

    from clapp.config import identity
    from clapp.models.costs import cost
    from clapp.study.sampling.draw import Draw, within_limits

    random, found = np.random.default_rng([seed, least]), dict[str, Config]()
    while len(found) < count:
        drawn = within_limits(plan, Draw(random, {}, plan.space.weights()), 0)
        if drawn is not None and least <= cost(drawn[1].model).params <= most:
            keys = {key: value for key, value in drawn[0].items() if key.startswith("model.")}
            config = _config(plan, keys, seed + len(found))
            found[identity(config)] = config
    return list(found.values())


def _train(config: Config, optimizer: str, max_iterations: int, **train: Any) -> "TrainResult":
    """Train a network by an optimiser in one cycle, with other values of `train`."""
    from clapp.training.trainer import train as trained

    length = {"max_iterations": max_iterations, "lr_cycle": max_iterations}
    changes = {"optimizer": optimizer, **length, **train}
    return trained(config.model_copy(update={"train": config.train.model_copy(update=changes)}))


def _of_the_form(form: Config, seeds: int, iterations: int) -> tuple[list[Row], dict[str, float]]:
    """Seconds until the threshold; a training that misses it counts with all of its seconds."""
    if not seeds:
        return [], {}
    found: dict[str, list[tuple[float, bool]]] = {"lm": [], "adam": []}
    for seed in range(form.train.seed, form.train.seed + seeds):
        seeded = form.model_copy(update={"train": form.train.model_copy(update={"seed": seed})})
        for optimizer, trainings in found.items():
            result = _train(
                seeded,
                optimizer,
                max_iterations=2 * iterations,
                learning_rate=max(RATES),
                stop_l2_loss=THRESHOLD,
                stop_loss_ema=0.0,
            )
            trainings.append((result.seconds, result.stop_reason == "threshold"))
    rows: list[Row] = [
        {
            "name": f"59 parameters to {THRESHOLD:g}, {optimizer}",
            "networks": seeds,
            "reached": sum(reached for _, reached in trainings),
            "seconds": median(seconds for seconds, _ in trainings),
        }
        for optimizer, trainings in found.items()
    ]
    return rows, {"59 parameters, seconds, adam / lm": rows[1]["seconds"] / rows[0]["seconds"]}


def _race(config: Config, iterations: int, constant: float) -> Race:
    from clapp.models.costs import cost

    tries = [
        _train(config, "adam", max_iterations=iterations, learning_rate=rate) for rate in RATES
    ]
    adam = min(tries, key=lambda result: math.inf if math.isnan(result.loss) else result.loss)
    lm = _train(config, "lm", max_iterations=100 * iterations, max_seconds=adam.seconds)
    good = (point.seconds for point in lm.curve if point.l2 <= adam.loss)
    return Race(
        cost(config.model).params,
        adam.loss,
        adam.seconds,
        lm.loss,
        next(good, math.inf),
        constant,
    )


def _row(name: str, races: list[Race]) -> Row:
    return {
        "name": name,
        "networks": len(races),
        "reached": sum(race.reached < math.inf for race in races),
        "seconds": median(race.seconds for race in races),
        "adam_loss": geometric_mean(race.adam for race in races),
        "lm_loss": geometric_mean(race.lm for race in races),
        "adam_plateau": sum(race.adam > PLATEAU * race.constant for race in races),
        "lm_plateau": sum(race.lm > PLATEAU * race.constant for race in races),
    }


def _ratios(name: str, races: list[Race]) -> dict[str, float]:
    """Adam over Levenberg-Marquardt; one that is never as good counts with all of its seconds."""
    times = [race.seconds / min(race.reached, race.seconds) for race in races]
    losses = [race.adam / race.lm for race in races]
    return {
        f"{name}, seconds to Adam's loss (geometric mean)": geometric_mean(times),
        f"{name}, loss at equal time (median)": median(losses),
        f"{name}, loss at equal time (worst)": min(losses),
        f"{name}, share at most 1.5 times worse": sum(x >= 1 / 1.5 for x in losses) / len(losses),
    }
