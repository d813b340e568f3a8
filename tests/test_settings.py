"""Parameters of a filter as inputs of the network, from the configuration to every export."""

import json
from pathlib import Path
from typing import Any

import forked
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import clapp
from clapp.commands.app import app
from clapp.commands.train import train_to_folder
from clapp.config import Config, Layer, differences, identity, load_config, nest
from clapp.errors import ConfigError, UserError
from clapp.export.formats import Bundle
from clapp.export.onnx import parity, write_onnx
from clapp.export.options import Options
from clapp.export.writers import write_format
from clapp.filters.learned.settings import (
    Setting,
    adjustable,
    drawn,
    grid,
    joined,
    ranged_name,
    settings_of,
)
from clapp.filters.library import apply_filter
from clapp.inference.evaluate import evaluate
from clapp.inference.picture import filter_picture
from clapp.inference.runner import open_runner
from clapp.models.build import build_model
from clapp.models.costs import cost
from clapp.models.words import model_in_words
from clapp.pool.batches import Batches
from clapp.pool.pool import Pool
from clapp.pool.validation import constant_l2, validation_set
from clapp.report.classical import classical
from clapp.study.plan.plan import make_plan
from clapp.training.folder import PREVIEW, load_trained

ROOT = Path(__file__).parents[1]
SIGMA = {"sigma": [0.5, 3]}
SMALL: dict[str, Any] = {
    "train_data": {"crop_size": 32, "resize_base": 64, "min_buffer": 4, "max_buffer": 8,
                   "target_filter": "gaussian"},
    "valid_data": {"num_images": 2, "crop_size": 48, "resize_base": 64},
    "parameter": SIGMA,
    "model": {"capacity": 8, "num_layers": 2, "kernel_size": [5, 1], "norm": "none", "stem": 0,
              "padding": "reflect", "activation": "gelu"},
    "train": {"device": "cpu", "max_iterations": 400, "min_iterations": 400, "loss_type": "l2",
              "optimizer": "adam", "learning_rate": 0.02, "stop_l2_loss": None},
}  # fmt: skip


def config_of(**changes: Any) -> Config:
    return load_config({**SMALL, **changes})


def filtered(spec: Any, parameter: Any) -> Config:
    data = {**SMALL["train_data"], "target_filter": spec}
    return load_config({**SMALL, "train_data": data, "parameter": parameter})


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that blurs as much as it is told."""
    folder = tmp_path_factory.mktemp("settings") / "blur"
    train_to_folder(config_of(), folder)
    return folder


def picture(height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("spec", "parameter", "message"),
    [
        ("gaussian", {"sigmaa": [1, 2]}, "filter gaussian has no parameter 'sigmaa'; did you mean"),
        ("gaussian", {"sigma": [0.1, 2]}, r"\[0.1, 2\] is not allowed; .* within numbers from 0.3"),
        ("gaussian", {"sigma": [2, 1]}, "two numbers, the lower one first"),
        ("gaussian", {"sigma": [1]}, r"sigma: \[1\] is not allowed; allowed: two numbers"),
        ("gaussian", {"sigma": 1}, "sigma: 1 is not allowed; allowed: two numbers"),
        ("gaussian", {"sigma": ["a", 2]}, "allowed: two numbers"),
        ("gaussian", {}, "parameter: {} names none"),
        ("gaussian", {"channels": [1, 3]}, "channels is no number but 1, 3; .*: sigma, ksize"),
        ("canny", {"root": [0, 1]}, "root is no number but true or false"),
        ("median", {"ksize": [3, 8]}, "within odd whole numbers from 3 to 31"),
        ("canny", {"low": [20, 180]}, "at an end of the ranges: filter canny: low 180 must not"),
        ({"name": "gaussian", "sigma": 2}, SIGMA, "fixes it as well; write it once"),
        (["gaussian", "gaussian"], SIGMA, "2 filters of the chain have it"),
        ("sobel_3", SIGMA, "known: none; it has no parameters"),
        ({"kernel": [[1]]}, SIGMA, "kernel 1x1 has no parameter 'sigma'"),
        ("gaussian", {"image": [0, 1]}, "name is taken"),
    ],
)
def test_ranges_that_are_refused(spec: Any, parameter: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        filtered(spec, parameter)
    assert "\n" not in str(caught.value)


def test_inputs_follow_from_the_settings() -> None:
    config = filtered("canny", {"low": [20, 80], "high": [100, 200]})
    assert config.model.input_channels == 5
    assert load_config(nest(differences(config))) == config
    assert identity(config) != identity(filtered("canny", {"low": [20, 80]}))
    with pytest.raises(ConfigError, match=r"input_channels 3 is not allowed; .*: 4, .* `param"):
        config_of(model={**SMALL["model"], "input_channels": 3})
    assert identity(load_config()) == "a1ce5a66f8a89e4f"  # as before there were settings


def test_a_study_says_it_at_its_top(tmp_path: Path) -> None:
    file = tmp_path / "soft.yaml"
    file.write_text("filter: gaussian\nparameter: {sigma: [0.5, 3]}\nbaselines: {}\n")
    plan = make_plan(str(file))
    assert plan.base["parameter"] == {"sigma": [0.5, 3.0]}
    assert plan.base["model.input_channels"] == 4
    file.write_text(file.read_text() + "config: {parameter: {sigma: [1, 2]}}\n")
    with pytest.raises(ConfigError, match=r"parameter: config\.parameter says it too"):
        make_plan(str(file))
    space = {"parameter": {"type": "categorical", "choices": [None]}}
    with pytest.raises(ConfigError, match="parameter: cannot be searched: losses of different"):
        make_plan("smoke", overrides=[Layer("test", {"search_space": space})])


def test_whole_and_odd_values() -> None:
    (odd,) = settings_of("median", {"ksize": [3, 9]})
    assert [odd.at(int(level)) for level in odd.levels()] == [3, 5, 7, 9]
    assert odd.taken(7, "x") == 7
    for wrong in (4, 11, 5.5, True, "5"):
        with pytest.raises(UserError, match=r"x: .* is not allowed; allowed: every other whole"):
            odd.taken(wrong, "x")
    image = picture()
    learned = adjustable("median", {"ksize": [3, 9]})
    for size, level in zip((3, 5, 7, 9), odd.levels(), strict=True):
        given = joined(image[None], np.array([[level]], np.uint8))[0]
        assert (learned(given) == apply_filter({"name": "median", "ksize": size}, image)).all()
    assert ranged_name("median", {"ksize": [3, 9]}) == "median(ksize=3 to 9)"
    assert ranged_name({"name": "median", "channels": 3}, {"ksize": [3, 9]}) == (
        "median(channels=3, ksize=3 to 9)"
    )


def test_the_grid_has_both_ends() -> None:
    one = (Setting("a", 0.5, 3.0),)
    assert [one[0].at(levels[0]) for levels in grid(one)] == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
    both = (*one, Setting("b", 3, 5, 2))
    assert set(grid(both)) == {(a, b) for a in (0, 85, 170, 255) for b in (0, 255)}


def test_each_crop_has_its_own_value() -> None:
    config = config_of()
    with Pool.open(config.train_data, 1) as pool:
        learned = adjustable("gaussian", SIGMA)
        images, targets = Batches(pool, learned, 16, 32, 64, 0).get(3)
        plain, _ = Batches(pool, None, 16, 32, 64, 0).get(3)
    assert images.shape == (16, 32, 32, 4)
    assert (images[..., :3] == plain).all()  # what is drawn for a value moves no crop
    levels = images[:, 0, 0, 3]
    assert len(set(levels.tolist())) > 8
    for image, level, target in zip(images, levels, targets, strict=True):
        sigma = 0.5 + int(level) / 255 * 2.5
        alone = apply_filter({"name": "gaussian", "sigma": sigma}, image[..., :3].copy())
        assert (image[..., 3] == level).all()
        assert (target == alone).all()
    spread = drawn(learned.settings, 4000, np.random.default_rng(0))
    assert (spread.min(), spread.max()) == (0, 255)
    assert spread.mean() == pytest.approx(127.5, abs=5)


def test_validation_is_over_the_grid() -> None:
    config = config_of()
    images, targets = validation_set(config.valid_data, "gaussian", SIGMA)
    assert images.shape == (2 * 6, 48, 48, 4)
    assert images[:6, 0, 0, 3].tolist() == [0, 51, 102, 153, 204, 255]
    spread = [float(target.var()) for target in targets[:6]]
    assert spread == sorted(spread, reverse=True)
    assert constant_l2(config.valid_data, "gaussian", SIGMA) == pytest.approx(
        float((targets / 255).var())
    )


def test_the_network_does_what_it_is_told(blur: Path) -> None:
    for own, other in ((0.5, 3), (3, 0.5)):
        near, far = (
            evaluate(blur, "photos:validation", {"name": "gaussian", "sigma": s}, 64, 48,
                     {"sigma": own})
            for s in (own, other)
        )  # fmt: skip
        assert near.l2 < far.l2
    assert (blur / PREVIEW).is_file()


def test_a_loaded_model_takes_keywords(blur: Path) -> None:
    model = clapp.load(blur)
    net, config = load_trained(blur)
    x = torch.rand(3, 3, 24, 20)
    with torch.no_grad():
        found = model(x, sigma=1.75)
        expected = net(torch.cat([x, torch.full((3, 1, 24, 20), 0.5)], 1))
        torch.testing.assert_close(found, expected)
        each = model(x, sigma=torch.tensor([0.5, 1.75, 3.0]))
        torch.testing.assert_close(each[1], found[1])
        assert not torch.allclose(each[0], found[0])
    assert model.min_size == net.min_size
    assert model.config == config.model
    with pytest.raises(UserError, match=r"its setting sigma has no value; give sigma=VALUE"):
        model(x)
    with pytest.raises(UserError, match=r"sigma=: 9.0 is not allowed; allowed: numbers from 0.5"):
        model(x, sigma=torch.tensor([1.0, 9.0, 1.0]))
    with pytest.raises(UserError, match="no such setting; did you mean sigma"):
        model(x, sigme=1.0)


@pytest.mark.parametrize("uint8", [False, True])
def test_every_format_has_it_as_an_input(blur: Path, tmp_path: Path, uint8: bool) -> None:
    net, config = load_trained(blur)
    images, _ = validation_set(config.valid_data, "gaussian", SIGMA)
    chosen = (images[0], images[3, :31, :45], images[5])
    proof = [np.ascontiguousarray(i.transpose(2, 0, 1)[None], np.float32) / 255 for i in chosen]
    bundle = Bundle(tmp_path, net, config, Options(uint8=uint8), proof, {"filter": '"gaussian"'})
    exact = ("onnx", "c", "python", "program", "openvino", "tflite")
    for name in (*exact, "onnx-int8", "c-int8", "tflite-int8"):
        written, differences = write_format(name, bundle)
        for one in differences:
            if "Micro" in one.name:  # which has no GELU
                continue
            assert not isinstance(one.values, str), (name, one.values)
            assert max(one.values) < (1e-4 if name in exact else 0.05), (name, one.values)
    assert written.files["model_int8.tflite"].endswith("channel behind them, (sigma - 0.5) / 2.5")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [one.name for one in session.get_inputs()] == ["image", "sigma"]
    batch = np.repeat(proof[0][:, :3], 2, axis=0)
    given = np.rint(batch * 255).astype(np.uint8) if uint8 else batch
    two = session.run(None, {"image": given, "sigma": np.array([0.5, 3], np.float32)})[0]
    one = session.run(None, {"image": given, "sigma": np.array([3], np.float32)})[0]
    assert np.abs(two[1] - one[1]).max() < 1e-6
    assert np.abs(two[0] - one[0]).max() > 0.01
    assert "float sigma" in (tmp_path / "model.h").read_text()
    folder, file = (open_runner(p, {"sigma": 1.2}) for p in (blur, tmp_path / "model.onnx"))
    assert np.abs(folder.run(batch) - file.run(batch)).max() < 1e-4
    assert file.filter == {"name": "gaussian", "sigma": 1.2}


def test_tiles_and_one_size(blur: Path, tmp_path: Path) -> None:
    image = picture(300, 280)
    runner = open_runner(blur, {"sigma": 2})
    whole = filter_picture(runner, image)
    parts = filter_picture(runner, image, 2_000_000)
    assert np.abs(whole.astype(int) - parts).max() <= 1
    net, config = load_trained(blur)
    proof = [torch.rand(1, 4, 24, 37).numpy()]
    proof[0][:, 3] = 0.25
    bundle = Bundle(tmp_path, net, config, Options(size=(24, 37)), proof, {})
    for name in ("onnx", "opencv-dnn"):
        _, (difference,) = write_format(name, bundle)
        assert isinstance(difference.values, str) or max(difference.values) < 1e-4


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_on_the_command_line(blur: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(picture()).save(source)
    assert run("infer", blur, source, out, "--set", "sigma=1.2")[0] == 0
    with Image.open(out) as written:
        assert written.size == (56, 40)
    for given, message in (
        ((), "its setting sigma has no value; give --set sigma=VALUE (numbers from 0.5 to 3)"),
        (("--set", "sigma=9"), "--set sigma=: 9.0 is not allowed; allowed: numbers from 0.5 to 3"),
        (("--set", "sigme=1"), "no such setting; did you mean sigma? known: sigma"),
        (("--set", "sigma=x"), "--set sigma=x: NAME=NUMBER is expected, such as sigma=1.2"),
        (("--set", "sigma=nan"), "--set sigma=: nan is not allowed"),
        (("--set", "sigma=1", "--set", "sigma=2"), "sigma is given twice"),
    ):
        code, text = run("infer", blur, source, out, *given)
        assert (code, message in text) == (2, True), text
    sizes = ("--resize", "64", "--crop", "48", "--json")
    code, text = run("evaluate", blur, "photos:validation", "--set", "sigma=1.5", *sizes)
    found = json.loads(text[text.index("{") :])
    assert found["set"] == {"sigma": 1.5}
    fixed = evaluate(blur, "photos:validation", None, 64, 48, {"sigma": 1.5})
    assert found["l2"] == pytest.approx(fixed.l2)
    other = evaluate(
        blur, "photos:validation", {"name": "gaussian", "sigma": 3}, 64, 48, {"sigma": 1.5}
    )
    assert other.l2 != pytest.approx(fixed.l2)  # it is the filter at 1.5 that was compared


def test_a_model_without_settings_takes_none(tmp_path: Path) -> None:
    config = config_of(parameter=None, train={**SMALL["train"], "max_iterations": 5,
                                              "min_iterations": 1})  # fmt: skip
    train_to_folder(config, tmp_path / "plain")
    with pytest.raises(UserError, match="no such setting; known: none; its filter is fixed"):
        open_runner(tmp_path / "plain", {"sigma": 1})


def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings_filter.py").write_text(
        "import numpy as np\n"
        "def shift(image, by, *, gain=1.0):\n"
        "    return (image[..., 0] / 255 * gain * by).clip(0, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    config = filtered("settings_filter:shift", {"by": [0, 1], "gain": [0.5, 1]})
    assert [s.name for s in config.settings] == ["by", "gain"]
    images, targets = validation_set(config.valid_data, config.target_filter, config.parameter)
    assert images.shape == (2 * 16, 48, 48, 5)
    np.testing.assert_allclose(targets[15], images[15, ..., 0] / 255, atol=1e-6)
    with pytest.raises(ConfigError, match="has no parameter 'bye'; did you mean by"):
        filtered("settings_filter:shift", {"bye": [0, 1]})


def test_costs_of_the_classical_filter() -> None:
    assert classical("gaussian", SIGMA).source == "What it costs depends on sigma."
    assert classical("canny", {"low": [20, 80]}).flops == classical("canny").flops


def test_a_study_is_searched_exported_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "soft.yaml"
    file.write_text(
        "filter: gaussian\nparameter: {sigma: [0.5, 3]}\nsearch_space: tiny\nbaselines: {}\n"
        "budget: {trials: 3}\nconfig:\n"
        "  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}\n"
        "  valid_data: {resize_base: 64, crop_size: 48, num_images: 2}\n"
        "  train: {batch_size: 2, min_iterations: 1, max_iterations: 40, validation_interval: 20}\n"
    )
    results = tmp_path / "results"
    common = ("--results", results)
    search = ("optimize.py", "--study", file, "--workers", "1", *common)
    done = forked.clapp(*map(str, search), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code, text = run("export", file, *common, "--json")
    assert code == 0, text
    folder = Path(json.loads(text[text.index("{") :])["path"])
    card = (folder / "card.md").read_text()
    for said in (
        "`gaussian(sigma=0.5 to 3)`",
        "| mean PSNR at sigma=0.5 |",
        "| mean PSNR at sigma=3 |",
        "filtered.png --set sigma=1.75",
        "model(image, sigma=1.75)",
        '"sigma": np.array([1.75], np.float32)',
    ):
        assert said in card, said
    assert run("report", file, *common)[0] == 0
    assert "gaussian(sigma=0.5 to 3)" in (results / "soft" / "report.html").read_text()


@pytest.mark.parametrize("family", ["can", "global"])
def test_settings_that_scale_and_shift(family: str, tmp_path: Path) -> None:
    model = {"family": family, "width": 3, "depth": 2, "settings": "scale"}
    config = config_of(model=model, parameter={"sigma": [0.5, 3], "ksize": [3, 9]})
    torch.manual_seed(0)
    net = build_model(config.model).eval()
    assert cost(config.model).params == sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        for value in net.parameters():
            value.add_(torch.randn_like(value) / 5)
    pictures = torch.rand(2, 5, 33, 40)
    pictures[:, 3:] = torch.tensor([[0.2, 0.9], [1.0, 0.0]])[..., None, None]
    other = pictures.clone()
    other[:, 3:] = 0.5
    with torch.no_grad():
        assert not torch.allclose(net(pictures), net(other), atol=1e-3)
    write_onnx(net, tmp_path / "net.onnx", {}, settings=config.settings)
    assert parity(net, tmp_path / "net.onnx", [pictures.numpy()]) < 1e-4
    assert "its settings" in model_in_words(config.model)
    with pytest.raises(ConfigError, match="settings scale is not allowed without settings"):
        config_of(model=model, parameter=None)
