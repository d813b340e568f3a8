"""A sampler, an objective and a pruner from outside of the package, in a short real study."""

import json
from pathlib import Path

import forked
import pytest

from clapp.errors import ConfigError
from clapp.study.plan.existing import load_existing
from clapp.study.plan.plan import make_plan

ROOT = Path(__file__).parents[1]
MODULE = """
from typing import Literal

import optuna
import clapp


def steps(result):
    return next((p.step for p in result.curve if p.l2 <= 0.02), result.iterations)


clapp.register_objective(clapp.Objective("steps", "steps to 0.02", after=steps))


@clapp.register_sampler("outside")
def outside(problem, seed):
    return optuna.samplers.RandomSampler(seed=seed)


@clapp.register_pruner
class Strict(clapp.Pruner):
    name: Literal["strict"] = "strict"
    most: float = 0.5

    def is_rung(self, before, step):
        return before < 20 <= step

    def verdict(self, trial, others):
        step, l2 = max(trial.curve.items())
        return None if l2 <= self.most else clapp.Verdict(step, l2, self.most, l2)
"""
STUDY = """
plugins: [my_plugin]
search_space:
  model.capacity: {type: int, low: 1, high: 6}
  train.learning_rate: {type: float, low: 0.002, high: 0.02, log: true}
baselines: {}
config:
  model: {num_layers: 1}
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 5}
  train: {batch_size: 2, optimizer: adam, min_iterations: 1, max_iterations: 40,
          validation_interval: 10}
objectives: [loss, params, steps]
limits: {steps: 1000}
sampler: outside
pruner: {name: strict, most: 1.0e-9}
budget: {trials: 3}
"""


def test_one_module_adds_a_sampler_an_objective_and_a_pruner(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my_plugin.py").write_text(MODULE)
    study = tmp_path / "elsewhere" / "mine.yaml"
    for pruner, trained in (("{name: strict, most: 1.0e-9}", 0), ("none", 3)):
        study.write_text(STUDY.replace("{name: strict, most: 1.0e-9}", pruner))
        words = ["optimize.py", "--study", str(study), "--workers", "1"]
        done = forked.clapp(*words, *["--fresh"] * bool(trained), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        front = json.loads((tmp_path / "results" / "mine" / "front.json").read_text())
        assert front["counts"]["complete"] == trained
        assert front["counts"]["pruned"] == 3 - trained
    assert all(1 <= one["steps"] <= 40 for one in front["front"])
    assert load_existing("mine", tmp_path / "results").metric_names == ["loss", "params", "steps"]


def test_a_plugin_that_is_not_there_or_fails(tmp_path: Path) -> None:
    study = tmp_path / "mine.yaml"
    study.write_text("plugins: [no_such_plugin]\n")
    with pytest.raises(ConfigError, match=r"plugin 'no_such_plugin' cannot be imported: ModuleNot"):
        make_plan(str(study))
    (tmp_path / "broken.py").write_text("1 / 0\n")
    study.write_text("plugins: [broken]\n")
    with pytest.raises(ConfigError, match="plugin 'broken' cannot be imported: ZeroDivisionError"):
        make_plan(str(study))
