"""The command lines as typed: exit codes, one-line errors, JSON, no torch for --help."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import clapp
from PIL import Image

from clapp.system.files import PACKAGE

QUICK = (
    "train.max_iterations=30",
    "train.min_iterations=0",
    "train.validation_interval=10",
    "valid_data.num_images=2",
    "train.batch_size=2",
)
STUDY = """
description: two small networks
search_space:
  model.capacity: {type: int, low: 1, high: 3}
config:
  model: {num_layers: 1, activation: square}
  train: {max_iterations: 30, min_iterations: 0, validation_interval: 10, batch_size: 2}
  valid_data: {num_images: 2}
budget: {trials: 2}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command line in a folder of its own."""
    folder = tmp_path_factory.mktemp("user")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return clapp(*words, cwd=folder)

    call.folder = folder  # type: ignore[attr-defined]
    return call


@pytest.fixture(scope="module")
def searched(run: Run) -> Path:
    """A finished study named `pair`, below the returned folder."""
    folder: Path = run.folder  # type: ignore[attr-defined]
    (folder / "pair.yaml").write_text(STUDY)
    done = run("optimize.py", "--study", "pair.yaml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("module", ["clapp", "clapp.commands.app", "clapp.commands.optimize"])
def test_imports_are_light_and_silent(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'optuna', 'cv2', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_public_names_are_callable_whatever_was_imported_before() -> None:
    code = (
        "import clapp.study.running.worker, clapp.commands.app, clapp\n"
        "assert all(callable(getattr(clapp, name)) for name in clapp.__all__ if name[0] != '_')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("optimize.py", "--study", "sobel33"), "sobel3"),
        (("optimize.py", "--study", "sobel3", "--trials", "0"), "0"),
        (("optimize.py", "--study", "sobel3", "--set", "model.capcity=3"), "did you mean capacity"),
        (("optimize.py", "--study", "smoke", "--storage", "nowhere://x"), "nowhere"),
        (("optimize.py", "--study", "smoke", "--storage", "sqlite:////nowhere/x.db"), "/nowhere"),
        (("front", "absent"), "absent"),
        (("export", "absent"), "absent"),
        (("infer", "absent", "a.png", "b.png"), "absent"),
        (("evaluate", "absent", "photos:validation"), "absent"),
        (("train", "--set", "train.batch_size=none"), "allowed: a whole number"),
        (("train", "--config", "absent.yaml"), "absent.yaml"),
        (("train", "--set", "train_data.name=folder:/absent", "--out", "t"), "/absent"),
        (("dashboard", "absent"), "absent"),
    ],
)
def test_the_users_mistake_is_one_line_and_exit_code_2(
    run: Run, words: tuple[str, ...], message: str
) -> None:
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_train_writes_a_folder_that_loads_and_evaluates(run: Run, tmp_path: Path) -> None:
    from clapp import load

    sets = [word for key in QUICK for word in ("--set", key)]
    sets += ["--set", "train.output_log_interval=20"]
    done = run("train", "--out", str(tmp_path / "model"), "--json", *sets)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["iterations"] == 30
    assert " dB), on average" in done.stderr
    assert [p.name for p in sorted((tmp_path / "model/previews").iterdir())] == ["000020.png"]
    assert load(tmp_path / "model").config.capacity == 8
    evaluated = run("evaluate", str(tmp_path / "model"), "photos:validation", "--json")
    figures = json.loads(evaluated.stdout)
    assert set(figures) == {"l2", "l1", "psnr", "ssim", "images"}
    assert figures["images"] == 18


def test_front_export_infer_evaluate(run: Run, searched: Path) -> None:
    document = json.loads(run("front", "pair", "--json").stdout)
    assert document["counts"]["complete"] == 2
    assert {"trial", "loss", "params", "flops", "config"} <= set(document["front"][0])
    assert "trial" in run("front", "pair").stdout

    done = run("export", "pair", "--pick", "min-loss", "--json")
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)
    assert {"path", "trial", "params", "flops", "loss", "files", "test_loss"} <= set(exported)
    folder = searched / exported["path"]
    assert all((folder / name).is_file() for name in exported["files"])

    Image.new("RGB", (37, 21), "red").save(searched / "in.png")
    for model in (exported["path"], str(folder / "model.onnx")):
        assert run("infer", model, "in.png", "out.png").returncode == 0
        with Image.open(searched / "out.png") as image:
            assert image.size == (37, 21)
    figures = json.loads(run("evaluate", exported["path"], "photos:validation", "--json").stdout)
    best = min(row["loss"] for row in document["front"])
    assert figures["l2"] > 0
    assert best == pytest.approx(exported["loss"])


def test_an_error_is_one_line_that_a_terminal_does_not_obey(run: Run) -> None:
    done = run("train", "--set", "model.\x1b[2Jdepth=3\n4")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert "model.\\x1b[2Jdepth: unknown key" in done.stderr


def test_export_of_a_study_without_a_finished_trial(run: Run, searched: Path) -> None:
    import optuna

    (searched / "results/empty").mkdir(parents=True)
    storage = f"sqlite:///{searched}/results/empty/study.db"
    optuna.create_study(study_name="empty", storage=storage, directions=["minimize"] * 3)
    done = run("export", "empty")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_packaged_data_are_found(tmp_path: Path) -> None:
    """A wheel carries the studies and search spaces that a clone has beside the package."""
    import zipfile

    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    target = ["--wheel-dir", str(tmp_path), str(PACKAGE.parent)]
    subprocess.run([*build, *target], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("clapp-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for source in ("studies", "search_spaces"):
        for path in (PACKAGE.parent / source).glob("*.yaml"):
            assert f"clapp/{source}/{path.name}" in names
    assert "clapp/config/default.yaml" in names
