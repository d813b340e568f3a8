"""Benchmarks in small: what their documents hold, not how fast anything is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import driver, infer, large, pool
from benchmarks.measure import Result, figure, in_process, in_turn, machine
from clapp.config import load_config
from clapp.errors import ClappError, ConfigError, UserError

MACHINE = {
    "processor", "cores", "memory_bytes", "system", "python", "torch", "cv2", "onnxruntime",
    "optuna", "device",
}  # fmt: skip


def clapp(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clapp", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


# Called in fresh processes, so of this module.


def hold(size: int) -> int:
    held = np.ones(size, np.uint8)
    return int(held[-1])


def hold_in_child(size: int) -> None:
    code = f"import time; held = bytearray(b'1' * {size}); time.sleep(1)"
    subprocess.run([sys.executable, "-c", code], check=True)


def refuse(text: str) -> None:
    raise ConfigError(text)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_rows_are_medians_of_rounds_in_turn() -> None:
    calls: list[str] = []
    values = iter([1.0, 100.0, 3.0, 200.0, 2.0, 300.0])

    def variant(name: str) -> dict[str, float]:
        calls.append(name)
        return {"ms": next(values), "size": 7}

    rows = in_turn({"a": lambda: variant("a"), "b": lambda: variant("b")}, repeats=3)
    assert calls == ["a", "b"] * 3
    assert rows == [{"name": "a", "ms": 2.0, "size": 7}, {"name": "b", "ms": 200.0, "size": 7}]
    assert figure(rows, "b", "ms") == 200


def test_peak_memory_of_a_process_and_its_children() -> None:
    size = 200_000_000
    value, alone = in_process(hold, 1)
    assert value == 1
    assert size < in_process(hold, size)[1] < alone + size + 20_000_000
    assert in_process(hold_in_child, size)[1] > size


def test_errors_of_a_process_arrive_as_they_were() -> None:
    with pytest.raises(ConfigError, match=r"^capacity 0$"):
        in_process(refuse, "capacity 0")
    with pytest.raises(ClappError, match="die: its process was killed"):
        in_process(die)


def test_a_result_as_document_and_table(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result([{"name": "slow", "ms": 12.3456}, {"name": "ours", "n": 3}], {"slow / ours": 4})
    assert result.document() == {
        "rows": result.rows,
        "ratios": {"slow / ours": 4},
        "machine": machine(),
    }
    assert machine().keys() == MACHINE
    result.print()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == [["name", "ms", "n"], ["slow", "12.35"], ["ours", "3"]]
    assert lines[3] == ["slow", "/", "ours:", "4", "times"]


@pytest.mark.parametrize("way", [pool.EachTime, pool.Loader, pool.Pooled])
def test_every_way_yields_the_same_kind_of_batches(
    way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAPP_CACHE", str(tmp_path / "cache"))
    pool.write_jpegs(tmp_path / "pictures", 3)
    for path in (tmp_path / "pictures").iterdir():
        with Image.open(path) as image:
            assert 500 <= image.width <= 1024
            assert image.height == round(image.width * 3 / 4)
    job = pool.Job(tmp_path / "pictures", tmp_path / "cache", batches=2, seed=0)
    batches = list(way(job))
    assert len(batches) == 2
    for pictures, targets in batches:
        assert (pictures.dtype, pictures.shape) == (np.uint8, (8, 64, 64, 3))
        assert (targets.dtype, targets.shape) == (np.uint8, (8, 64, 64))
        for picture, target in zip(pictures, targets, strict=True):
            np.testing.assert_array_equal(pool.resolve("sobel_3")(picture), target)
    assert np.ptp(batches[0][0]) > 0


def test_pool_prints_one_document() -> None:
    few = ("--pictures", "5", "--batches", "1", "--consumers", "2", "--repeats", "1")
    done = clapp("bench", "pool", *few, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document.keys() == {"rows", "ratios", "machine"}
    rows = {row["name"].removesuffix(", 2 consumers"): row for row in document["rows"]}
    assert {way: (row["crops"], row["decoded"]) for way, row in rows.items()} == {
        "decoding each time": (16, 16),
        "DataLoader": (16, 16),
        "ours cold": (16, 5),  # each picture once, though two share the pool
        "ours warm": (16, 0),
    }
    assert document["ratios"] == {
        f"{peer} / {ours}, 2 consumers": pytest.approx(
            rows[ours]["pictures_per_s"] / rows[peer]["pictures_per_s"]
        )
        for peer in ("decoding each time", "DataLoader")
        for ours in ("ours cold", "ours warm")
    }


def test_pool_compares_the_decoding_of_few_and_many() -> None:
    names = ("decoding each time", "DataLoader", "ours cold", "ours warm")
    rows = [
        {"name": f"{name}, {number}", "pictures_per_s": 10.0, "decoded": decoded}
        for name in names
        for number, decoded in (("1 consumer", 50), ("4 consumers", 55))
    ]
    ratios = pool._ratios(rows, [1, 4])
    assert ratios.pop("pictures decoded by ours, 4 consumers / 1") == 1.1
    assert list(ratios.values()) == [1.0] * 8


def test_infer_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clapp.models.build import build_model  # not above: every fresh process would import torch
    from clapp.training.folder import save_config, save_weights

    monkeypatch.setattr(infer, "WARM_UP_SECONDS", 0.0)
    config = load_config(overrides=["model.capacity=1", "model.num_layers=1"])
    save_config(tmp_path, config)
    save_weights(tmp_path, build_model(config.model))
    result = infer.run(sizes=[64], model=tmp_path, repeats=1)
    small = tmp_path.name
    names = [
        "reference, PyTorch, 64 px",
        "reference, ONNX Runtime, 64 px",
        "reference, C, 64 px",
        f"{small}, PyTorch, 64 px",
        f"{small}, ONNX Runtime, 64 px",
        f"{small}, C, 64 px",
        "OpenCV, 64 px",
    ]
    assert [row["name"] for row in result.rows] == names
    assert all(row["ms"] > 0 and row["peak_mib"] > 10 for row in result.rows)
    times = [row["ms"] for row in result.rows]
    assert result.ratios == {
        "reference, PyTorch / ours, 64 px": times[0] / times[5],
        "reference, ONNX Runtime / ours, 64 px": times[1] / times[5],
        "ours in PyTorch / ours, 64 px": times[3] / times[5],
        "ours in ONNX Runtime / ours, 64 px": times[4] / times[5],
        "OpenCV / ours, 64 px": times[6] / times[5],
    }


def test_infer_without_a_model() -> None:
    with pytest.raises(UserError, match="does not exist"):
        infer.run(sizes=[64], model=Path("nowhere"), repeats=1)


def test_the_small_model_has_the_form_of_the_filter() -> None:
    network = infer.small()
    assert network.name == "sobel_3's own form (untrained)"
    assert sum(p.numel() for p in network.model.parameters()) == 59
    assert infer.photograph(40).shape == (40, 40, 3)


def test_layer_without_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import layer
    from clapp.models.build import build_model

    def untrained() -> Any:
        return build_model(layer._SMALL).eval().requires_grad_(False)

    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.setattr(layer, "_model", untrained)
    result = layer.run(1)
    ours, plain = result.rows
    assert [ours["name"], plain["name"]] == ["ours", "no edge loss"]
    assert ours["edge_gradient"] > 0 == plain["edge_gradient"]
    assert all(10 < row["psnr_db"] < 60 and 0 < row["edge_l2"] < 1 for row in result.rows)
    assert list(result.ratios) == ["no edge loss / ours, ms a step"]


def test_driver_runs_the_real_study() -> None:
    result = driver.run([3], repeats=1)
    ours, peer = result.rows
    assert [ours["name"], peer["name"]] == ["ours, 3 trials", "plain Optuna, 3 trials"]
    for row in (ours, peer):
        parts = [row[f"{part}_ms"] for part in ("ask", "sample", "objective", "keep", "rest")]
        assert sum(parts) == pytest.approx(row["ms"])
        assert all(value > 0 for value in parts if value != peer["keep_ms"])
        assert row["asked"] >= 3
    assert ours["keep_ms"] > peer["keep_ms"] == 0
    assert result.ratios == {
        f"plain Optuna / ours, 3 trials, {what}": peer[key] / ours[key]
        for what, key in (
            ("all", "ms"),
            ("last tenth", "last_tenth_ms"),
            ("sampling", "sample_ms"),
        )
    }


def test_parts_exclude_the_parts_within() -> None:
    watch = driver.Watch()
    with watch.timed("objective"):
        with watch.timed("train"):
            time.sleep(0.05)
        watch.mark()
    assert watch.parts["train"] >= 0.05
    assert watch.parts["objective"] < 0.04
    assert watch.figures()["ms"] < 40


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from clapp.commands.app import app\n"
        "try:\n"
        "    app(['bench', 'pool', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(sorted({'torch', 'optuna', 'cv2', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--batches" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    listed = clapp("bench", "--help").stdout
    assert all(verb in listed for verb in ("trainer", "pool", "study", "infer", "driver", "scale"))


def test_large_pictures_beside_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # set back afterwards
    monkeypatch.setattr(large, "in_process", lambda call, *words: (call(*words), 0))
    monkeypatch.setattr(large, "MEMORY", 4_000_000)
    result = large.run(1100, ["over its maximum"], 1, whole=True)
    assert [row["name"] for row in result.rows] == [
        f"over its maximum, {way}" for way in ("tiles", "tiles, 2 threads", "whole")
    ]
    for row in result.rows:
        assert 0 < row["critical_seconds"] <= row["cpu_seconds"]
        assert abs(row["mib_above_idle"]) < 256
    assert result.ratios.keys() == {
        "over its maximum: whole / tiles",
        "over its maximum: 1 thread / 2 threads",
    }
