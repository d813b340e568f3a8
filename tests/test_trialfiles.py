import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import clapp
from clapp.config import Config, load_config
from clapp.errors import UserError
from clapp.models.build import build_model
from clapp.models.networks.filternet import FilterNet
from clapp.training import preview
from clapp.training.folder import is_model_folder, load_trained, read_result, save_trained
from clapp.training.trainer import Point, TrainResult

MODEL = {"capacity": 2, "num_layers": 1, "padding": "reflect"}


def trained(model: FilterNet, **changes: object) -> TrainResult:
    """What a training returns, without the training."""
    point = Point(step=10, seconds=0.5, train_loss=0.1, l2=0.02, ema=0.03, learning_rate=0.003)
    result = TrainResult(
        model=model.eval(),
        loss=0.02,
        ema=0.03,
        stop_reason="iterations",
        iterations=10,
        images=320,
        seconds=1.5,
        timings={"data": 0.5, "step": 1.0},
        curve=[point],
        device="cpu",
        optimizer="adam",
        starts=1,
    )
    return replace(result, **changes)


@pytest.fixture
def config() -> Config:
    return load_config({"model": MODEL, "train_data": {"token": "hf_secret"}})


@pytest.fixture
def folder(tmp_path, config):
    torch.manual_seed(3)
    save_trained(tmp_path / "00007", config, trained(build_model(config.model)))
    return tmp_path / "00007"


def test_round_trip(folder, config):
    torch.manual_seed(3)
    original = build_model(config.model).eval()
    state = torch.random.get_rng_state()
    model, loaded = load_trained(folder)
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws nothing
    assert not model.training
    assert loaded.model == config.model
    assert loaded.train == config.train
    x = torch.rand(1, 3, 31, 45)
    torch.testing.assert_close(model(x), original(x), rtol=0, atol=0)
    torch.testing.assert_close(clapp.load(str(folder))(x), original(x), rtol=0, atol=0)
    assert all(p.requires_grad for p in model.parameters())


def test_files(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "config.yaml",
        "curve.json",
        "curve.svg",
        "model.safetensors",
        "preview.png",
        "result.json",
    ]
    assert is_model_folder(folder)
    assert json.loads((folder / "curve.json").read_text())[0]["l2"] == 0.02
    result = read_result(folder)
    assert result["params"] == sum(p.numel() for p in load_trained(folder)[0].parameters())
    assert result["stop_reason"] == "iterations"
    assert result["versions"]["torch"] == torch.__version__


def test_access_tokens_are_not_written(folder):
    assert "hf_secret" not in (folder / "config.yaml").read_text()


def test_a_diverged_training_is_kept(tmp_path, config):
    model = build_model(config.model)
    with torch.no_grad():
        model.post.weight.fill_(float("nan"))
    save_trained(tmp_path / "x", config, trained(model, loss=float("nan"), stop_reason="nan"))
    text = (tmp_path / "x" / "result.json").read_text()
    assert json.loads(text)["loss"] is None
    assert "NaN" not in text


def test_preview_is_small(folder):
    path = folder / "preview.png"
    assert path.stat().st_size < 300_000
    with Image.open(path) as image:
        image.load()
        assert image.size == (734, 568)


def test_preview_shows_the_four_columns():
    side = preview._SIDE
    images = np.full((1, side, side, 3), (200, 100, 50), np.uint8)
    targets = np.full((1, side, side), 51, np.uint8)
    outputs = np.full((1, side, side), 0.3, np.float32)  # 0.1 above the target
    sheet = preview.draw(images, targets, outputs)
    step, middle = side + 6, 22 + side // 2
    pixels = [sheet.getpixel((6 + side // 2 + column * step, middle)) for column in range(4)]
    assert pixels == [(200, 100, 50), (51,) * 3, (76,) * 3, preview._BRIGHTER]


def test_missing_and_wrong_folders(tmp_path, folder):
    with pytest.raises(UserError, match=r"nowhere: does not exist"):
        clapp.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"result\.json: is a file; an export or trial folder"):
        clapp.load(folder / "result.json")
    with pytest.raises(UserError, match=r"config\.yaml: no such file"):
        clapp.load(tmp_path)
    (folder / "model.safetensors").unlink()
    assert not is_model_folder(folder)
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        clapp.load(folder)


@pytest.mark.parametrize("keep", [0, 5, 200])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        clapp.load(folder)


def test_a_pickle_is_not_loaded(folder):
    torch.save({"x": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        clapp.load(folder)


def test_weights_of_another_configuration(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "prep.weight": torch.ones(3, 3, 1, 1)}, path)
    with pytest.raises(UserError, match=r"prep\.weight is torch\.float32 \(3, 3, 1, 1\) here and "):
        clapp.load(folder)
    save_file({k: v for k, v in weights.items() if k != "post.bias"}, path)
    with pytest.raises(UserError, match=r"post\.bias is missing here"):
        clapp.load(folder)
    save_file({**weights, "more": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"more is torch\.float32 \(1,\) here and absent there"):
        clapp.load(folder)


def test_broken_configuration_and_result(folder):
    (folder / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json: cannot be read"):
        read_result(folder)
    (folder / "config.yaml").write_text("model: {capacity: -1}\n")
    with pytest.raises(UserError, match=r"config\.yaml: model\.capacity: -1"):
        clapp.load(folder)


def test_a_folder_loads_where_its_filter_is_missing(folder, config):
    text = (folder / "config.yaml").read_text()
    for spec in ("nowhere:f", "a_filter_of_a_plugin"):
        changed = text.replace("target_filter: sobel_3", f"target_filter: {spec}")
        assert changed != text
        (folder / "config.yaml").write_text(changed)
        assert load_trained(folder)[1].target_filter == spec


def rewrite(folder, **metadata):
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata or None)


def test_the_version_that_wrote_a_folder(folder):
    with safe_open(folder / "model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "1", "clapp": clapp.__version__}
    rewrite(folder)  # older than formats
    clapp.load(folder)
    rewrite(folder, format="pt")  # saved again by another program
    clapp.load(folder)
    rewrite(folder, format="2", clapp="7.0.0")
    with pytest.raises(UserError, match=r"CLAPP 7\.0\.0 wrote it in format 2; this is CLAPP 0\."):
        clapp.load(folder)
    rewrite(folder, format="1", clapp="7.0.0")
    (folder / "config.yaml").write_text("model: {new_key: 3}\n")
    with pytest.raises(UserError, match=r"new_key: unknown key.*; CLAPP 7\.0\.0 wrote it, this is"):
        clapp.load(folder)


def test_a_difference_has_a_sign_and_says_by_what_it_is_scaled():
    difference = np.array([[0.0, 0.02], [-0.01, -0.02]], np.float32)
    colours, factor = preview.signed(difference)
    assert factor == "x50"
    assert colours[0, 0].tolist() == [255, 255, 255]
    assert tuple(colours[0, 1]) == preview._BRIGHTER
    assert tuple(colours[1, 1]) == preview._DARKER
    halfway = [(255 + full) / 2 for full in preview._DARKER]
    assert colours[1, 0].tolist() == pytest.approx(halfway, abs=1)
    assert preview.signed(np.zeros((2, 2), np.float32))[1] == "x1"
