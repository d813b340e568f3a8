import json
import subprocess
import sys
from pathlib import Path

import pytest

from clapp.models.costs import cost
from clapp.replay.record import _plan, draw, good_row, rows

STUDY = """
search_space: filternet
config:
  train_data: {name: synthetic, min_buffer: 4, max_buffer: 8, resize_base: 24, crop_size: 24}
  valid_data: {name: synthetic, seed: 1, num_images: 2, resize_base: 24, crop_size: 24}
  train: {optimizer: adam, max_iterations: 100, min_iterations: 1, lr_cycle: 100}
objectives: [loss, params, flops]
limits: {params: 400}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    return path


def record(study: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clapp.replay.record", "--study", str(study)]
    return subprocess.run(
        [*command, "--out", str(out), *options], capture_output=True, text=True, check=False
    )


def test_a_number_is_always_the_same_configuration_within_the_limits(study: Path) -> None:
    plan = _plan(str(study))
    drawn = [draw(plan, number) for number in range(20)]
    assert drawn == [draw(plan, number) for number in range(20)]
    assert len({json.dumps(keys, sort_keys=True) for keys, _ in drawn}) == 20
    assert all(cost(config.model).params <= 400 for _, config in drawn)
    assert {config.train.patience for _, config in drawn} == {None}
    assert {config.train.validation_interval for _, config in drawn} == {50}


def test_parts_share_the_numbers_and_a_killed_one_goes_on(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves"
    assert record(study, out, "--part", "1/2", "--until", "4").returncode == 0
    file = out / "part-1-of-2.jsonl"
    whole = file.read_text()
    assert [json.loads(line)["number"] for line in whole.splitlines()] == [1, 3]
    file.write_text(whole[:-20])  # killed while it wrote the second row
    assert [row["number"] for row in rows(out)] == [1]
    assert record(study, out, "--part", "1/2", "--until", "4").returncode == 0
    assert record(study, out, "--part", "0/2", "--until", "2").returncode == 0
    found = {row["number"]: row for row in rows(out)}
    assert sorted(found) == [0, 1, 3]
    again = json.loads(whole.splitlines()[1])
    assert found[3]["l2"] == again["l2"]
    assert found[3]["steps"] == [50, 100]
    assert found[3]["loss"] == found[3]["l2"][-1]
    plan = _plan(str(study))
    assert found[3]["config"] == draw(plan, 3)[0]
    assert found[3]["params"] == cost(draw(plan, 3)[1].model).params


def test_near_a_good_row_most_keys_are_kept(study: Path) -> None:
    plan = _plan(str(study))
    recorded = [
        {"number": n, "loss": loss, "params": 100 + n, "flops": 1e6, "config": draw(plan, n)[0]}
        for n, loss in enumerate([0.03, float("nan"), *[0.05] * 30, 0.001])
    ]
    assert {good_row(recorded, seed)["number"] for seed in range(40)} == {0, 2, 3, 32}
    parent = recorded[-1]["config"]
    for number in range(100, 120):
        keys, config = draw(plan, number, parent)
        assert (keys, config) == draw(plan, number, parent)
        assert keys != parent
        assert cost(config.model).params <= 400
        was, now = plan.space.represent(plan.base | parent), plan.space.represent(plan.base | keys)
        changed = {key for key in was.keys() & now.keys() if now[key] != was[key]}
        assert len(changed) <= 4
        # A value can only be gone where what it depends on was among those.
        for key in was.keys() - now.keys():
            assert depends_on(key) & changed, (key, changed)


def depends_on(name: str) -> set[str]:
    """What decides whether a trial has the parameter `name`."""
    key, bracket, block = name.partition("[")
    others = {"model.dilation": "model.kernel_size", "model.flip_conv_norm": "model.norm"}
    found = {f"{others[key]}{bracket}{block}"} if key in others else set()
    return found | {"model.num_layers"}


@pytest.mark.parametrize("part", ["2/2", "1", "a/b"])
def test_an_impossible_part_is_refused(study: Path, tmp_path: Path, part: str) -> None:
    done = record(study, tmp_path / "curves", "--part", part)
    assert done.returncode == 2
    assert f"--part {part}" in done.stderr
