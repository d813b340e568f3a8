"""`clapp bench trainer`: seconds until a network is good enough, the way of 2022 beside ours.

Both train the same architecture for the same filter, on the same pictures, until a moving average
of validation L2 at 224x224, with the same weight, is below the same threshold. The way of 2022
validates on random crops of the validation photographs, ours on their central crops; the `l2` of
either network in the end is over those central crops.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

from benchmarks import reference
from benchmarks.measure import Result, Row, figure, in_process, in_turn
from clapp.config import Config, Layer, compose, nest, override_layer
from clapp.errors import ClappError, UserError

if TYPE_CHECKING:
    from clapp.models.build import Network

# How ours trains where it differs from the packaged defaults, which are chosen for a search.
OURS: dict[str, Any] = {
    "train.batch_size": 4,
    "train.learning_rate": 0.003,
    "train.lr_cycle": 400,
    "train.validation_interval": 2,
    "train.validation_images": 1,  # in turn: the average sees them all
    "train.stop_loss_ema": 0.95,  # that of 2022: part of what is measured, so not to be tuned
    "train.min_iterations": 1,
    "train.max_iterations": 5000,
}
# Two threads wait for each other at every operation, of which a step of a small batch has hundreds
# of short ones: with another process on one of two cores a step took 5 to 15 times as long.
THREADS = 1
THRESHOLD = 0.005
# Steps to the threshold that the system of 2022 took with this architecture, the photographs that
# come with scikit-image and seed 0: 1,198 s on two cores, 2.9 s each.
NEEDS = 415
REFERENCE, WARM, COLD = "reference of 2022", "ours, warm pool", "ours, cold pool"

Figures = dict[str, float]
_SETTINGS = reference.Settings()


@dataclass(frozen=True)
class Goal:
    """How far the trainings go.

    Attributes:
        threshold: of the average of validation L2; None: to the end of one cosine cycle.
        steps: the reference's; 0: as many as it takes.
        needs: what its `steps` stand for; None: for themselves.
    """

    threshold: float | None
    steps: int
    needs: int | None

    @property
    def seconds(self) -> str:
        """What the reference's seconds are called."""
        return "seconds" if self.needs is None else "extrapolated_seconds"


def run(
    repeats: int = 3,
    reference_steps: int = 20,
    reference_needs: int = NEEDS,
    reference_repeats: int = 1,
    threshold: float = THRESHOLD,
    plateau: int | None = None,
    sets: Iterable[str] = (),
    settings: reference.Settings = _SETTINGS,
) -> Result:
    """Train both ways in fresh processes, each round with another seed.

    Args:
        repeats: rounds of ours.
        reference_steps: steps of the way of 2022 to time; its seconds are extrapolated from them to
            `reference_needs` steps. 0: it is trained to the threshold.
        reference_repeats: rounds of the way of 2022.
        plateau: instead of to a threshold, ours is trained for this many steps and the way of 2022
            for `reference_steps`, each in one cosine cycle, to compare how close they come.
        sets: `key=value` texts laid over our configuration. Architecture, filter and sources of
            pictures hold for both.
        settings: of the way of 2022.

    Raises:
        UserError: `reference_steps` is not possible.
        ClappError: a training did not reach the threshold.
    """
    check_steps(reference_steps, settings)
    if plateau is not None and not reference_steps:
        raise UserError("--plateau: --reference-steps must then be above 0")
    ends: dict[str, Any] = {"train.stop_l2_loss": threshold}
    goal = Goal(threshold, reference_steps, reference_needs if reference_steps else None)
    if plateau is not None:
        ends = {"train.stop_l2_loss": None, "train.min_iterations": 1}
        ends |= {"train.max_iterations": plateau, "train.lr_cycle": plateau}
        goal = Goal(None, reference_steps, None)
        settings = replace(settings, lr_cycle=reference_steps)
    config = compose([Layer("OURS", nest(OURS)), *map(override_layer, sets), Layer("", nest(ends))])
    rows = _reference(config, settings, goal, reference_repeats) + _ours(config, goal, repeats)
    return Result(rows, _ratios(rows, goal))


def check_steps(steps: int, settings: reference.Settings) -> None:
    """See that so many steps of the way of 2022 stand for more.

    Raises:
        UserError: they hold more or less than their share of validations.
    """
    if steps % settings.validation_interval:
        raise UserError(
            f"--reference-steps {steps}: a multiple of {settings.validation_interval} is expected, "
            "since it validates that often and the time of it counts"
        )


def _ratios(rows: list[Row], goal: Goal) -> dict[str, float]:
    def ratio(ours: str, key: str, peer_key: str) -> float:
        return figure(rows, REFERENCE, peer_key) / figure(rows, ours, key)

    found = {
        f"{goal.seconds}, warm pool": ratio(WARM, "seconds", goal.seconds),
        f"{goal.seconds}, cold pool": ratio(COLD, "seconds", goal.seconds),
        "seconds_per_image": 1 / ratio(WARM, "images_per_second", "images_per_second"),
        "peak_bytes, warm pool": ratio(WARM, "peak_bytes", "peak_bytes"),
        "peak_bytes, cold pool": ratio(COLD, "peak_bytes", "peak_bytes"),
    }
    return found if goal.needs else found | {"l2": ratio(WARM, "l2", "l2")}


def _reference(config: Config, settings: reference.Settings, goal: Goal, repeats: int) -> list[Row]:
    seeds = _seeded(config)

    def once() -> Figures:
        figures, peak = in_process(train_reference, next(seeds), settings, goal)
        return figures | {"peak_bytes": peak}

    return in_turn({REFERENCE: once}, repeats)


def train_reference(config: Config, settings: reference.Settings, goal: Goal) -> Figures:
    """The way of 2022 in this process.

    Raises:
        ClappError: it did not reach the threshold.
    """
    # The first steps are slower; they are left out where a few stand for many.
    warm_up = settings.validation_interval if goal.needs else 0
    with reference.Buffers(config, settings) as buffers:
        trained = reference.train(
            config.model,
            buffers,
            settings,
            config.train.seed,
            steps=goal.steps or None,
            threshold=None if goal.needs else goal.threshold,
            warm_up=warm_up,
        )
    step = trained.seconds / trained.steps
    figures = {
        "fill_seconds": buffers.fill_seconds,
        "seconds_per_step": step,
        "images_per_second": settings.batch_size / step,
    }
    if goal.needs:
        return figures | {goal.seconds: step * goal.needs}
    if goal.threshold is not None and not trained.reached:
        raise ClappError(f"{REFERENCE}: L2 {trained.ema:.5f} after {trained.steps} steps")
    ends = {"seconds": trained.seconds, "steps": trained.steps, "ema": trained.ema}
    return figures | ends | {"l2": l2(trained.model, config)}


def _ours(config: Config, goal: Goal, repeats: int) -> list[Row]:
    with TemporaryDirectory(prefix="clapp-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        warm_seeds, cold_seeds = _seeded(config), _seeded(config)

        def once(seeded: Config, cache: Path) -> Figures:
            figures, peak = in_process(train_ours, seeded, goal, cache)
            return figures | {"peak_bytes": peak}

        in_process(fill_pool, config, folder / "warm")
        return in_turn(
            {
                WARM: lambda: once(next(warm_seeds), folder / "warm"),
                COLD: lambda: once(next(cold_seeds), Path(mkdtemp(dir=folder))),
            },
            repeats,
        )


def fill_pool(config: Config, cache: Path) -> None:
    """Leave in `cache` what an earlier run would: a full pool and the validation set."""
    os.environ["CLAPP_CACHE"] = str(cache)
    from clapp.pool.pool import Pool, validation_set

    validation_set(config.valid_data, config.target_filter)
    with Pool.open(config.train_data, config.num_resolutions) as pool:
        pool.pictures(config.train_data.max_buffer)


def train_ours(config: Config, goal: Goal, cache: Path) -> Figures:
    """Ours in this process, timed from the call to the result.

    Raises:
        ClappError: it did not reach the threshold.
    """
    os.environ["CLAPP_CACHE"] = str(cache)
    from clapp.system.process import prepare_process
    from clapp.training.trainer import train

    prepare_process(THREADS)
    start = time.perf_counter()
    result = train(config)
    seconds = time.perf_counter() - start
    final = l2(result.model, config)
    if goal.threshold is not None and (
        result.stop_reason != "threshold" or final >= goal.threshold
    ):
        raise ClappError(
            f"ours, seed {config.train.seed}: {result.stop_reason} after {result.iterations} "
            f"steps, average {result.ema:.5f}, L2 {final:.5f}"
        )
    return {
        "seconds": seconds,
        "steps": result.iterations,
        "seconds_per_step": seconds / result.iterations,
        "images_per_second": result.images / seconds,
        "ema": result.ema,
        "l2": final,
    }


def l2(model: "Network", config: Config) -> float:
    """Mean squared error of a trained network over the fixed validation set."""
    import torch
    import torch.nn.functional as F

    from clapp.pool.pool import validation_set
    from clapp.training.tensors import input_tensor, target_tensor

    images, targets = validation_set(config.valid_data, config.target_filter)
    device, errors = torch.device("cpu"), []
    with torch.inference_mode():
        for i in range(len(images)):  # all have the same size
            x, y = (
                input_tensor(images[i : i + 1], device),
                target_tensor(targets[i : i + 1], device),
            )
            errors.append(F.mse_loss(model(x), y).item())
    return sum(errors) / len(errors)


def _seeded(config: Config) -> Iterator[Config]:
    """`config` with its seed and those after it."""
    for seed in count(config.train.seed):
        yield config.with_train(seed=seed)
