"""`clapp repeat`: seeds, processes, kills, pages; fronts whose losers are given up."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from desk import children, command
from forked import clapp
from test_single import TINY
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.commands.experiments import front
from clapp.commands.experiments.plots.bands import band_of
from clapp.commands.experiments.plots.output import write_group
from clapp.commands.experiments.repeat import Group, group_of, repeat_group, summary
from clapp.commands.experiments.runs import Outcome, do, outcome_in
from clapp.commands.experiments.targets import Target, target_of, target_of_trial
from clapp.config import Config, load_config
from clapp.errors import ClappError, UserError
from clapp.front.outcomes import front_of
from clapp.front.repeats import repeats_of
from clapp.models.build import build_model
from clapp.study.plan.existing import load_existing
from clapp.study.storage.heritage import Ancestor
from clapp.training.result import Point, TrainResult

CONFIG = load_config(None, [*TINY, "model={capacity: 1, num_layers: 1}"])


def simulated(loss: Callable[[Config], float]) -> Any:
    """A trainer that trains nothing and ends with the loss of a configuration."""

    def train(config: Config, _report: Any, weights: Any) -> TrainResult:
        found = loss(config)
        curve = [Point(10 * i, 0.1 * i, 4 * found / i, 2 * found / i, 0.1, 0.1) for i in (1, 2)]
        facts = {"data": 0.0, "step": 0.0, "validate": 0.0, "decode": 0.0}
        net = build_model(config.model)
        return TrainResult(
            net, found, 0.1, "iterations", 20, 40, 0.2, facts, curve, "cpu", "adam", 0
        )

    return train


def by_seed(config: Config) -> float:
    return 0.001 * (config.train.seed + 1)


def test_seeds_are_trained_once_and_more_may_follow(tmp_path: Path) -> None:
    trained: list[int] = []

    def loss(config: Config) -> float:
        trained.append(config.train.seed)
        return by_seed(config) if config.train.seed != 3 else float("nan")

    group = Group("net", tmp_path / "net", CONFIG)
    repeat_group(group, range(2), 1, simulated(loss))
    (tmp_path / "net" / "seed-00001" / "model.safetensors").unlink()  # killed while it was written
    outcomes = repeat_group(group, range(4), 1, simulated(loss))
    assert trained == [0, 1, 1, 2, 3]
    assert [one.loss for one in outcomes] == [0.001, 0.002, 0.003, None]
    document = json.loads((tmp_path / "net" / "repeats.json").read_text())
    assert (document["seeds"], document["diverged"]) == (4, 1)
    assert document["mean"] == pytest.approx((0.001 * 0.002 * 0.003) ** (1 / 3))
    assert document["interval"][0] < document["mean"] < document["interval"][1]
    assert [run["seed"] for run in document["runs"]] == [0, 1, 2, 3]


def test_a_folder_holds_one_configuration(tmp_path: Path) -> None:
    group = Group("net", tmp_path / "net", CONFIG)
    repeat_group(group, range(1), 1, simulated(by_seed))
    other = load_config(CONFIG.model_dump(), ["model.capacity=2"])
    with pytest.raises(UserError, match="holds trainings of another configuration"):
        repeat_group(Group("net", group.folder, other), range(1), 1, simulated(by_seed))
    with group.opened(), pytest.raises(UserError, match="another process is training into it"):
        repeat_group(group, range(1), 1)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is there already and holds no repetitions"):
        repeat_group(Group("net", tmp_path / "thesis", CONFIG), range(1), 1)
    with pytest.raises(UserError, match="cannot be written"):
        repeat_group(Group("net", Path("/proc/none"), CONFIG), range(1), 1)
    (group.folder / "seed-00000" / "curve.json").write_text("[")
    with pytest.raises(UserError, match="is no finished training"):
        outcome_in(group.folder / "seed-00000", 0)


def test_what_is_drawn_from_scratch_lies_apart(tmp_path: Path) -> None:
    target = Target("net", "net", tmp_path, CONFIG, Ancestor({}, "AAAA"))
    found = [group_of(target, scratch=scratch) for scratch in (False, True)]
    assert [one.folder.name for one in found] == ["net", "net-from-scratch"]
    assert [one.ancestor is None for one in found] == [False, True]
    assert group_of(replace(target, ancestor=None), scratch=True).folder == tmp_path / "net"


def test_processes_train_the_same_as_one_process_and_outlive_a_kill(tmp_path: Path) -> None:
    """Two processes; the command is killed, then run again to the same total."""
    config = load_config(CONFIG.model_dump(), ["train.max_iterations=40"])
    (tmp_path / "net.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    options = ["repeat", "net.yaml", "--runs", "4", "--parallel", "2", "--out", "out", "--json"]
    start = [sys.executable, "-m", "clapp", *options]
    process = subprocess.Popen(start, cwd=tmp_path, stdout=subprocess.DEVNULL)
    folder = tmp_path / "out"
    while not (folder / "seed-00000" / "model.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    workers = [pid for pid in children(process.pid) if "experiments.worker" in command(pid)]
    assert len(workers) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any("experiments.worker" in command(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived who started it"
        time.sleep(0.05)
    done = clapp(*options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [run["seed"] for run in document["runs"]] == [0, 1, 2, 3]
    for name in document["files"]:
        assert (folder / name).stat().st_size > 1000 or name == "repeats.json"
    alone = Group("net", tmp_path / "alone", config)
    repeat_group(alone, [3], 1)
    assert alone.outcomes([3])[0].loss == document["runs"][3]["loss"]


def test_what_kills_its_process_twice_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    ends = [sys.executable, "-c", "import os; os._exit(7)"]
    monkeypatch.setattr("clapp.system.process.command", lambda _: ends)
    group = Group("net", tmp_path / "net", CONFIG)
    with pytest.raises(ClappError, match=r"seed-0000\d: its process ended twice, .* code 7; see"):
        repeat_group(group, range(2), 2)


def test_an_error_in_a_process_is_the_users_as_it_is_here(tmp_path: Path) -> None:
    config = load_config(CONFIG.model_dump(), ["train_data.name=folder:/nowhere"])
    with pytest.raises(UserError, match="/nowhere"):
        repeat_group(Group("net", tmp_path / "net", config), range(2), 2)


def test_a_training_that_ended_early_keeps_its_last_value() -> None:
    def outcome(seed: int, curve: list[tuple[int, float]]) -> Outcome:
        points = [{"step": step, "l2": l2, "train_loss": None} for step, l2 in curve]
        return Outcome(seed, curve[-1][1], 1.0, 1, "plateau", points)

    runs = [outcome(0, [(10, 1.0), (20, 0.5)]), outcome(1, [(10, 4.0), (20, 2.0), (30, 0.125)])]
    found = band_of(runs, "l2")
    assert found is not None
    assert found.steps == [10, 20, 30]
    assert found.mean == pytest.approx([2.0, 1.0, 0.25])
    assert all(
        low < mean < high for low, mean, high in zip(*found[2:0:-1], found.high, strict=True)
    )
    assert band_of(runs, "train_loss") is None
    alone = band_of(runs[:1], "l2")
    assert alone is not None
    assert alone.low == alone.mean == alone.high == [1.0, 0.5]


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    group = Group("a <net>", tmp_path / "net", CONFIG)
    outcomes = repeat_group(group, range(3), 1, simulated(by_seed))
    assert write_group(group, outcomes)[1:] == [
        "repeats.html",
        "curves.png",
        "losses.png",
        "seconds.png",
    ]
    page = (group.folder / "repeats.html").read_text()
    assert "a &lt;net&gt;" in page
    assert page.count('class="plotly-graph-div"') == 3
    assert 'src="http' not in page
    assert (group.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert summary(group, outcomes)["seconds"]["mean"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ([], "give MODEL, --trial STUDY N or --front STUDY"),
        (["nowhere.yaml"], "nowhere.yaml: does not exist"),
        (["."], "holds no model"),
        (["--front", "nowhere"], "no study named 'nowhere'"),
        (["--trial", "small", "999"], "study small has no trial 999"),
        (["--front", "small", "--set", "a=1"], "a trial is repeated as it was"),
        (["--front", "small", "--out", "x"], "it is written into the study's results"),
    ],
)
def test_mistakes_are_named(
    small_study: Path, tmp_path: Path, monkeypatch: Any, options: list[str], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["repeat", *options, "--results", str(small_study)])
    assert isinstance(found.exception, UserError)
    assert word in str(found.exception)


def test_a_trial_of_a_study_is_repeated_as_it_was(small_study: Path, tmp_path: Path) -> None:
    study = load_existing("small", small_study)
    number = front_of(study)[0].trial
    target = target_of(small_study / "small" / "trials" / f"{number:05d}", [])
    assert target == replace(
        target_of_trial(study, number, small_study.resolve()), trial=target.trial
    )
    assert target.home == small_study.resolve() / "small" / "repeats"
    seed = target.config.train.seed
    do(group_of(target, tmp_path / "again").run(seed))
    again = outcome_in(tmp_path / "again" / f"seed-{seed:05d}", seed)
    assert again.loss == pytest.approx(study.trials[number].values[0], rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*set_metric_names is experimental")
def test_losers_of_a_front_are_given_up_early(tmp_path: Path, monkeypatch: Any) -> None:
    """Three of a front: the small one, the good one, and one that only luck put there."""
    study = optuna.create_study(directions=["minimize"] * 2)
    study.set_metric_names(["loss", "params"])
    trials = {10: 0.05, 20: 0.01, 30: 0.009}
    losses = {10: 0.05, 20: 0.01, 30: 0.04}
    for params, loss in trials.items():
        facts = {"loss": loss, "params": params, "flops": params, "config": {}}
        study.add_trial(optuna.create_trial(values=[loss, params], user_attrs=facts))
    sizes = dict(enumerate(losses))

    def target(_: Any, number: int, results: Path) -> Any:
        config = CONFIG.model_copy(update={"experiment_name": str(sizes[number])})
        home = results / "study" / "repeats"
        return SimpleNamespace(
            name=str(number),
            slug=f"{number:05d}",
            home=home,
            config=config,
            ancestor=None,
            plugins=(),
        )

    def loss(config: Config) -> float:
        noise = np.random.default_rng(config.train.seed).standard_normal()
        return losses[int(config.experiment_name or 0)] * float(np.exp(0.1 * noise))

    monkeypatch.setattr(front, "target_of_trial", target)
    found = front.repeat_front(study, tmp_path, range(12), 1, train=simulated(loss))
    seeds = {one.candidate.params: len(one.repeats.seeds) for one in found.members}
    assert (seeds[10], seeds[20]) == (12, 12)
    assert front.LEAST <= seeds[30] <= 6
    chances = front.document_of(found, "study")["members"]
    assert [round(one["repeats"]["on_front"]) for one in chances] == [1, 1, 0]
    stored = repeats_of(study)
    assert [stored[number].stopped for number in sorted(stored)] == [False, False, True]
    again = front.repeat_front(study, tmp_path, range(12), 1, train=None)  # nothing is left to do
    assert {one.candidate.params: len(one.repeats.seeds) for one in again.members} == seeds


def test_one_of_two_equals_is_hardly_ever_given_up() -> None:
    random = np.random.default_rng(5)
    given_up = 0
    for _ in range(100):
        losses = np.exp(random.standard_normal((2, 10)))
        chances = [_chance(losses[:, :size]) for size in range(front.LEAST, 11)]
        given_up += min(chances) < front.BEATEN
    assert given_up <= 4


def _chance(losses: Any) -> float:
    from test_front_repeats import NAMES, candidate

    found = [candidate(number, 10, [*row]) for number, row in enumerate(losses)]
    return min(front.front_chances(found, NAMES).values())


def test_interrupting_leaves_no_process(tmp_path: Path) -> None:
    config = load_config(
        CONFIG.model_dump(), ["train.max_iterations=1000000", "train.stop_l2_loss=null"]
    )
    (tmp_path / "net.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    options = ["repeat", "net.yaml", "--runs", "2", "--parallel", "2", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clapp", *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not len(workers := children(process.pid)) >= 2:
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not any("experiments.worker" in command(pid) for pid in workers)
