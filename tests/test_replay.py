"""Recorded curves, what is predicted from them, and searches on the predictions."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from decisions import decided, decided_again
from forked import clapp

from clapp.errors import UserError
from clapp.front.record import record_of
from clapp.models.costs import cost
from clapp.replay.compare import Task, compare, simulate, summary
from clapp.replay.plot import figure
from clapp.replay.record import _plan, draw
from clapp.replay.rules import FirstRung, Median, MedianRank
from clapp.replay.simulate import Outcome, Search
from clapp.replay.surrogate import Surrogate
from clapp.replay.table import DEFAULT, Table, read, write
from clapp.study.plan.plan import plan_from
from clapp.study.pruning.pruners import MOASHA, Front, Nothing, Record
from clapp.study.sampling.samplers import make_sampler
from clapp.system.progress import told_to

STEPS = [50 * i for i in range(1, 21)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up curves: wide networks are better, and all fall by a half after step 500."""
    plan = _plan("sobel3")
    found = []
    for number in range(60):
        keys, config = draw(plan, number)
        params, flops = cost(config.model)
        loss = 0.03 / keys["model.capacity"][0]
        l2 = [loss * (1.5 - step / 2000 if step < 500 else 1.0) for step in STEPS]
        found.append(
            {
                "number": number,
                "config": keys,
                "params": params,
                "flops": flops,
                "loss": l2[-1],
                "stop_reason": "iterations",
                "cpu_seconds": 2.0 + params / 1000,
                "steps": STEPS,
                "seconds": [0.1 * i for i in range(20)],
                "train_loss": l2,
                "l2": l2,
            }
        )
    diverged = found[7]
    diverged |= {"loss": float("nan"), "steps": STEPS[:4], "l2": [0.5, 0.4, 0.9, float("nan")]}
    path = tmp_path_factory.mktemp("replay") / "made-up.parquet"
    assert write([*found, found[3]], plan.document(), 0.0378, path) == 60
    return path


def test_a_table_comes_back_as_it_was_written(table: Path) -> None:
    read_again = read(table)
    plan = _plan("sobel3")
    assert read_again.configs == [draw(plan, number)[0] for number in range(60)]
    assert (read_again.study, read_again.mean) == (plan.document(), 0.0378)
    assert read_again.steps.tolist() == STEPS
    assert read_again.l2.shape == (60, 20)
    assert read_again.l2[7].tolist() == [0.5, 0.4, 0.9, *[np.inf] * 17]
    # What the diverged one would have taken had it gone on.
    assert read_again.seconds[7] == pytest.approx((2 + read_again.sizes[7, 0] / 1000) * 5)


def test_curves_with_other_validations_are_joined_where_both_have_one(table: Path) -> None:
    recorded = pq.read_table(table)
    rows = recorded.to_pylist()
    shifted = [step + 10 * (step % 100 > 0) for step in STEPS]  # 60, 100, 160, ...
    rows[0]["steps"] = shifted
    for row in rows:
        row["config"] = json.loads(row["config"])
    path = table.with_name("shifted.parquet")
    about = json.loads(recorded.schema.metadata[b"clapp"])
    write(rows, about["study"], about["mean"], path)
    found, before = read(path), read(table)
    assert found.steps.tolist() == STEPS[1::2]
    assert np.array_equal(found.l2, before.l2[:, 1::2])
    assert np.array_equal(found.seconds, before.seconds)


def test_something_else_is_not_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text("no")
    with pytest.raises(UserError, match=r"x\.parquet: not a file of recorded curves"):
        read(path)
    with pytest.raises(UserError, match="absent"):
        read(tmp_path / "absent")


def test_the_surrogate_gives_recorded_curves_back(table: Path) -> None:
    recorded = read(table)
    surrogate = Surrogate(recorded)
    for number in (0, 5, 30):
        run = surrogate(recorded.configs[number], recorded.sizes[number])
        assert list(run.curve) == STEPS
        assert list(run.curve.values()) == pytest.approx(recorded.l2[number].tolist())
        assert run.seconds == pytest.approx(recorded.seconds[number], rel=1e-5)


def search(
    table: Path, pruner: Any, seconds: float = 200.0, seed: int = 0, workers: int = 2
) -> tuple[Any, Outcome]:
    recorded = read(table)
    plan = replace(plan_from("replay", recorded.study), constant_loss=recorded.mean)
    plan = replace(plan, file=plan.file.model_copy(update={"seed": seed}))
    found = Search(plan, Surrogate(recorded), make_sampler("random", plan, seed), pruner)
    return found, found.go(seconds, workers)


def test_workers_train_side_by_side_and_one_after_another(table: Path) -> None:
    found, outcome = search(table, Nothing())
    assert outcome.seconds == sorted(outcome.seconds)
    assert outcome.hypervolume == sorted(outcome.hypervolume)
    assert outcome.stopped == outcome.lost == 0
    # Two workers without a pause: what was trained fills twice the time, less what was under way.
    trained = sum(one.run.seconds * max(one.own.curve) / 1000 for one in found.done)
    assert 400 - 2 * 10 < trained <= 400
    assert search(table, Nothing())[1] == outcome
    assert search(table, Nothing(), seed=1)[1] != outcome


def test_stopping_early_trains_more_in_the_same_time(table: Path) -> None:
    pruner = Front(audit=0.0)
    found, outcome = search(table, pruner)
    _, plain = search(table, Nothing())
    assert outcome.stopped > 20
    assert len(outcome.seconds) > 1.5 * len(plain.seconds)
    for one in found.done:
        assert (one.own.loss is None) == one.stopped
        assert one.stopped or not one.ahead
    audited, with_audit = search(table, Front(audit=1.0))
    assert with_audit.stopped == 0
    assert any(one.stored.audit is not None for one in audited.done)


def test_what_was_lost_is_known_exactly(table: Path) -> None:
    reckless = Front(audit=0.0, quantile=1.0, min_finished=1, margin=0.0)
    total = 0
    for seed in range(4):
        found, outcome = search(table, reckless, seed=seed)
        points = np.array([[o.own.loss, *o.own.sizes] for o in found.done if not o.stopped])
        lost = 0
        for one in found.done:
            if one.stopped:
                step = one.ahead[-1]
                point = [one.run.curve[step], *one.own.sizes]
                lost += not np.any(np.all(points <= point, axis=1))
        assert outcome.lost == lost
        total += lost
    assert total > 0


def test_outcomes_by_time() -> None:
    outcome = Outcome([1.0, 3.0, 4.0], [2.0, 2.0, 5.0], 0, 0, 0)
    assert [outcome.at(t) for t in (0, 1, 2, 4, 9)] == [0, 2, 2, 5, 5]
    assert [outcome.time_to(v) for v in (1, 2, 2.1, 5, 6)] == [1, 1, 4, 4, float("inf")]


def test_median() -> None:
    others = [Record((1.0,), {100: 0.1 * i}) for i in range(1, 12)]
    assert Median().verdict(Record((1.0,), {100: 0.61}), others) is not None
    assert Median().verdict(Record((1.0,), {100: 0.6}), others) is None
    assert Median().verdict(Record((1.0,), {100: 9.0}), others[:9]) is None


def test_median_of_ranks() -> None:
    # Alone in its size, a trial is not dominated, however bad; among its equals it is.
    others = [Record((1.0,), {100: 0.1 * i}) for i in range(1, 6)]
    assert MedianRank().verdict(Record((0.5,), {100: 9.0}), others) is None
    assert MedianRank().verdict(Record((1.0,), {100: 0.21}), others) is None  # 2 of 0 to 5
    assert MedianRank().verdict(Record((1.0,), {100: 0.31}), others) is not None
    assert MedianRank().verdict(Record((1.0,), {100: 0.41}), others[:4]) is None
    # Its best rung counts.
    risen = [Record((1.0,), {100: 1.0, 200: 0.1 * i}) for i in range(1, 6)]
    assert MedianRank().verdict(Record((1.0,), {100: 0.5, 200: 0.6}), risen) is None
    fallen = [Record((1.0,), {100: 0.1 * i, 200: 0.1 * i}) for i in range(1, 6)]
    assert MedianRank().verdict(Record((1.0,), {100: 0.6, 200: 0.6}), fallen) is not None
    assert MedianRank().verdict(Record((1.0,), {100: 0.15, 200: 0.6}), fallen) is None


def test_first_rung() -> None:
    others = [Record((10.0,), {100: 0.1, 200: 0.01}), Record((5.0,), {100: 0.2}), Record((1.0,))]
    assert FirstRung().verdict(Record((10.0,), {100: 0.1}), others) is not None
    assert FirstRung().verdict(Record((10.0,), {100: 0.09}), others) is None
    assert FirstRung().verdict(Record((9.0,), {100: 0.19}), others) is None
    assert FirstRung().verdict(Record((9.0,), {100: 0.2}), others) is not None
    rungs = [step for step in range(50, 1001, 50) if FirstRung().is_rung(step - 50, step)]
    assert rungs == [100]


def test_a_sampler_that_proposes_children_knows_their_parents(table: Path) -> None:
    recorded = read(table)
    plan = replace(plan_from("replay", recorded.study), constant_loss=recorded.mean)
    sampler = make_sampler("evolution", plan, 0)
    found = Search(plan, Surrogate(recorded), sampler, Nothing())
    found.go(200.0, workers=2)
    trials = found.study.get_trials(deepcopy=False)
    children = [record for record in map(record_of, trials) if record.parent is not None]
    assert len(children) > 20
    assert all(record.move for record in children)
    for record in children:
        parent = record_of(trials[record.parent or 0])
        assert parent.loss is not None
        assert record.config != parent.config
    # One change of the list is one of that parent, not of a network with no record.
    fewer = [record for record in children if record.move == "no biases"]
    for record in fewer:
        assert record.params < (record_of(trials[record.parent or 0]).params or 0)


def test_summary_and_plot(table: Path) -> None:
    found = {
        (sampler, pruner): [simulate(Task(table, sampler, pruner, s, 20.0, 2)) for s in range(3)]
        for sampler, pruner in (("random", "none"), ("front_trees", "front"), ("optuna", "median"))
    }
    rows = summary(found, 20.0, [("random", "none")])
    assert [row["sampler"] for row in rows] == ["random", "front_trees", "optuna"]
    first = rows[0]
    finals = [outcome.hypervolume[-1] for outcome in found["random", "none"]]
    assert first["hypervolume"] == pytest.approx(np.mean(finals))
    # Student's t for three values: 4.303 standard errors.
    assert first["interval"] == pytest.approx(4.303 * np.std(finals, ddof=1) / 3**0.5, rel=1e-3)
    goal = 0.99 * np.mean(finals)
    times = [outcome.time_to(goal) for outcome in found["random", "none"]]
    assert first["reached"] == {"random/none": np.median(times)}
    chart = figure(found, 20.0)
    assert len(chart.data) == 6  # a line and a band each
    assert chart.data[1].y[-1] == pytest.approx(first["hypervolume"])


def replay(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return clapp("replay", *arguments)


def test_the_command_on_the_recorded_curves(tmp_path: Path) -> None:
    page = tmp_path / "replay.html"
    one = ["--sampler", "random", "--pruner", "front", "--seconds", "100", "--json"]

    def row(*arguments: str) -> dict[str, Any]:
        (found,) = json.loads(replay(*one, *arguments).stdout)["rows"]
        return found

    both = row("--seeds", "2", "--out", str(page))
    assert (both["sampler"], both["pruner"], both["seeds"]) == ("random", "front", 2)
    assert both["hypervolume"] > 2
    assert "Search on recorded curves" in page.read_text()
    each = [row("--seeds", "1", "--first-seed", seed)["hypervolume"] for seed in "01"]
    assert each[0] != each[1]
    assert both["hypervolume"] == pytest.approx(sum(each) / 2)
    wrong = replay("--sampler", "best")
    assert wrong.returncode == 2
    assert "--sampler best: allowed: evolution, front_trees, tpe" in wrong.stderr


def test_it_tells_how_far_it_is() -> None:
    told: list[str] = []
    with told_to(told.append):
        compare(DEFAULT, ["random"], ["none"], range(2), 20.0, workers=2, processes=1)
    assert told == ["simulated 1 of 2 searches", "simulated 2 of 2 searches"]


def test_the_recorded_curves_are_what_they_are_said_to_be() -> None:
    recorded: Table = read(DEFAULT)
    assert len(recorded.configs) >= 2000
    assert len({json.dumps(config, sort_keys=True) for config in recorded.configs}) == len(
        recorded.configs
    )
    assert DEFAULT.stat().st_size < 5e6
    plan = plan_from("sobel3", recorded.study)
    for config, sizes in list(zip(recorded.configs, recorded.sizes, strict=True))[::50]:
        assert tuple(cost(plan.config(config, 0, None).model)) == tuple(sizes)
    assert recorded.steps.tolist() == STEPS[1::2]


@pytest.mark.parametrize("pruner", [Nothing(), Front(audit=0.3), MOASHA(audit=0.3), Median()])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_replay_of_a_recorded_study_decides_as_the_study_did(
    table: Path, pruner: Any, workers: int
) -> None:
    found, _ = search(table, pruner, 80.0, workers=workers)
    trials = found.study.get_trials(deepcopy=False)
    assert {d.number: d for d in decided(trials)} == {
        d.number: d for d in decided_again(trials, found.rules)
    }
    assert any(d.stopped for d in decided(trials)) == pruner.judges
    assert any(d.audited for d in decided(trials)) == (pruner.audit > 0)
