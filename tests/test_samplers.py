"""One contract for every sampler a study file may name."""

import json
import secrets
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from clapp.config import identity
from clapp.errors import UserError
from clapp.front.objectives import exact_costs
from clapp.front.record import record_of
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.sampling.samplers import SAMPLERS, make_sampler

# Every kind of parameter, a condition, a null among the choices, and what the model refuses.
STUDY = """
search_space:
  model.capacity: {type: int, low: 1, high: 5, step: 2}
  model.num_layers: {type: categorical, choices: [1, 2]}
  model.norm: {type: categorical, choices: [group, none]}
  model.flip_conv_norm: {type: categorical, choices: [true, false], when: {model.norm: group}}
  model.stem: {type: categorical, choices: [null, 2]}
  train.learning_rate: {type: float, low: 0.001, high: 0.1, log: true}
objectives: [loss, params, flops]
limits: {params: 400}
baselines: {}
"""


Trials = list[optuna.trial.FrozenTrial]
TRIALS: dict[str, int] = {"gp": 17}
"""How many trials show what a sampler does after its random start: 32, unless they cost seconds."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    path = tmp_path_factory.mktemp("samplers") / "mine.yaml"
    path.write_text(STUDY)
    return make_plan(str(path))


@pytest.fixture(scope="module")
def searched(plan: Plan) -> Callable[..., Trials]:
    """The trials of a sampler and a seed, searched once: not to be written to."""

    @cache
    def once(name: str, seed: int = 0) -> Trials:
        trials = search(plan, name, TRIALS.get(name, 32), seed)
        if name == "gp":  # its last trials follow from its model, which needs ten losses
            assert [t.state for t in trials[:-3]].count(TrialState.COMPLETE) >= 10
        return trials

    return once


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def search(plan: Plan, name: str, trials: int, seed: int = 0) -> Trials:
    """Trials as a worker leaves them: complete, skipped, stopped early and failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = make_sampler(name, plan, seed)
        study = optuna.create_study(sampler=sampler, directions=["minimize"] * 3)
        for _ in range(trials):
            trial = study.ask()
            run(study, trial, plan)
    return study.get_trials()


def run(study: optuna.Study, trial: optuna.Trial, plan: Plan) -> None:
    drawn = plan.space.suggest(trial, plan.base)
    config = plan.config(drawn, 0, None)
    params, flops = exact_costs(config, ["params", "flops"]).values()
    rate = drawn["train.learning_rate"]
    trial.set_user_attr("params", params)
    trial.set_user_attr("flops", flops)
    trial.set_user_attr("key", identity(config))
    trial.set_constraint("params", params / 400 - 1)
    loss = abs(rate - 0.01) + 1 / params
    trial.set_user_attr("iterations", 200)
    # Nothing may follow from it: one seed would not give the same trials twice.
    trial.set_user_attr("seconds", 10 ** secrets.choice([-1.0, 0.0, 1.0, 2.0]))
    curve = [[100, 1.0, 3 * loss], [200, 2.0, loss]]
    if params > 400:
        trial.set_user_attr("skipped", "limit")
        study.tell(trial, state=TrialState.PRUNED)
    elif trial.number % 7 == 3:
        trial.set_user_attr("stopped", {"step": 100, "l2": 3 * loss, "bar": 0.1, "predicted": 1})
        trial.set_user_attr("curve", curve[:1])
        study.tell(trial, state=TrialState.PRUNED)
    elif trial.number % 11 == 5:
        study.tell(trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr("loss", loss)
        trial.set_user_attr("curve", curve)
        study.tell(trial, [loss, params, flops])


@pytest.mark.parametrize("name", SAMPLERS)
def test_values_are_of_the_space_and_of_its_types(
    name: str, plan: Plan, searched: Callable[..., Trials]
) -> None:
    for trial in searched(name):
        values = trial.params
        assert plan.space.represent({**plan.base, **values}) == values
        assert type(values["model.capacity"]) is int
        assert type(values["train.learning_rate"]) is float
        assert type(values["model.num_layers"]) is int
        assert values["model.stem"] is None or type(values["model.stem"]) is int
        assert ("model.flip_conv_norm" in values) == (values["model.norm"] == "group")


@pytest.mark.parametrize("name", SAMPLERS)
def test_different_seeds_differ_and_nothing_is_drawn_forever(
    name: str, searched: Callable[..., Trials]
) -> None:
    rates = [t.params["train.learning_rate"] for t in searched(name)]
    assert len(set(rates)) > (3 if name == "grid" else len(rates) * 5 / 8)
    if name != "qmc":  # its sequence follows from the study's seed
        assert rates != [t.params["train.learning_rate"] for t in searched(name, 1)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_gives_the_same_trials_in_a_fresh_process(
    name: str, plan: Plan, searched: Callable[..., Trials]
) -> None:
    here = [t.params for t in searched(name)]
    assert here == [t.params for t in search(plan, name, len(here))]
    path = Path(plan.space.origin.split(":")[0])
    code = (
        "import sys, json; from pathlib import Path; from clapp.study.plan.plan import make_plan;"
        "from test_samplers import search, optuna; optuna.logging.set_verbosity(40);"
        "plan = make_plan(sys.argv[1]); print(json.dumps([t.params for t in search(plan,"
        " sys.argv[2], int(sys.argv[3]))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), name, str(len(here))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert json.loads(done.stdout) == here


@pytest.mark.parametrize("name", SAMPLERS)
def test_enqueued_values_are_kept(name: str, plan: Plan) -> None:
    sampler = make_sampler(name, plan, 0)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 3)
    for before in (0, TRIALS.get(name, 27) - 2):  # the second finds a study under way
        for _ in range(before):
            run(study, study.ask(), plan)
        for rate in (0.05, 0.06):
            given = {"model.capacity": 3, "train.learning_rate": rate}
            if name != "grid":  # whose trials are whole points of the grid
                study.enqueue_trial(given)
                trial = study.ask()
                run(study, trial, plan)
                assert given.items() <= trial.params.items()


def test_grid_visits_every_point_once(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "search_space:\n  model.capacity: {type: int, low: 1, high: 3}\n"
        "  train.learning_rate: {type: float, low: 0.001, high: 0.1, log: true}\n"
    )
    plan = make_plan(str(path))
    study = optuna.create_study(sampler=make_sampler("grid", plan, 0))
    study.optimize(lambda trial: len(plan.space.suggest(trial, plan.base)), n_trials=100)
    points = {(t.params["model.capacity"], t.params["train.learning_rate"]) for t in study.trials}
    assert len(study.trials) == len(points) == 15
    assert {round(rate, 6) for _, rate in points} == {0.001, 0.003162, 0.01, 0.031623, 0.1}


def test_a_grid_too_large_is_refused() -> None:
    with pytest.raises(UserError, match=r"study sobel3: sampler: grid: the space has .* combin"):
        make_sampler("grid", make_plan("sobel3"), 0)


def test_front_trees_keeps_to_the_limits_and_to_what_is_new(plan: Plan) -> None:
    trials = search(plan, "front_trees", 60)
    assert not any(record_of(t).skipped is not None for t in trials)
    keys: list[Any] = [record_of(t).key for t in trials]
    assert len(set(keys)) == len(keys)
    first, last = trials[:20], trials[40:]

    def distance(group: list[optuna.trial.FrozenTrial]) -> float:
        return sum(abs(t.params["train.learning_rate"] - 0.01) for t in group)

    assert distance(last) < distance(first) / 3


def test_front_trees_where_loss_is_all_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(STUDY.replace("[loss, params, flops]", "[loss]"))
    plan = make_plan(str(path))
    study = optuna.create_study(sampler=make_sampler("front_trees", plan, 0))
    for _ in range(40):
        trial = study.ask()
        drawn = plan.space.suggest(trial, plan.base)
        rate = drawn["train.learning_rate"]
        for name, value in {
            "params": 1,
            "flops": 1,
            "loss": abs(rate - 0.01) + 1e-4,
            "seconds": 1,
            "iterations": 1,
            "key": identity(plan.config(drawn, 0, None)),
        }.items():
            trial.set_user_attr(name, value)
        study.tell(trial, record_of(trial).loss)
    losses = [trial.value for trial in study.trials]
    assert min(losses[20:]) < min(losses[:20])
