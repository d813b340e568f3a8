"""Published results: written from a finished study, loaded by name, shown in the documentation."""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import clapp
from benchmarks.results import app as results_app
from benchmarks.results import search
from clapp.commands.app import app
from clapp.commands.experiments.targets import target_of
from clapp.errors import UserError
from clapp.inference.evaluate import compare
from clapp.inference.heldout import losses_on
from clapp.inference.serve.models import open_models
from clapp.models.published import (
    model_folder,
    model_names,
    plain_name,
    published_models,
    published_name,
    published_studies,
)
from clapp.report.published.export import export_published
from clapp.report.published.origin import command_of, time_text
from clapp.report.published.publish import Published, psnr, publish
from clapp.study.plan.plan import make_plan
from clapp.training.folder import load_trained

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import figures  # noqa: E402
import kernels  # noqa: E402
import published  # noqa: E402

RUN = CliRunner()


@pytest.fixture(scope="module")
def place(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the finished study `small`, published. Not to be written to."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(small_study, folder / "results")
    publish("small", folder / "results", out=folder / "results" / "reference")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the working directory."""
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def copy(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the finished study `small`, to be changed."""
    shutil.copytree(small_study, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def front(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "results/reference/small/front.json").read_text())
    return found


def test_a_front_has_both_losses_seeds_and_models(here: Path) -> None:
    document, study = front(here), here / "results/reference/small"
    rows = document["front"]
    assert [row["model"] for row in rows] == model_names(row["params"] for row in rows)
    assert published_models(study) == [row["model"] for row in rows]
    for row in rows:
        model, config = load_trained(study / "models" / row["model"])
        assert row["params"] == sum(one.numel() for one in model.parameters())
        valid, test = (
            losses_on(model, config, one) for one in (config.valid_data, config.test_set)
        )
        assert row["loss"] == pytest.approx(valid.mean, rel=1e-4)
        assert row["test_loss"] == pytest.approx(test.mean, rel=1e-6)
        assert row["loss_low"] < row["loss"] < row["loss_high"]
        assert row["test_low"] < row["test_loss"] < row["test_high"]
        assert row["test_psnr"] == psnr(row["test_loss"])
        assert row["seed"] == config.train.seed == row["config"]["train.seed"]
        curve = json.loads((study / "curves.json").read_text())[row["model"]]
        assert curve[-1][0] == row["iterations"] == 40
    assert document["filter"] == "sobel_3"
    assert document["filter_flops"] == 3010560
    assert document["reference"]["params"] == 2505
    assert (study / "front.csv").read_text().startswith("model,trial,loss,params,flops,")
    files = [path for path in study.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "front.json", "front.csv", "curves.json", "origin.json", "small.yaml",
        "config.yaml", "model.safetensors",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in files) < 100_000


def test_the_origin_searches_again_and_names_no_machine(here: Path) -> None:
    text = (here / "results/reference/small/origin.json").read_text()
    origin = json.loads(text)
    file = "results/reference/small/small.yaml"
    assert origin["command"] == f"python optimize.py --study {file} --workers 1"
    again = json.loads(json.dumps(make_plan(file).definition()))
    assert again["search_space"].keys() == {
        "model.capacity", "model.activation", "train.learning_rate",
    }  # fmt: skip
    assert again["budget"] == origin["budget"]
    assert origin["seed"] == 0
    assert origin["trials"]["complete"] == 4
    assert origin["versions"]["torch"] == torch.__version__
    assert origin["machine"]["threads"] == [1]
    assert origin["seconds"] > 0
    assert f'"{socket.gethostname()}"' not in text
    assert str(here) not in text


def test_a_published_model_loads_by_name_without_a_network(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    row = front(here)["front"][0]
    model = clapp.load(f"small:{row['params']}")
    trial, _ = load_trained(here / "results/small/trials" / f"{row['trial']:05d}")
    picture = torch.rand(1, 3, 24, 24)
    assert torch.equal(model(picture), trial(picture))


def test_unknown_names_are_refused_with_the_known_ones(here: Path) -> None:
    known = ", ".join(published_models(here / "results/reference/small"))
    for name in ("small:99999", "small:", "small:abc", "small:1-2"):
        with pytest.raises(UserError, match=rf"^{name}: no such model of small .* known: {known}$"):
            clapp.load(name)
    with pytest.raises(UserError, match=r"'smalls' is not published; did you mean small\? known: "):
        clapp.load("smalls:9")
    with pytest.raises(UserError, match="photos:validation: does not exist"):
        clapp.load("photos:validation")
    (here / "other:9").mkdir(exist_ok=True)
    assert published_name("other:9") is None
    assert model_folder("other:9") == Path("other:9")


def test_nothing_published_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("clapp.models.published.data_dir", lambda name: tmp_path / name)
    with pytest.raises(UserError, match=r"^small:9: the study 'small' is not published; none is$"):
        clapp.load("small:9")


def test_names_of_models_of_one_size() -> None:
    assert model_names([5, 9, 9, 9, 12]) == ["5", "9", "9-2", "9-3", "12"]
    assert plain_name("a/b") == "b"
    assert plain_name("other:9-2") == "other-9-2"


def test_names_are_sorted_by_size(tmp_path: Path) -> None:
    for name in ("112", "9-2", "9", "9-10", ".new-x"):
        (tmp_path / "models" / name).mkdir(parents=True)
    assert published_models(tmp_path) == ["9", "9-2", "9-10", "112"]


def test_every_command_takes_a_name(here: Path) -> None:
    name = published_models(here / "results/reference/small")[0]
    path = here / "results/reference/small/models" / name
    by_name, by_path = (compare([one], "photos:test").of(0).l2 for one in (f"small:{name}", path))
    assert by_name == by_path
    assert list(open_models([f"small:{name}"], 2**26)) == [f"small-{name}"]
    target = target_of(Path(f"small:{name}"), [])
    assert (target.slug, target.config.train.seed) == (
        f"small-{name}", load_trained(path)[1].train.seed,
    )  # fmt: skip
    Image.new("RGB", (40, 30), (200, 10, 10)).save(here / "in.png")
    done = RUN.invoke(app, ["infer", f"small:{name}", "in.png", "out.png"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with Image.open(here / "out.png") as picture:
        assert picture.size == (40, 30)
    words = ["evaluate", f"small:{name}", f"small:{name}", "--pictures", "2", "--json"]
    done = RUN.invoke(app, words, catch_exceptions=False)
    assert len(json.loads(done.stdout)["models"]) == 2


def test_a_published_model_is_exported(here: Path) -> None:
    row = min(front(here)["front"], key=lambda row: row["loss"])
    found = export_published(f"small:{row['model']}", here / "results", here / "exported")
    assert (found.trial, found.params) == (row["trial"], row["params"])
    assert {"model.onnx", "card.md", "preview.png"} <= {p.name for p in found.path.iterdir()}
    card = (found.path / "card.md").read_text()
    assert f"| chosen by | `small:{row['model']}`: published by this name |" in card
    assert "2,505 parameters" in card
    assert found.both is not None
    assert found.both.test.mean == pytest.approx(row["test_loss"], rel=1e-6)
    with pytest.raises(UserError, match="no such model of small"):
        export_published("small:77777", here / "results")


def test_the_verb_publishes_and_replaces(copy: Path) -> None:
    for _ in range(2):
        done = RUN.invoke(app, ["publish", "small", "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)["studies"]
    assert one["path"] == "results/reference/small"
    assert one["models"] == published_models(published_studies()["small"])
    assert [path.name for path in (copy / "results/reference").iterdir()] == ["small"]


def _no_weights(copy: Path) -> None:
    for path in copy.glob("results/small/trials/*/model.safetensors"):
        path.unlink()


def _not_finished(copy: Path) -> None:
    from clapp.study.plan.definition import DEFINITION
    from clapp.study.plan.existing import load_existing

    study = load_existing("small", copy / "results")
    definition = study.user_attrs[DEFINITION]
    study.set_user_attr(DEFINITION, {**definition, "budget": {"trials": 9, "timeout": None}})


def _something_else(copy: Path) -> None:
    (copy / "results/reference/small").mkdir(parents=True)
    (copy / "results/reference/small/mine.txt").write_text("keep me")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_weights, "of the front have no loss on test pictures: .*model.safetensors"),
        (_not_finished, "study small is interrupted; a finished one is expected"),
        (_something_else, "is there already and is no published study"),
    ],
)
def test_what_cannot_be_published(copy: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(copy)
    kept = sorted(copy.glob("results/reference/*/*"))
    with pytest.raises(UserError, match=message):
        publish("small", copy / "results")
    assert sorted(copy.glob("results/reference/*/*")) == kept
    assert not list(copy.glob("results/reference/.*"))


def test_a_command_repeats_a_packaged_study() -> None:
    def command(change: Callable[[dict[str, Any]], object]) -> str:
        definition = json.loads(json.dumps(make_plan("sobel3").definition()))
        change(definition)
        return command_of("sobel3", definition, 2)

    def no_time(definition: dict[str, Any]) -> None:
        definition["budget"]["timeout"] = None

    start, end = "python optimize.py --study ", " --workers 2"
    file = "results/reference/sobel3/sobel3.yaml"
    seed = command(lambda d: d.update(seed=3, description="other words"))
    assert seed == f"{start}sobel3 --seed 3{end}"
    budget = {"trials": 7, "timeout": 90.0}
    assert command(lambda d: d.update(budget=budget)) == (
        f"{start}sobel3 --trials 7 --timeout 90s{end}"
    )
    batch = command(lambda d: d["config"]["train"].update(patience=3))
    assert batch == f"{start}sobel3 --set train.patience=3{end}"
    assert command(lambda d: d.update(limits={"params": 9.0})) == f"{start}{file}{end}"
    assert command(no_time) == f"{start}{file}{end}"
    assert command_of("sobel3", make_plan("sobel3").definition()) == f"{start}sobel3"
    assert [time_text(one) for one in (300.0, 90.0, 7200.0, 0.5)] == ["5m", "90s", "2h", "0.5s"]


def test_all_studies_are_published_once(
    small_study: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "studies").mkdir()
    shutil.copy(small_study.parent / "small.yaml", copy / "studies")
    first = RUN.invoke(results_app, ["small", "--workers", "1"], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert "results/reference/small: " in first.stdout
    origin = json.loads((copy / "results/reference/small/origin.json").read_text())
    assert origin["command"] == "python optimize.py --study small --workers 1"
    searched: list[Any] = []

    def fail(words: Any) -> int:
        searched.append(words)
        return 2

    monkeypatch.setattr("benchmarks.results.search", fail)
    for words in (["small"], ["small", "--workers", "1"]):
        again = RUN.invoke(results_app, words, catch_exceptions=False)
        assert "small: published by the same command already" in again.stdout
    assert searched == []
    for words in (["small", "--timeout", "2s"], ["small", "--workers", "2"], ["small", "--seed=1"]):
        other = RUN.invoke(results_app, words)
        assert isinstance(other.exception, UserError)
        assert str(other.exception) == "not published: small; see above"
    assert len(searched) == 3
    assert searched[0] == ["--timeout", "2s", "--study", "small", "--results", "results"]


def test_a_search_ends_by_itself_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optimize.py").write_text(
        "import sys, time\nopen(sys.argv[1], 'w').close()\ntime.sleep(1)\nsys.exit(130)\n"
    )
    monkeypatch.setattr("benchmarks.results.ROOT", tmp_path)
    started = tmp_path / "started"

    def interrupt() -> None:
        while not started.exists():
            time.sleep(0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert search([str(started)]) == 130
    thread.join()


def test_the_package_has_the_published_results() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"]["results/reference"] == "clapp/results/reference"
    assert "results/reference" in build["sdist"]["include"]
    for study in published_studies().values():
        rows = json.loads((study / "front.json").read_text())["front"]
        assert published_models(study) == [row["model"] for row in rows]
        clapp.load(study / "models" / rows[0]["model"])


def test_the_pages_show_what_is_published() -> None:
    for path, text in published.pages(published.studies()).items():
        assert path.read_text() == text, "run `make figures`"
    for one in published.studies():
        for end in ("", "-loss"):
            picture = ROOT / "docs" / published.IMAGES / f"{one['study']}{end}.png"
            assert picture.stat().st_size <= figures.MOST_BYTES, "run `make figures`"


def test_the_table_has_the_smallest_network_at_each_level() -> None:
    def row(params: int, flops: float, decibels: float) -> dict[str, Any]:
        return {"params": params, "flops": flops, "test_psnr": decibels}

    models = [row(9, 2e3, 34), row(5, 1e3, 31.2), row(9, 1e3, 36), row(40, 1e6, 47.25)]
    found = [{"study": "Sobel_3", "filter_flops": 3e6, "front": models}]
    lines = published.filters_table(found).splitlines()
    assert lines[2] == (
        "| [Sobel_3](results.md#sobel_3) | 3M | 5 (1k) | 9 (1k) | 40 (1M) | 40 (1M) | - "
        "| 40: 47.2 dB |"
    )
    assert lines[3].endswith("| 37,219 (3.7G) | 37,219 (3.7G) | - | - | - | 37,219: 36.0 dB |")
    assert published.drawn(models)["params"] == 40
    assert published.drawn(models[:2])["params"] == 9
    page = "a\n<!-- published -->\nold\n<!-- end -->\nz\n"
    assert published.filled(page, "new\n") == "a\n<!-- published -->\n\nnew\n\n<!-- end -->\nz\n"
    with pytest.raises(ValueError, match="one pair"):
        published.filled("a", "new")


def test_kernels_are_compared_up_to_scale_and_rotation() -> None:
    random = np.random.default_rng(4)
    pair = random.normal(size=(2, 3, 5, 5))
    angle = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = 7 * np.einsum("mn,nchw->mchw", angle, pair)
    assert kernels.difference(pair, turned) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(kernels.rotated(turned, pair), pair, atol=1e-9)
    left, right = np.zeros_like(pair), np.zeros_like(pair)
    left[:, 0], right[:, 1] = pair[:, 0], pair[:, 1]
    assert kernels.difference(left, right) == pytest.approx(1)
    # Of one kernel the form is its outer product, so the cosine is that of the kernels, squared.
    one, other = pair[:1], pair[1:]
    cosine = np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other)
    assert kernels.difference(one, other) == pytest.approx(np.sqrt(1 - cosine**4))


def test_kernels_of_a_network_are_those_of_its_layers() -> None:
    folder = ROOT / "results/reference/random2/models/54"
    weights = load_trained(folder)[0].main[0].conv[0].weight  # one layer, and no stem
    found = kernels.kernels_of(folder)
    np.testing.assert_allclose(found[:, :, 7:10, 7:10], weights.detach().numpy(), rtol=1e-5)
    assert np.count_nonzero(found) == weights.numel()
    # What `sobel_3` makes of a picture, before magnitude and maximum.
    picture = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    dx, dy = kernels.FILTERS["sobel3"]
    blurred = cv2.GaussianBlur(picture @ kernels.LUMA, (3, 3), 0)
    for kernel, order in ((dx, (1, 0)), (dy, (0, 1))):
        expected = cv2.Sobel(blurred, cv2.CV_64F, *order, ksize=3)[2, 2]
        assert np.sum(kernel * picture.transpose(2, 0, 1)) == pytest.approx(expected)


def test_examples_name_a_published_model() -> None:
    front = [{"model": "84-2", "params": 84, "test_psnr": 33.0, "flops": 1}]
    page = (
        "clapp.load('sobel3:36') smoke:3 sobel3:\n"
        "![Input, the Sobel filter of OpenCV, a network of 23 parameters, and more](a/b.png)\n"
    )
    found = [{"study": "sobel3", "front": front}]
    assert published.exemplified(page, found, "images") == (
        "clapp.load('sobel3:84-2') smoke:3 sobel3:\n"
        "![Input, the Sobel filter of OpenCV, a network of 84 parameters, and their difference]"
        "(images/sobel3.png)\n"
    )
    assert published.exemplified(page, [], "images") == page
    readme = published.DOCS.parent / "README.md"
    assert f"![{published._PICTURED}" in published.pages(found[:0])[readme]


def test_a_section_and_its_pictures(here: Path, tmp_path: Path) -> None:
    found = published.studies(here / "results/reference")
    text = published.results_sections(found)
    assert "### small\n\nfour small networks.\n" in text
    for row in published.steps(found[0]["front"]):
        assert f"| `{row['model']}` | " in text
        assert f" | {row['seed']} |" in text
    assert "4 trainings to the end and 0 stopped early" in text
    figures.write(found, here / "results/reference", tmp_path)
    for name in ("small.png", "small-loss.png"):
        assert f"images/results/{name}" in text
        assert (tmp_path / name).stat().st_size < figures.MOST_BYTES
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 700


def test_published_is_a_document() -> None:
    assert Published(Path("a"), ["5"], 9).document() == {"path": "a", "models": ["5"], "bytes": 9}
