"""The benchmarks of training and search, each run for real and very short."""

import json
import math
import os
import random
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import optimisers, reference, samplers, study, trainer
from benchmarks.loops import Record, draw, plain_loop
from clapp.commands.app import app
from clapp.config import load_config
from clapp.errors import ClappError, UserError
from clapp.filters.library import apply_filter
from clapp.front.hypervolume import Moment
from clapp.models.build import build_model
from clapp.models.costs import cost
from clapp.system.intervals import half_width

# Buffers that are full at once.
TINY = reference.Settings(
    batch_size=4,
    crop_size=16,
    resize_base=24,
    min_buffer=2,
    max_buffer=4,
    validation_interval=2,
    min_iterations=10,
    max_iterations=6,
)
SMALL = (
    "train_data.resize_base=48",
    "train_data.crop_size=32",
    "train_data.min_buffer=4",
    "train_data.max_buffer=12",
    "valid_data.resize_base=48",
    "valid_data.crop_size=32",
    "valid_data.num_images=2",
    "train.batch_size=2",
    "train.validation_interval=3",
)
TRAINING = """
config:
  train_data: {resize_base: 48, crop_size: 32}
  valid_data: {resize_base: 48, crop_size: 32, num_images: 2}
  train: {batch_size: 2, validation_interval: 3, min_iterations: 60, max_iterations: 60}
"""


def test_the_way_of_2022_keeps_float_pairs_and_starts_from_the_weights_of_pytorch() -> None:
    config = load_config(overrides=SMALL)
    with reference.Buffers(config, TINY) as buffers:
        assert [len(b.pairs) for b in (buffers.train, buffers.valid)] == [4, 4]
        images, targets = buffers.valid.batch(3, random.Random(0))
    assert (images.dtype, images.shape, targets.shape) == (
        torch.float32,
        (3, 3, 32, 32),
        (3, 1, 32, 32),
    )
    picture = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = torch.from_numpy(apply_filter("sobel_3", picture)) / 255
    torch.testing.assert_close(targets[0, 0], expected)

    torch.manual_seed(1)
    model = reference.plain_model(config.model)
    bound = 1 / math.sqrt(8 * 9)  # PyTorch's, of 8 channels and 3x3
    assert 0.9 * bound < model.main[0].conv[0].weight.abs().max() <= bound
    assert sum(p.numel() for p in model.parameters()) == 2505
    assert build_model(config.model).main[0].conv[0].weight.abs().max() > bound


def test_the_way_of_2022_stops_at_the_threshold_of_its_average() -> None:
    config = load_config(overrides=SMALL)
    with reference.Buffers(config, TINY) as buffers:
        at_once = reference.train(config.model, buffers, TINY, 0, threshold=1e9)
        never = reference.train(config.model, buffers, TINY, 0, threshold=0.0)
        few = reference.train(config.model, buffers, TINY, 0, steps=2, warm_up=2)
    assert (at_once.steps, at_once.reached) == (2, True)
    assert (never.steps, never.reached) == (6, False)
    assert (few.steps, few.reached) == (2, False)
    assert math.isfinite(few.ema)


def test_a_buffer_whose_thread_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "open_source", lambda _: 1 / 0)
    with (
        pytest.raises(ClappError, match="the buffer's thread died: division by zero"),
        reference.Buffers(load_config(), TINY),
    ):
        pass


def test_trainer_labels_what_it_extrapolates_and_derives_ratios_from_its_rows() -> None:
    result = trainer.run(
        repeats=1,
        reference_steps=2,
        reference_needs=100,
        threshold=10.0,
        sets=[*SMALL, "train.max_iterations=3", "train.validation_images=null"],
        settings=TINY,
    )
    document = result.document()
    assert set(document) == {"rows", "ratios", "machine"}
    theirs, warm, cold = document["rows"]
    assert [row["name"] for row in document["rows"]] == [
        trainer.REFERENCE,
        trainer.WARM,
        trainer.COLD,
    ]
    assert "seconds" not in theirs
    assert theirs["extrapolated_seconds"] == pytest.approx(100 * theirs["seconds_per_step"])
    assert warm["steps"] == 3
    assert 0 < warm["l2"] < 1
    assert all(row["peak_bytes"] > 2**26 for row in document["rows"])
    ratios = document["ratios"]
    for row, pool in ((warm, "warm pool"), (cold, "cold pool")):
        expected = theirs["extrapolated_seconds"] / row["seconds"]
        assert ratios[f"extrapolated_seconds, {pool}"] == pytest.approx(expected)
        expected = theirs["peak_bytes"] / row["peak_bytes"]
        assert ratios[f"peak_bytes, {pool}"] == pytest.approx(expected)
    expected = warm["images_per_second"] / theirs["images_per_second"]
    assert ratios["seconds_per_image"] == pytest.approx(expected)
    assert not any(name.startswith("seconds,") for name in ratios)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the start of a process for each training, where a test is not about that."""
    monkeypatch.setenv("CLAPP_CACHE", os.environ["CLAPP_CACHE"])  # put back in the end
    for module in (trainer, study):
        monkeypatch.setattr(module, "in_process", lambda function, *args: (function(*args), 1))


@pytest.mark.usefixtures("inline")
def test_trainer_compares_how_close_both_come() -> None:
    result = trainer.run(repeats=1, reference_steps=2, plateau=4, sets=SMALL, settings=TINY)
    theirs, warm, _ = result.rows
    assert (theirs["steps"], warm["steps"]) == (2, 4)
    assert result.ratios["l2"] == pytest.approx(theirs["l2"] / warm["l2"])
    assert "extrapolated_seconds" not in theirs


def test_trainer_reports_a_threshold_that_is_not_reached() -> None:
    config = load_config(overrides=[*SMALL, "train.max_iterations=3", "train.min_iterations=1"])
    goal = trainer.Goal(1e-9, 2, None)
    with pytest.raises(ClappError, match=r"reference of 2022: L2 .* after 2 steps"):
        trainer.train_reference(config, TINY, goal)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer", "--reference-steps", "7"], "--reference-steps 7: a multiple of 5"),
        (["trainer", "--plateau", "9", "--reference-steps", "0"], "--plateau: "),
        (["study", "--reference-steps", "1"], "--reference-steps 1: a multiple of 5"),
    ],
)
def test_impossible_options(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


BRIEF = [*SMALL, "train.max_iterations=3", "train.min_iterations=1", "train.max_seconds=null"]
SPACE = {"model.capacity": {"type": "int", "low": 1, "high": 4}}


@pytest.mark.usefixtures("inline")
def test_study_trains_the_same_in_every_variant() -> None:
    result = study.run(
        study="smoke",
        trials=2,
        reference_trials=1,
        reference_steps=2,
        sets=BRIEF,
        settings=TINY,
    )
    document = json.loads(json.dumps(result.document()))
    rows = {row["name"]: row for row in document["rows"]}
    names = (study.PLAIN, study.THREAD, study.ONE, study.TWO)
    plain, thread, one, two = (rows[name] for name in names)
    assert [rows[name]["trials"] for name in names] == [2, 2, 2, 2]
    ratios = document["ratios"]
    for row in (one, two):
        for peer in (plain, thread):
            names = f"{peer['name']} / {row['name']}"
            expected = row["trials_per_hour"] / peer["trials_per_hour"]
            assert ratios[f"seconds_per_trial, {names}"] == pytest.approx(expected)
            expected = peer["seconds_to_target"] / row["seconds_to_target"]
            assert ratios[f"seconds_to_target, {names}"] == pytest.approx(expected)
        assert row["trials_per_hour"] == pytest.approx(3600 * 2 / row["seconds"])
    assert plain["hypervolume"] == pytest.approx(one["hypervolume"], rel=1e-3)
    assert plain["hypervolume"] == pytest.approx(two["hypervolume"], rel=1e-3)
    theirs = rows[study.REFERENCE]
    expected = 3600 / (theirs["seconds_per_step"] * TINY.min_iterations)
    assert theirs["extrapolated_trials_per_hour"] == pytest.approx(expected)
    assert "trials_per_hour" not in theirs
    expected = one["trials_per_hour"] / theirs["extrapolated_trials_per_hour"]
    name = f"extrapolated seconds_per_trial, {study.REFERENCE} / {study.ONE}"
    assert ratios[name] == pytest.approx(expected)


@pytest.mark.usefixtures("inline")
def test_a_plain_loop_draws_for_itself_until_it_has_trained_enough(tmp_path: Path) -> None:
    plan = study._plan("smoke", 3, None, BRIEF)
    records = plain_loop(plan.document(), None, tmp_path)
    assert len(records) == 3
    assert len({record.values[1] for record in records}) > 1
    assert all(record.start < record.end for record in records)


def test_draws_repeat_keep_the_limits_and_end_with_the_space() -> None:
    plan = study._plan("smoke", 5, None, ())
    assert draw(plan, 5, seed=3) == draw(plan, 5, seed=3) != draw(plan, 5, seed=4)
    file = plan.file.model_copy(update={"search_space": SPACE})
    document = file.model_dump(mode="json") | {"limits": {"params": 300}}
    narrow = study.plan_from("bench", document)
    drawn = draw(narrow, 2, seed=0)
    assert {trial["model.capacity"] for trial in drawn} == {1, 2}
    with pytest.raises(UserError, match="--trials 3: the search space holds 2"):
        draw(narrow, 3, seed=0)


def test_hypervolume_counts_decades_up_to_its_reference_point() -> None:
    best = Record(0.0, 5.0, [0.01, 50.0, 3e6])
    useless = Record(0.0, 2.0, [0.2, 50.0, 3e6])
    assert study.hypervolume([best]) == pytest.approx(1 * 2 * 2)
    assert study.hypervolume([useless]) == 0
    assert study.hypervolume([Record(0.0, 1.0, [0.0, 500.0, 3e7])]) == pytest.approx(11)
    assert study.seconds_to(4.0 * 0.9, [useless, best]) == 5.0
    assert math.isnan(study.seconds_to(5.0, [useless, best]))


def test_study_refuses_other_objectives(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("search_space: tiny\nobjectives: [loss, params]\n")
    with pytest.raises(UserError, match="objectives loss, params; this benchmark takes"):
        study.run(study=str(path))


def test_a_race_that_is_never_won_counts_with_all_of_its_seconds() -> None:
    won = optimisers.Race(50, 1e-3, 4.0, 5e-4, 1.0, 0.02)
    lost = optimisers.Race(60, 1e-3, 4.0, 2e-3, math.inf, 0.02)
    found = list(optimisers._ratios("small", [won, lost]).values())
    assert found == pytest.approx([2.0, 1.25, 0.5, 0.5])
    row = optimisers._row("small", [won, lost._replace(adam=0.015)])
    assert (row["networks"], row["reached"], row["adam_plateau"], row["lm_plateau"]) == (2, 1, 1, 0)


@pytest.mark.usefixtures("inline")
def test_both_optimisers_get_the_same_seconds() -> None:
    result = optimisers.run(seeds=1, networks=1, larger=1, iterations=40, first_seed=3)
    form_lm, form_adam, small, larger = result.rows
    assert form_lm["networks"] == form_adam["networks"] == 1
    expected = form_adam["seconds"] / form_lm["seconds"]
    assert result.ratios["59 parameters, seconds, adam / lm"] == pytest.approx(expected)
    for row in (small, larger):
        assert 0 < row["seconds"] < 60
        assert row["adam_loss"] > 0
        assert row["lm_loss"] > 0


def test_networks_of_the_races_repeat_and_keep_their_size() -> None:
    plan = study.make_plan("sobel3")
    drawn = optimisers._drawn(plan, 3, 301, 1200, seed=5)
    assert drawn == optimisers._drawn(plan, 3, 301, 1200, seed=5)
    assert [one.train.seed for one in drawn] == [5, 6, 7]
    assert all(301 <= cost(one.model).params <= 1200 for one in drawn)


def test_hypervolume_of_samplers_over_time(tmp_path: Path) -> None:
    early = samplers.Run([Moment(1.0, 1, 2.0), Moment(4.0, 2, 5.0)], allowed=10.0)
    late = samplers.Run([Moment(2.0, 1, 1.0), Moment(8.0, 2, 4.0)], allowed=10.0)
    assert (late.seconds_to(1.0), late.seconds_to(1.5), late.seconds_to(4.5)) == (2, 8, math.inf)
    runs = {"ours": [early, late], "other": [late, late]}
    assert list(samplers._ratios("ours", "other", runs).values()) == pytest.approx([10 / 6, 10 / 8])
    assert list(samplers._ratios("other", "ours", runs).values()) == [0, 0]
    # Student's t with one degree of freedom: 12.706 times the standard error of 0.5.
    assert half_width([4.0, 5.0]) == pytest.approx(6.353, abs=1e-3)

    path, all_ = tmp_path / "short.yaml", tmp_path / "all"
    path.write_text("search_space: tiny\nbudget: {trials: 3}\n" + TRAINING)
    for names in (["random"], ["random", "evolution"]):  # the second call runs only what is new
        result = samplers.run(str(path), names, 1, 7, "60s", 1, all_)
        assert [(row["name"], row["seeds"], row["trials"]) for row in result.rows] == [
            (name, 1, 3) for name in names
        ]
        assert all(row["hypervolume"] > 0 for row in result.rows)
    assert len(list(all_.glob("*.yaml"))) == 2
