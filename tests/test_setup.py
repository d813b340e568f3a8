"""`clapp init`, `doctor`, `spaces` and `config`: as typed, and by what they leave on disk."""

import json
import tomllib
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import yaml
from forked import clapp
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.commands.setup.config import explained
from clapp.commands.setup.doctor import Finding, examine
from clapp.commands.setup.schemas import SCHEMAS, comments, configuration_keys
from clapp.config import defaults, flatten
from clapp.errors import ConfigError, UserError
from clapp.study.plan.files import StudyFile
from clapp.study.plan.plan import make_plan

RUN = CliRunner()
ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))


def call(*words: str) -> str:
    done = RUN.invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    found = {}
    for name, schema in SCHEMAS.items():
        document = json.loads(json.dumps(schema()))
        jsonschema.Draft202012Validator.check_schema(document)
        found[name] = jsonschema.Draft202012Validator(document)
    return found


def load(path: Path) -> object:
    from clapp.system.strict_yaml import parse_yaml

    return parse_yaml(path.read_text(), str(path))


def test_schemas_accept_every_packaged_file(
    validators: dict[str, jsonschema.Draft202012Validator],
) -> None:
    validators["config"].validate(load(ROOT / "clapp" / "config" / "default.yaml"))
    for path in STUDIES:
        validators["study"].validate(load(path))
    for path in SPACES:
        validators["space"].validate(load(path))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("config", "train: {starts: 0}"),
        ("config", "train: {optimizer: sgd}"),
        ("config", "train_data: {target_filter: cany}"),
        ("config", "trian: {}"),
        ("study", "sampler: evolutoin"),
        ("study", "budget: {timeout: 5 minutes}"),
        ("study", "config: {train.start: 1}"),
        ("study", "baselines: {a: {model: {capasity: 1}}}"),
        ("study", "limits: {parms: 3}"),
        ("study", "pruner: {name: front, quantil: 0.1}"),
        ("space", "model.capacity: {type: int, low: 1}"),
        ("space", "model.capacity: {type: whole, low: 1, high: 2}"),
        ("space", "train_data.target_filter: {type: categorical, choices: [canny]}"),
    ],
)
def test_schemas_refuse_what_clapp_refuses(
    validators: dict[str, jsonschema.Draft202012Validator], schema: str, text: str
) -> None:
    assert not validators[schema].is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "objectives: [loss, steps_to: 0.005]",
        "pruner: {name: front, quantile: 0.1}",
        "budget: {timeout: 1h30m}",
        "config: {train.starts: 2, model: {family: can, width: 3}}",
        "filter: [gaussian, {name: canny, low: 20}]",
        "search_space: {model.capacity: {type: int, low: 1, high: 2}}",
    ],
)
def test_the_studys_schema_accepts_every_way_of_writing(
    validators: dict[str, jsonschema.Draft202012Validator], text: str
) -> None:
    validators["study"].validate(yaml.safe_load(text))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_file_is_what_the_models_say_now(name: str) -> None:
    written = json.loads((ROOT / "schemas" / f"{name}.json").read_text())
    assert written == json.loads(json.dumps(SCHEMAS[name]())), "run `make schemas`"


@pytest.mark.parametrize(
    "path", [*STUDIES, *SPACES], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_packaged_file_names_the_schema_it_keeps(path: Path) -> None:
    line = path.read_text().partition("\n")[0]
    assert line.startswith("# yaml-language-server: $schema=")
    schema = (path.parent / line.partition("=")[2]).resolve()
    assert schema.stem == ("study" if path.parent.name == "studies" else "space")
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(load(path))


def test_the_package_has_schemas_beside_its_studies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for folder in ("studies", "search_spaces", "schemas"):
        assert included[folder] == f"clapp/{folder}"


def test_every_default_is_explained() -> None:
    keys = configuration_keys()
    for key, value in flatten(defaults()).items():
        assert keys[key]["default"] == value
    assert comments()["train.starts"].startswith("lm: first weights")
    for key in StudyFile.model_fields:
        assert explained(key), key


def test_explain_finds_a_key_by_its_end_and_names_the_nearest() -> None:
    (one,) = explained("starts")
    assert (one["key"], one["default"]) == ("train.starts", 1)
    assert one["allowed"] == "a whole number, at least 1 and at most 64"
    assert {one["key"] for one in explained("crop_size")} == {
        "train_data.crop_size",
        "valid_data.crop_size",
        "test_data.crop_size",
    }
    assert explained("max_retry")[0]["allowed"].endswith("below 2,147,483,648")
    (timeout,) = explained("budget.timeout")
    assert timeout["meaning"].startswith("Total time of all runs")
    assert "adam" in call("config", "--explain", "config.train.optimizer")
    with pytest.raises(UserError, match="did you mean patience"):
        explained("patiense")


def test_config_prints_the_defaults_and_refuses_an_unknown_schema() -> None:
    assert yaml.safe_load(call("config"))["train"]["batch_size"] == 8
    assert json.loads(call("config", "--json")) == defaults()
    done = RUN.invoke(app, ["config", "--schema", "studdy"])
    assert isinstance(done.exception, UserError)
    assert "did you mean study" in str(done.exception)


def test_every_space_is_listed_and_printed() -> None:
    documents = json.loads(call("spaces", "--json"))
    assert {one["name"] for one in documents} >= {path.stem for path in SPACES}
    assert all(one["about"] and one["parameters"] for one in documents)
    assert call("spaces", "can").rstrip() == SPACES[0].read_text().rstrip()


@pytest.mark.parametrize("spec", [None, "otsu", "{name: median, ksize: 3, channels: 3}", "guided"])
def test_what_init_writes_is_a_study_that_can_be_run(
    tmp_path: Path, validators: dict[str, jsonschema.Draft202012Validator], spec: str | None
) -> None:
    words = [] if spec is None else [spec]
    written = json.loads(call("init", *words, "--out", str(tmp_path), "--json"))
    study = Path(written["study"])
    plan = make_plan(str(study))
    assert plan.config({}, seed=0, device=None).train_data.name == "photos"
    space = study.with_name(f"{study.stem}_space.yaml")
    for path, kind in ((study, "study"), (space, "space")):
        first = path.read_text().partition("\n")[0]
        assert path.read_text().count("yaml-language-server") == 1
        assert first == f"# yaml-language-server: $schema=schemas/{kind}.json"
        schema = json.loads((tmp_path / "schemas" / f"{kind}.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(load(path))


def test_what_init_writes_runs_at_once(tmp_path: Path) -> None:
    call("init", "--out", str(tmp_path))
    short = [f"--set=train.{key}" for key in ("max_iterations=20", "min_iterations=0", "starts=1")]
    short += ["--set=valid_data.num_images=2", "--trials=2", "--workers=1"]
    done = clapp("optimize.py", "--study", "my_filter.yaml", *short, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "my_filter" / "study.journal").exists()


def test_init_takes_packaged_test_pictures_where_a_folder_has_none(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "validation"):
        (tmp_path / "few" / split).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "few" / split / "a.png")
    call("init", "canny", "--pictures", str(tmp_path / "few"), "--out", str(tmp_path))
    config = make_plan(str(tmp_path / "my_canny.yaml")).config({}, seed=0, device=None)
    assert config.valid_data.name == f"folder:{tmp_path / 'few'}"
    assert (config.test_set.name, config.test_set.split) == ("photos", "test")


def test_init_never_overwrites_and_leaves_nothing_when_it_refuses(tmp_path: Path) -> None:
    call("init", "--out", str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words in ([], ["canny", "--name", "my_filter"], ["cany"], ["sobel_3", "--name", "a b"]):
        done = RUN.invoke(app, ["init", *words, "--out", str(tmp_path)])
        assert isinstance(done.exception, (UserError, ConfigError)), words
    call("init", "canny", "--out", str(tmp_path))
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert {path.name for path in after} - {path.name for path in before} == {
        "my_canny.yaml",
        "my_canny_space.yaml",
    }


def test_init_says_how_to_use_the_function_that_is_there(tmp_path: Path) -> None:
    call("init", "--out", str(tmp_path))
    again = RUN.invoke(app, ["init", "--out", str(tmp_path), "--name", "other"])
    assert "clapp init my_filter:my_filter --name NAME" in str(again.exception)
    call("init", "my_filter:my_filter", "--name", "other", "--out", str(tmp_path))
    assert make_plan(str(tmp_path / "other.yaml")).name == "other"


def test_init_takes_pictures_of_ones_own(tmp_path: Path) -> None:
    pictures = tmp_path / "holiday: 2026"
    pictures.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    for number in range(60):
        cv2.imwrite(str(pictures / f"{number}.png"), picture)
    study = tmp_path / "my_canny.yaml"
    call("init", "canny", "--pictures", str(pictures), "--out", str(tmp_path))
    config = make_plan(str(study)).config({}, seed=0, device=None)
    assert config.train_data.name == config.valid_data.name == f"folder:{pictures}"
    missing = ["init", "box", "--pictures", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert isinstance(RUN.invoke(app, missing).exception, UserError)
    assert not (tmp_path / "my_box.yaml").exists()


def failing(results: Path, storage: str | None = None, device: str = "auto") -> list[Finding]:
    return [one for one in examine(results, storage, device) if not one.works]


def test_doctor_finds_nothing_here_and_leaves_nothing(tmp_path: Path) -> None:
    assert failing(tmp_path / "results") == []
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("CLAPP_CACHE", str(file))
    found = {one.name: one.text for one in failing(file, "postgresql://u:hush@localhost:1/d")}
    assert set(found) == {"cache", "results", "storage"}
    assert "CLAPP_CACHE=FOLDER" in found["cache"]
    assert "--results FOLDER" in found["results"]
    assert "hush" not in found["storage"]
    assert "available" in failing(tmp_path, device="cuda:9")[0].text
    done = RUN.invoke(app, ["doctor", "--results", str(file)])
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 6
    assert RUN.invoke(app, ["doctor", "--results", str(file), "--json"]).exit_code == 1
