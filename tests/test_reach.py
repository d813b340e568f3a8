"""A space in which nothing may be trained is refused before anything starts."""

import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from forked import clapp

from clapp.errors import UserError
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.sampling.draw import Draw
from clapp.study.sampling.reach import check_reach, within_reach
from clapp.study.sampling.samplers import SAMPLERS, make_sampler

ROOT = Path(__file__).parents[1]
SPACE = """
search_space:
  model.capacity: {type: int, low: 2, high: 40}
  model.num_layers: {type: int, low: 1, high: 6}
  model.kernel_size: {type: categorical, choices: [3, 5]}
  train.learning_rate: {type: float, low: 0.001, high: 0.01, log: true}
config: {model: {norm: none, rezero: false, reskip: false}}
baselines: {}
"""


def plan(folder: Path, text: str, space: str = SPACE) -> Plan:
    path = folder / "mine.yaml"
    path.write_text(f"{space}\n{text}\n")
    return make_plan(str(path))


def smallest(problem: Plan) -> dict[str, float]:
    """Found by trying every architecture of `SPACE`."""
    from clapp.front.objectives import exact_costs

    costs = [
        exact_costs(
            problem.config(
                {"model.capacity": c, "model.num_layers": n, "model.kernel_size": k}, 0, None
            )
        )
        for c in range(2, 41)
        for n in range(1, 7)
        for k in (3, 5)
    ]
    return {name: min(cost[name] for cost in costs) for name in ("params", "flops")}


@pytest.mark.parametrize("name", ["params", "flops"])
def test_the_limit_is_named_with_the_smallest_value_there_is(tmp_path: Path, name: str) -> None:
    least = smallest(plan(tmp_path, ""))[name]
    check_reach(plan(tmp_path, f"limits: {{{name}: {least}}}"))
    with pytest.raises(UserError) as caught:
        check_reach(plan(tmp_path, f"limits: {{{name}: {least - 1}}}"))
    assert str(caught.value) == (
        f"study mine: limits.{name}: {least - 1:g} is not allowed; allowed: at least {least:g}, "
        "the smallest that the search space can reach"
    )


def test_what_is_rare_is_found_and_tried(tmp_path: Path) -> None:
    """One architecture of 468 is within the limits; the sampler used to draw for ever."""
    least = smallest(plan(tmp_path, ""))
    mine = plan(tmp_path, f"limits: {{params: {least['params']}, flops: {least['flops']}}}")
    found = within_reach(mine, np.random.default_rng(1))
    assert (found["model.capacity"], found["model.num_layers"], found["model.kernel_size"]) == (
        2,
        1,
        3,
    )
    study = optuna.create_study(
        directions=["minimize"] * 3, sampler=make_sampler("front_trees", mine, 0)
    )
    start = time.monotonic()
    drawn = [mine.space.suggest(study.ask(), mine.base) for _ in range(3)]
    assert {keys["model.capacity"] for keys in drawn} == {2}
    assert time.monotonic() - start < 30


def test_a_sampler_without_anything_to_draw_says_so(tmp_path: Path) -> None:
    mine = plan(tmp_path, "limits: {params: 5}")
    study = optuna.create_study(
        directions=["minimize"] * 3, sampler=make_sampler("front_trees", mine, 0)
    )
    with pytest.raises(UserError, match=r"limits\.params: 5 is not allowed; allowed: at least \d"):
        mine.space.suggest(study.ask(), mine.base)


def test_limits_that_exclude_each_other(tmp_path: Path) -> None:
    """A shared block has few parameters and many FLOPs, blocks at half resolution the reverse."""
    space = """
search_space:
  model.shared_weights: {type: categorical, choices: [true, false]}
  model.downsample: {type: categorical, choices: [1, 2], when: {model.shared_weights: false}}
config: {model: {capacity: 4, num_layers: 4}}
baselines: {}
"""
    for limit in ("params: 200", "flops: 2.0e+7"):
        check_reach(plan(tmp_path, f"limits: {{{limit}}}", space))
    with pytest.raises(UserError, match=r"keeps to params 200 and flops 2e\+07 at once; the neare"):
        check_reach(plan(tmp_path, "limits: {params: 200, flops: 2.0e+7}", space))


def test_a_space_of_impossible_configurations(tmp_path: Path) -> None:
    mine = plan(tmp_path, "")

    class Refusing:
        """A problem in which every combination is refused."""

        name, seed, constant_loss = "mine", 0, None
        objectives, limits = mine.objectives, mine.limits
        space, base = mine.space, mine.base

        def config(self, *_: object) -> None:
            from clapp.errors import ConfigError

            raise ConfigError("model.capacity: no such network")

    with pytest.raises(UserError, match="all 500 configurations that were drawn are impossible"):
        check_reach(Refusing())  # type: ignore[arg-type]


def test_a_draw_is_within_the_space(tmp_path: Path) -> None:
    mine = plan(tmp_path, "")
    draw = Draw(np.random.default_rng(0), within_reach(mine, np.random.default_rng(0)))
    assert mine.space.represent({**mine.base, **mine.space.suggest(draw, mine.base)})


@pytest.mark.parametrize("sampler", ["front_trees", "random"])
def test_the_study_ends_at_once_with_exit_code_2(tmp_path: Path, sampler: str) -> None:
    assert sampler in SAMPLERS
    plan(tmp_path, f"limits: {{params: 5}}\nsampler: {sampler}")
    done = clapp("optimize.py", "--study", "mine.yaml", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "limits.params: 5 is not allowed; allowed: at least 49" in done.stderr
    assert not (tmp_path / "results").exists()
