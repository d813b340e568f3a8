"""Families of networks: one from outside of the package, and what all of them promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clapp.config import differences, identity, load_config, model_config, nest
from clapp.errors import ConfigError
from clapp.study.plan.plan import make_plan

ROOT = Path(__file__).parents[1]
MODULE = '''
import torch
from torch import nn

import clapp


class RowConfig(clapp.ModelConfig):
    """A chain of rows: convolutions of 1 x `length`, `depth` of them."""

    length: int = 3
    depth: int = 1

    @property
    def widest(self):
        return self.input_channels


class Rows(nn.Module):
    def __init__(self, config):
        super().__init__()
        ends = [config.input_channels] * config.depth + [config.output_channels]
        border = (0, config.length // 2)
        self.rows = nn.Sequential(
            *(nn.Conv2d(a, b, (1, config.length), padding=border) for a, b in zip(ends, ends[1:]))
        )

    def forward(self, x):
        return self.rows(x)


def cost(config):
    ends = [config.input_channels] * config.depth + [config.output_channels]
    weights = [a * b * config.length for a, b in zip(ends, ends[1:])]
    return clapp.Cost(sum(weights) + sum(ends[1:]), 2 * sum(weights) * 224 * 224)


clapp.register_family(
    clapp.Family(
        name="rows",
        config=RowConfig,
        build=Rows,
        cost=cost,
        min_size=lambda config: 1,
        receptive_field=lambda config: (0, config.depth * (config.length // 2)),
        is_local=lambda config: True,
        words=lambda config: f"{config.depth} rows of {config.length}",
    )
)
'''
STUDY = """
plugins: [row_plugin]
search_space:
  model.family: {type: categorical, choices: [rows]}
  model.length: {type: int, low: 1, high: 7, step: 2}
  model.depth: {type: int, low: 1, high: 3}
baselines: {long: {model.length: 7}}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 5}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 40, validation_interval: 20}
budget: {trials: 6}
"""


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_family_from_outside_is_searched_and_exported(tmp_path: Path) -> None:
    (tmp_path / "row_plugin.py").write_text(MODULE)
    (tmp_path / "mine.yaml").write_text(STUDY)
    run(tmp_path, str(ROOT / "optimize.py"), "--study", "mine.yaml", "--workers", "1")
    front = json.loads((tmp_path / "results" / "mine" / "front.json").read_text())
    assert front["counts"]["complete"] + front["counts"]["pruned"] == 6
    assert all(one["config"]["model.family"] == "rows" for one in front["front"])
    long = json.loads((tmp_path / "results/mine/trials/00000/result.json").read_text())
    assert (long["params"], long["flops"]) == (3 * 7 + 1, 2 * 3 * 7 * 224 * 224)
    clapp = ("-m", "clapp")
    exported = json.loads(run(tmp_path, *clapp, "export", "mine.yaml", "--json"))
    assert "model.onnx" in exported["files"]
    run(tmp_path, *clapp, "report", "mine.yaml")
    assert " rows of " in (tmp_path / "results/mine/report.html").read_text()


def test_old_configurations_are_what_they_were() -> None:
    factored = {"capacity": [2, 1], "num_layers": 2, "kernel_size": ["1x5", "5x1"]}
    factored |= {"activation": ["none", "square"], "norm": "none"}
    known = {
        "de5ba56c63d3c50d": {},
        "7746427b64d8e094": {"capacity": 3, "num_layers": 2},
        "5d5b3aa856ddc899": factored,
    }
    for key, model in known.items():
        config = load_config({"model": model})
        assert identity(config) == key
        assert identity(load_config({"model": model | {"family": "filternet"}})) == key
        assert "model.family" not in differences(config)
        assert load_config(nest(differences(config))) == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "filtrnet"}, "model.family: 'filtrnet' is not allowed; did you mean filternet"),
        ({"family": 3}, "model.family: 3 is not allowed; allowed: text"),
        ({"family": ["filternet"]}, "model.family: .* is not allowed; allowed: text"),
        ({"capacityy": 3}, "model.capacityy: unknown key; did you mean capacity"),
    ],
)
def test_bad_families_are_refused(model: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({"model": model})
    with pytest.raises(ConfigError, match=message.removeprefix("model.")):
        model_config(model)


def test_a_study_of_filternet_resolves_to_it() -> None:
    assert make_plan("sobel3").base["model.family"] == "filternet"
