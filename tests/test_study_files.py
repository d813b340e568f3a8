"""Study files: durations, defaults, errors in one line, where files are found."""

from pathlib import Path
from typing import Any

import pytest

from clapp.config import Layer
from clapp.errors import UserError
from clapp.files import data_dir
from clapp.study.definition import first_difference
from clapp.study.files import find_study, load_study, seconds
from clapp.study.plan import make_plan, plan_from

PACKAGED = ["random2", "random41", "smoke", "sobel3", "sobel_canny5"]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "mine") -> str:
        (tmp_path / "studies" / f"{name}.yaml").write_text(text)
        return name

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [(30, 30), (1.5, 1.5), ("45", 45), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1d", 86400)],
)
def test_durations(text: Any, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5x",
        "m",
        "-3",
        0,
        -1,
        True,
        None,
        "0s",
        [3],
        float("inf"),
        10**400,
        1e300,
        "9" * 400 + "d",
        "٣m",
    ],
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_studies_are_valid_and_start_with_the_reference(name: str) -> None:
    plan = make_plan(name)
    assert plan.name == name
    config = plan.config(plan.baseline("reference"), seed=7, device=None)
    assert (config.model.capacity, config.model.num_layers, config.train.seed) == (8, 4, 7)
    assert config.train.stop_l2_loss is None
    if plan.file.search_space != make_plan("smoke").file.search_space:
        # What the sampler learns from the reference is all of it.
        drawn = plan.baseline_parameters("reference")
        assert plan.config(drawn, 7, None).model == config.model


def test_every_packaged_study_is_tested() -> None:
    assert sorted(path.stem for path in data_dir("studies").glob("*.yaml")) == PACKAGED


def test_a_study_in_the_working_directory_wins(write: Any) -> None:
    write("budget: {trials: 3}", "smoke")
    assert find_study("smoke") == Path("studies/smoke.yaml")
    assert load_study("smoke").budget.trials == 3


def test_options_are_laid_over_the_file(write: Any) -> None:
    name = write("budget: {trials: 3, timeout: 1m}\nseed: 1")
    file = load_study(name, Layer("--trials 9", {"budget": {"trials": 9}}))
    assert (file.budget.trials, file.budget.timeout, file.seed) == (9, 60, 1)


def test_a_plan_survives_the_way_to_a_worker(write: Any) -> None:
    name = write("config: {train.batch_size: 4}\nlimits: {params: 99}\nbaselines: {a: {}, b: {}}")
    plan = make_plan(name, ["train.max_iterations=600", "valid_data.token=hf_secret"])
    again = plan_from(plan.name, plan.document())
    assert again.file == plan.file
    assert again.base == plan.base
    assert again.base["train.batch_size"] == 4
    assert again.base["valid_data.token"] == "hf_secret"
    assert "hf_secret" not in str(plan.definition())


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("description: x", None),
        ("budget: {trials: 99}", None),
        ("limits: {loss: 1}", None),
        ("sampler: random", None),
        ("seed: 1", "seed"),
        ("config: {train: {batch_size: 3}}", "config.train.batch_size"),
        ("objectives: [loss, params]", "objectives"),
        ("baselines: {other: {}}", "baselines.reference"),
        ("search_space: tiny", "search_space"),
    ],
)
def test_the_first_difference_of_definitions(write: Any, change: str, where: str | None) -> None:
    old = make_plan(write("config: {train: {batch_size: 8}}")).definition()
    text = change if "config" in change else f"config: {{train: {{batch_size: 8}}}}\n{change}"
    found = first_difference(old, make_plan(write(text)).definition())
    assert found == where or (where and found and found.startswith(f"{where}."))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml: the file is empty"),
        ("[1]", "mine.yaml: a mapping of keys is expected"),
        ("seed: 1\nseed: 2", "line 2: duplicate key 'seed'"),
        ("confg: {}", "confg: unknown key; did you mean config?"),
        ("seed: -1", "seed: -1 is not allowed; allowed: at least 0"),
        ("objectives: [params]", "lacks loss"),
        ("objectives: [loss, loss]", "names an objective twice"),
        ("objectives: [loss, foo]", "allowed: loss, params, flops, latency or memory"),
        ("limits: {params: -3}", "limits.params: -3 is not allowed; allowed: greater than 0"),
        ("limits: {parms: 3}", "limits.parms: unknown key; did you mean params?"),
        ("sampler: tpee", "sampler: 'tpee' is not allowed; did you mean tpe? allowed: ours, tpe"),
        ("pruner: median", "pruner: 'median' is not allowed; allowed: none, front, mo-asha"),
        (
            "pruner: {name: front, quantile: 2}",
            "pruner: front: quantile: 2 is not allowed; allowed: at most 1",
        ),
        (
            "pruner: {name: front, rungs: 2}",
            "pruner: front: rungs: unknown key; known: warmup, eta",
        ),
        ("budget: {trials: 0}", "budget.trials: 0 is not allowed; allowed: at least 1"),
        ("budget: {trials: 2.5}", "allowed: a whole number"),
        ("budget: {timeout: 1e300}", "1e+300 is not a duration"),
        ("seed: 9223372036854775808", "seed: 9223372036854775808 is not allowed; allowed: less"),
        ("budget: {timeout: soon}", "budget.timeout: 'soon' is not a duration"),
        ("baselines: {a: {model.capacity: 0}}", "baselines.a: model.capacity: 0 is not allowed"),
        ("baselines: {a: {model: {capacity: 3}, model.capacity: 4}}", "duplicate key"),
        ("baselines: {a: {train.seed: 3}}", "baselines.a.train.seed: cannot be set here"),
        ("baselines: {a: }", "a: None is not allowed; allowed: a mapping"),
        ("config: {model: {capcity: 3}}", "config: model.capcity: unknown key"),
        ("config: {train: {stop_l2_loss: 0.1}}", "train.stop_l2_loss: cannot be set here"),
        ("search_space: nosuch", "no search space named 'nosuch'; known: filternet, tiny"),
    ],
)
def test_errors_are_one_line(write: Any, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(write(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_study_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"did you mean sobel3.*known: random2, random41, smoke"):
        load_study("sobel33")
    with pytest.raises(UserError, match=r"nowhere/x\.yaml: no such study file"):
        load_study("nowhere/x.yaml")
