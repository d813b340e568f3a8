"""Averaged weights, clipped gradients, schedules, and objectives of convergence."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from desk import Desk
from torch import nn

from clapp.config import load_config
from clapp.errors import ConfigError
from clapp.front.objectives import NEVER, amount, objective, results
from clapp.front.record import record_of
from clapp.study.plan.files import load_study
from clapp.training.average import WeightAverage
from clapp.training.optimisers.adam import Adam
from clapp.training.result import Point
from clapp.training.schedule import learning_rate
from clapp.training.trainer import train

SMALL: dict[str, Any] = {
    "model": {"capacity": 2, "num_layers": 1, "kernel_size": 3, "norm": "none"},
    "train_data": {"crop_size": 16, "resize_base": 32, "min_buffer": 4, "max_buffer": 8},
    "valid_data": {"num_images": 2, "crop_size": 48, "resize_base": 64},
    "train": {
        "device": "cpu",
        "optimizer": "adam",
        "max_iterations": 60,
        "min_iterations": 0,
        "validation_interval": 10,
        "stop_l2_loss": None,
    },
}


def config_of(**values: Any) -> Any:
    return load_config({**SMALL, "train": {**SMALL["train"], **values}})


def test_the_average_is_that_of_the_weights() -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1)
    average = WeightAverage(net, 0.9)
    expected = 1.0
    for step, value in enumerate((3.0, 5.0, 4.0), start=1):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert net.weight.item() == pytest.approx(expected)
    assert net.weight.item() == 4.0


def test_a_noisy_training_is_steadier_averaged() -> None:
    noisy = {"learning_rate": 0.1, "schedule": "constant", "batch_size": 1, "min_lr": 0.0}
    noisy |= {"max_iterations": 300}
    plain, averaged = train(config_of(**noisy)), train(config_of(**noisy, weight_average=0.97))

    def roughness(result: Any) -> float:
        losses = [math.log(point.l2) for point in result.curve[10:]]
        pairs = list(zip(losses[1:], losses, strict=False))
        return sum(abs(a - b) for a, b in pairs) / len(pairs)

    assert roughness(averaged) < 0.7 * roughness(plain)
    # What is kept is what was validated.
    assert averaged.loss == averaged.curve[-1].l2
    steps = [point.train_loss for point in averaged.curve]
    assert steps == [point.train_loss for point in plain.curve]  # the training itself is the same


def test_a_gradient_is_shortened_as_a_whole() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    adam = Adam(parameters)
    for parameter, values in zip(parameters, ([3.0, 0.0], [4.0]), strict=True):
        parameter.grad.copy_(torch.tensor(values))
    adam.clip(10)
    assert parameters[1].grad.item() == 4
    adam.clip(1)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.0]))
    assert parameters[1].grad.item() == pytest.approx(0.8)


def test_clipping_changes_a_training() -> None:
    assert train(config_of(clip_gradient=1e-3)).loss != train(config_of()).loss
    assert train(config_of(clip_gradient=1e6)).loss == train(config_of()).loss


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.505, 0.01]),
        ("exponential", [1.0, 0.1, 0.01]),
        ("one_cycle", [0.1, None, 0.01]),
        ("cosine", [1.0, 0.505, 1.0]),
    ],
)
def test_schedules(name: str, rates: list[float | None]) -> None:
    values = {"learning_rate": 1.0, "min_lr": 0.01, "schedule": name, "lr_cycle": 100}
    config = config_of(**values, max_iterations=100).train
    found = [learning_rate(step, config) for step in (0, 50, 100)]
    for rate, expected in zip(found, rates, strict=True):
        assert expected is None or rate == pytest.approx(expected)
    assert all(0.01 - 1e-12 <= learning_rate(step, config) <= 1 for step in range(101))
    if name == "one_cycle":
        assert learning_rate(30, config) == pytest.approx(1)


CURVE = [
    Point(100, 1.5, 0, 0.02, 0, 0),
    Point(200, 3.25, 0, 0.004, 0, 0),
    Point(300, 5, 0, 0.006, 0, 0),
]


def test_steps_and_seconds_to_a_loss() -> None:
    result: Any = SimpleNamespace(curve=CURVE)
    found = results(result, ["steps_to_0.005", "seconds_to_0.02", "steps_to_1e-04"])
    assert found == {
        "steps_to_0.005": 200,
        "seconds_to_0.02": 1.5,
        "steps_to_1e-04": NEVER["steps"],
    }
    assert amount("steps_to_0.005", 200) == "steps to 0.005 200"
    assert amount("seconds_to_0.02", 1.5) == "time to 0.02 1.5 s"
    assert objective("steps_to_0.005").format(NEVER["steps"]) == "never"


STUDY = """
search_space: {model.capacity: {type: int, low: 1, high: 3}}
objectives: [loss, params, {steps_to: 0.05}, seconds_to_0.01]
limits: {seconds_to_0.01: 100}
config:
  train_data: {resize_base: 32, crop_size: 16, min_buffer: 2}
  valid_data: {resize_base: 32, crop_size: 24, num_images: 2}
  model: {num_layers: 1}
  train: {batch_size: 2, max_iterations: 40, validation_interval: 5}
baselines: {}
budget: {trials: 2}
"""


def test_a_study_minimises_steps(tmp_path: Path) -> None:
    desk = Desk(tmp_path, STUDY)
    code, output = desk.run("--workers", "1")
    assert code == 0, output
    for trial in desk.trials():
        record = record_of(trial)
        if record.loss is None:
            continue
        steps = record.value("steps_to_0.05")
        reached = [step for step, _, l2 in record.curve if l2 <= 0.05]
        assert steps == (reached[0] if reached else NEVER["steps"])


@pytest.mark.parametrize("name", ["steps_to", "steps_to_0", "{steps_to: x}", "step_to_0.1", "[]"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"objectives: [loss, {name}]\n")
    with pytest.raises(ConfigError, match=r"allowed: loss, .*, steps_to: L2"):
        load_study(str(path))
