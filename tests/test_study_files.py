"""Study files: durations, defaults, errors in one line, where files are found."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clapp.config import Layer, defaults, identity, layers
from clapp.errors import UserError
from clapp.filters.library import resolve
from clapp.study.plan.definition import Change, first_change
from clapp.study.plan.existing import load_existing
from clapp.study.plan.files import find_study, how_to_start, load_study, seconds
from clapp.study.plan.plan import Plan, make_plan, plan_from
from clapp.study.sampling.draw import Draw
from clapp.system.files import data_dir

PACKAGED = ["random2", "random41", "smoke", "sobel3", "sobel_canny5"]


@pytest.fixture(autouse=True)
def _no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPP_FILTERS", "")
    monkeypatch.setattr("sys.path", list(sys.path))


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
        given = Draw(np.random.default_rng(0), plan.baseline_parameters("reference"))
        drawn = plan.space.suggest(given, plan.base)
        assert plan.config(drawn, 7, None).model.canonical() == config.model.canonical()


def test_every_packaged_study_is_tested() -> None:
    # Those of single filters are tested in test_filter_library.py.
    assert set(PACKAGED) < {path.stem for path in data_dir("studies").glob("*.yaml")}


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


def change(old: Plan, new: Plan) -> Change | None:
    return first_change(old.definition(), old.resolved(), new.definition(), new.resolved())


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("description: x", None),
        ("budget: {trials: 99}", None),
        ("limits: {loss: 1}", None),
        ("sampler: random", None),
        ("config: {train: {batch_size: 8}, train.num_workers: 1}", None),
        ("config: {train: {batch_size: 8, lr_cycle: 1000}}", None),  # the default, written out
        ("seed: 1", "seed"),
        ("config: {train: {batch_size: 4}}", "config.train.batch_size"),
        ("objectives: [loss, params]", "objectives"),
        ("baselines: {other: {}}", "baselines.reference"),
        ("baselines: {reference: {model.capacity: 2}}", "baselines.reference"),
        ("baselines: {reference: {}, another: {model.capacity: 2}}", None),  # tried from now on
    ],
)
def test_what_makes_another_study_of_it(write: Any, text: str, where: str | None) -> None:
    old = make_plan(write("config: {train: {batch_size: 8}}"))
    full = text if "config" in text else f"config: {{train: {{batch_size: 8}}}}\n{text}"
    found = change(old, make_plan(write(full)))
    assert (found and found.where.split(".")[: where.count(".") + 1 if where else 1]) == (
        where and where.split(".")
    )


def test_another_packaged_default_makes_another_study(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version of CLAPP with other defaults must not join a study without a word."""
    old = make_plan(write("config: {train: {batch_size: 4}}"))
    newer = copy.deepcopy(defaults())
    newer["valid_data"]["crop_size"] = 200
    newer["train"]["num_workers"] = 2  # changes nothing in a trial
    monkeypatch.setattr(layers, "defaults", lambda: newer)
    new = make_plan("mine")
    assert new.definition() == old.definition()
    assert change(old, new) == Change(
        "config.valid_data.crop_size", "is 200; the study was started with 224"
    )
    del old.base["model.norm"]  # a key that the older version did not have
    newer["valid_data"]["crop_size"] = 224
    assert change(old, make_plan("mine")) is None
    assert "model.norm" in str(change(old, make_plan("mine", ["model.norm=none"])))


def test_a_study_of_a_version_that_kept_no_defaults(write: Any) -> None:
    old = make_plan(write("config: {train: {batch_size: 4}}")).definition()
    found = first_change(old, None, old, make_plan("mine").resolved())
    assert found == Change("config.train.optimizer", "is 'auto'; the study was started with 'adam'")
    same = make_plan("mine", ["train.optimizer=adam"])
    old = old | {"config": same.definition()["config"]}
    resolved = same.resolved()
    assert "holds other pictures" in str(first_change(old, None, same.definition(), resolved))
    first_edition = dict.fromkeys(resolved["editions"], 1)
    resolved = resolved | {"editions": first_edition}
    assert first_change(old, None, same.definition(), resolved) is None
    other = make_plan("mine", ["train.batch_size=8", "train.optimizer=adam"])
    found = first_change(old, None, other.definition(), other.resolved())
    assert found is not None
    assert found.where == "config.train.batch_size"


def test_packaged_pictures_of_another_edition_make_another_study(write: Any) -> None:
    old = make_plan(write("config: {valid_data: {num_images: 2}}"))
    before = old.resolved() | {"editions": {"train_data": 1, "valid_data": 1}}
    found = first_change(old.definition(), before, old.definition(), old.resolved())
    assert found is not None
    assert found.where == "config.train_data"
    assert "divides its packaged photographs anew" in found.how
    made = ["train_data.name=synthetic", "valid_data.name=synthetic"]
    other = make_plan("mine", made)
    assert other.resolved()["editions"] == {"train_data": 1, "valid_data": 1}


def test_the_test_set_may_change_and_is_no_part_of_a_trial(write: Any) -> None:
    old = make_plan(write("config: {train: {batch_size: 8}}"))
    full = "config: {train: {batch_size: 8}, test_data: {name: synthetic, num_images: 9}}"
    new = make_plan(write(full))
    assert change(old, new) is None
    first, second = (plan.config({}, seed=0, device=None) for plan in (old, new))
    assert second.test_set.name == "synthetic"
    assert identity(first) == identity(second)


FILTER = "import numpy as np\ndef f(image):\n    return image[..., {}].copy()\n"


def test_other_code_of_a_filter_makes_another_study(write: Any, tmp_path: Path) -> None:
    place = tmp_path / "studies"
    (place / "first_channel.py").write_text(FILTER.format(0))
    name = write("config: {train_data: {target_filter: first_channel:f}}")
    old, same = make_plan(name), make_plan(name)
    assert change(old, same) is None
    code = old.resolved()["filter_code"]
    assert list(code) == ["first_channel:f"]
    changed = subprocess.run(
        [sys.executable, "-c", CODE, str(place), FILTER.format(1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert changed != code["first_channel:f"]
    resolved = same.resolved() | {"filter_code": {"first_channel:f": changed}}
    found = first_change(old.definition(), old.resolved(), same.definition(), resolved)
    assert found == Change(
        "first_channel:f", "is other code than the study was started with", is_code=True
    )


CODE = """
import sys
from pathlib import Path
from clapp.filters.custom import code_hash, look_in
place = Path(sys.argv[1])
(place / "first_channel.py").write_text(sys.argv[2])
look_in(place)
print(code_hash("first_channel:f"))
"""


def test_spaces_and_filters_are_looked_for_beside_the_study_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "elsewhere"
    for folder, high in ((there, 3), (tmp_path, 7), (there / "search_spaces", 4)):
        folder.mkdir(exist_ok=True)
        text = f"model.capacity: {{type: int, low: 1, high: {high}}}"
        (folder / "narrow.yaml").write_text(text)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "named.yaml").write_text(text.replace("4", "5"))
    (there / "search_spaces" / "named.yaml").write_text(text.replace("4", "6"))
    (there / "beside.py").write_text(FILTER.format(2))
    (tmp_path / "beside.py").write_text("1 / 0")
    for space, high in (("narrow.yaml", 3), ("narrow", 3), ("named", 6), ("tiny", 4)):
        study = there / "tiny.yaml"  # a study called as the packaged space is
        study.write_text(
            f"search_space: {space}\nconfig: {{train_data: {{target_filter: 'beside:f'}}}}\n"
        )
        plan = make_plan("elsewhere/tiny.yaml")
        assert plan.space.document()["model.capacity"]["high"] == high
        target = resolve(plan.config({}, 0, None).target_filter)
        picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        np.testing.assert_array_equal(target(picture), picture[..., 2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("num_runs: 3", "num_runs: cannot be set here: a study trains each configuration once"),
        (
            "experiment_name: x",
            "experiment_name: cannot be set here: only `clapp train` and `clapp repeat` use it",
        ),
        ("train: {output_dir: x}", "train.output_dir: cannot be set here: only `clapp train`"),
        ("valid_data: {min_buffer: 3}", "valid_data.min_buffer: cannot be set here"),
        ("model.output_channels: 3", "the filter sobel_3 returns 1 channel"),
        ("train_data.target_filter: nowhere:f", "'nowhere:f' cannot be imported"),
    ],
)
def test_keys_without_effect_are_refused_with_the_reason(
    write: Any, line: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_plan(write(f"config:\n  {line}"))


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
        (
            "objectives: [loss, foo]",
            "allowed: loss, loss_int8, loss_16x8, params, flops, latency, m",
        ),
        ("limits: {params: -3}", "limits.params: -3 is not allowed; allowed: greater than 0"),
        ("limits: {parms: 3}", "limits.parms: 'parms' is not allowed; did you mean params?"),
        (
            "sampler: tpee",
            "sampler: 'tpee' is not allowed; did you mean tpe? allowed: evolution, ",
        ),
        ("pruner: median", "pruner: 'median' is not allowed; allowed: none, front, mo-asha"),
        (
            "pruner: {name: front, quantile: 2}",
            "pruner: front: quantile: 2 is not allowed; allowed: at most 1",
        ),
        (
            "pruner: {name: front, rungs: 2}",
            "pruner: front: rungs: unknown key; known: name, audit, warmup, eta",
        ),
        ("budget: {trials: 0}", "budget.trials: 0 is not allowed; allowed: at least 1"),
        ("budget: {trials: 2.5}", "allowed: a whole number"),
        ("budget: {timeout: 1e300}", "1e+300 is not a duration"),
        ("seed: 9223372036854775808", "seed: 9223372036854775808 is not allowed; allowed: less"),
        ("budget: {timeout: soon}", "budget.timeout: 'soon' is not a duration"),
        ("baselines: {a: {model.capacity: 0}}", "baselines.a: model.capacity: 0 is not allowed"),
        ("baselines: {a: {model: {capacity: 3}, model.capacity: 4}}", "duplicate key"),
        ("baselines: {a: {train.seed: 3}}", "baselines.a.train.seed: cannot be set here"),
        ("baselines: {a: }", "a: null is not allowed; allowed: a mapping"),
        ("config: {model: {capcity: 3}}", "config: model.capcity: unknown key"),
        ("config: {train: {stop_l2_loss: 0.1}}", "train.stop_l2_loss: cannot be set here"),
        (
            "search_space: nosuch",
            "no search space named 'nosuch'; known: can, filternet, filternet_color, global",
        ),
    ],
)
def test_errors_are_one_line(write: Any, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(write(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_study_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"did you mean sobel3.*known: .*random2, random41"):
        load_study("sobel33")
    with pytest.raises(UserError, match=r"nowhere/x\.yaml: no such study file"):
        load_study("nowhere/x.yaml")


def test_advice_to_start_only_what_can_be_started(write: Any) -> None:
    assert how_to_start("sobel3") == "start it with `clapp-optimize --study sobel3`"
    assert how_to_start(write("", "two words")) == (
        "start it with `clapp-optimize --study 'two words'`"
    )
    assert how_to_start("sobel33").startswith(
        "nor can it be started: no study named 'sobel33'; did you mean sobel3? known: "
    )
    with pytest.raises(UserError, match="no study named 'gone' in nowhere; nor can it be started"):
        load_existing("gone", Path("nowhere"))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "\0", "\0.yaml", "/" * 5000, ""])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(UserError):
        find_study(name)
