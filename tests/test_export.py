import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import optuna
import pytest
import torch
from optuna.trial import create_trial
from PIL import Image

import clapp
import clapp.export.writers
import clapp.training.int8.loss
from clapp.config import load_config
from clapp.errors import ConfigError, ParityError, UserError
from clapp.export.folder import FILES, ExportResult, export_pick
from clapp.export.onnx import parity, write_onnx
from clapp.export.options import Options
from clapp.front.objectives import loss_text
from clapp.models.build import build_model
from clapp.models.costs import cost
from clapp.study.storage.storage import default_url, open_storage
from clapp.training.folder import save_trained
from clapp.training.trainer import TrainResult

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

MODELS = [
    {"capacity": 4, "num_layers": 2},
    {"capacity": 2, "num_layers": 1, "padding": "reflect", "activation": "square",
     "output_activation": "sqrt", "output_norm": "max", "norm": "none"},
    {"capacity": 3, "num_layers": 1, "padding": "replicate", "downsample": 2},
]  # fmt: skip
LOSSES = [0.004, 0.0001, 0.002]


def save_trial(folder: Path, model: dict, loss: float, kernel: bool = False) -> None:
    spec = {"kernel": [[0, 1], [1, 0]], "normalize": "max"} if kernel else "sobel_3"
    config = load_config({"model": model, "train_data": {"target_filter": spec}})
    torch.manual_seed(1)
    net = build_model(config.model).eval()
    timings = {"data": 0.0, "step": 0.0, "validate": 0.0}
    result = TrainResult(
        net, loss, loss, "plateau", 1500, 48_000, 7.0, timings, [], "cpu", "adam", 1
    )
    save_trained(folder, config, result)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with the study `edges` of three finished trials."""
    results = tmp_path_factory.mktemp("results")
    folder = results / "edges"
    folder.mkdir()
    study = optuna.create_study(
        study_name="edges",
        storage=open_storage(default_url(folder)),
        directions=["minimize"] * 3,
    )
    study.set_metric_names(["loss", "params", "flops"])
    for number, (model, loss) in enumerate(zip(MODELS, LOSSES, strict=True)):
        save_trial(folder / "trials" / f"{number:05d}", model, loss, kernel=number == 2)
        size = cost(model)
        attributes = {"config": {}, "loss": loss, "params": size.params, "flops": size.flops}
        if number == 0:
            attributes["baseline"] = "reference"
        values = [loss, size.params, size.flops]
        study.add_trial(create_trial(values=values, user_attrs=attributes))
    return results


@pytest.fixture(scope="module")
def exported(results) -> ExportResult:
    return export_pick("edges", "min-loss", results)


def test_export_writes_the_whole_folder(exported, results):
    assert exported.path == results / "edges" / "export" / "min-loss"
    assert sorted(p.name for p in exported.path.iterdir()) == sorted(FILES)
    assert sorted(p.name for p in exported.path.parent.iterdir()) == ["min-loss"]
    document = exported.document()
    assert document["path"] == str(exported.path)
    assert (document["trial"], document["loss"]) == (1, 0.0001)
    assert document["params"] == cost(MODELS[1]).params
    assert document["flops"] == cost(MODELS[1]).flops
    assert document["files"] == FILES
    assert (document["crops"], document["test_crops"]) == (18, 36)
    assert document["test_low"] < document["test_loss"] < document["test_high"]
    assert "stability" not in document  # made up without the spread of its losses
    assert 0 < exported.parity <= 1e-4


def test_exported_weights_are_the_trial_s(exported, results):
    x = torch.rand(1, 3, 40, 33)
    ours = clapp.load(exported.path)(x)
    theirs = clapp.load(results / "edges" / "trials" / "00001")(x)
    assert torch.equal(ours, theirs)


def test_onnx_says_what_it_is(exported):
    model = onnx.load(exported.path / "model.onnx")
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties == {
        "filter": '"sobel_3"',
        "params": str(exported.params),
        "loss": properties["loss"],
        "min_size": "2",
        "parts_with_statistics": "[1, 1, 1, 76]",
        "clapp": clapp.__version__,
        "input": '{"name": "image", "type": "float32", "layout": "(N, 3, H, W)", "range": [0, 1]}',
        "output": properties["output"],
    }
    assert 0 < float(properties["loss"]) < 1
    assert json.loads(properties["output"])["layout"] == "(N, 1, H, W)"
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 1, "height", "width"]]


def test_card_has_the_numbers(exported):
    card = (exported.path / "card.md").read_text()
    assert card.startswith(f"# `sobel_3` in {exported.params} parameters\n")
    assert "| from | study edges, trial 1 |" in card
    assert "| chosen by | `min-loss`: the lowest loss |" in card
    assert (
        f"| hand-tuned reference, same study | loss 0.004 (24.0 dB), {cost(MODELS[0]).params}"
        in card
    )
    assert "| trained for | 1,500 iterations, 48,000 crops, 7 s on cpu |" in card
    assert "$" not in card


def test_card_figures_are_those_of_evaluate(exported):
    from clapp.inference.evaluate import evaluate

    card = (exported.path / "card.md").read_text()
    found = evaluate(exported.path, "photos:validation")
    assert (
        f"| validation loss (mean L2) | {loss_text(found.l2)}, over 18 crops of 6 pictures" in card
    )
    tested = evaluate(exported.path, "photos:test")
    over = "over 36 crops of 6 pictures"
    assert f"| test loss (mean L2) | {loss_text(tested.l2)}, {over}" in card
    assert f"| mean SSIM | {found.ssim:.4f} |" in card
    assert "| validation pictures | photos (validation), shorter side 256" in card


def test_card_s_python_runs(exported, tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", (exported.path / "card.md").read_text(), re.S)
    assert len(snippets) == 2
    for file in exported.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    written = []
    for snippet in snippets:
        exec(snippet, {})
        with Image.open("filtered.png") as image:
            written.append(np.asarray(image).astype(int))
        Path("filtered.png").unlink()
    assert written[0].shape == (61, 90)
    assert written[0].max() > 0
    assert np.abs(written[0] - written[1]).max() <= 1


def test_export_replaces_an_export_and_nothing_else(exported, results, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(exported.path, out)
    assert export_pick("edges", "trial=2", results, out=out).trial == 2
    assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
    card = (out / "card.md").read_text()
    assert card.startswith("# `kernel 2x2` in ")
    assert "normalize: max\n```" in card  # an inline kernel is written out
    properties = {p.key: p.value for p in onnx.load(out / "model.onnx").metadata_props}
    assert json.loads(properties["filter"]) == {"kernel": [[0, 1], [1, 0]], "normalize": "max"}
    for other in (tmp_path, results / "edges" / "trials" / "00001"):
        before = sorted(other.iterdir())
        with pytest.raises(UserError, match="is there already and is no export"):
            export_pick("edges", "min-loss", results, out=other)
        assert sorted(other.iterdir()) == before


def test_a_failed_parity_check_leaves_nothing(exported, results, tmp_path, monkeypatch):
    def write_another(_model, path, *_):
        shutil.copy(exported.path / "model.onnx", path)

    monkeypatch.setattr(clapp.export.writers, "write_onnx", write_another)
    with pytest.raises(ParityError, match=r"differ by .* on a picture of 224x224"):
        export_pick("edges", "trial=2", results, out=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_mistakes(results, tmp_path):
    with pytest.raises(UserError, match="no study named 'corners'"):
        export_pick("corners", "knee", results)
    with pytest.raises(UserError, match="no such rule"):
        export_pick("edges", "best", results)
    with pytest.raises(UserError, match="trial 9 did not finish"):
        export_pick("edges", "trial=9", results)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_pick("edges", "min-loss", results, out=tmp_path / "file" / "model")


def test_a_trial_whose_files_are_gone(results, tmp_path):
    folder = tmp_path / "edges"
    shutil.copytree(results / "edges", folder, ignore=shutil.ignore_patterns("trials", "export"))
    with pytest.raises(UserError, match="00001: does not exist"):
        export_pick("edges", "min-loss", tmp_path)
    assert not (folder / "export").exists()


def test_a_study_without_a_finished_trial(tmp_path):
    (tmp_path / "empty").mkdir()
    study = optuna.create_study(
        study_name="empty",
        storage=open_storage(default_url(tmp_path / "empty")),
        directions=["minimize"] * 3,
    )
    study.set_metric_names(["loss", "params", "flops"])
    with pytest.raises(UserError, match="no finished trial"):
        export_pick("empty", "knee", tmp_path)


def test_c_files_of_an_export(results, tmp_path):
    options = Options(("c",), (60, 80), 13, uint8=True)
    found = export_pick("edges", "min-loss", results, None, tmp_path / "model", options)
    assert found.files == (*FILES, "model.h", "model.c")
    assert sorted(found.files) == sorted(p.name for p in found.path.iterdir())
    card = (found.path / "card.md").read_text()
    assert "| ONNX opset | 13 |" in card
    assert "| largest difference from PyTorch | 80x60 | 80x60 | 80x60 |" in card
    rows = re.findall(r"^\| (ONNX Runtime|C) \| (\S+) \| (\S+) \| (\S+) \|$", card, re.M)
    assert [row[0] for row in rows] == ["ONNX Runtime", "C"]
    assert all(0 <= float(value) < 1e-5 for row in rows for value in row[1:])
    assert "bytes at a width of 80 (" in card
    assert ".resize((80, 60)))  # uint8 (H, W, 3)" in card
    assert (
        "int sobel_3_run(const uint8_t *image, int height" in (found.path / "model.h").read_text()
    )
    with pytest.raises(ConfigError, match=r"format 'see' is not known; .*known: onnx, c"):
        export_pick("edges", "knee", results, None, tmp_path / "new", Options(("see",)))
    with pytest.raises(UserError, match="--size 1x8: sides of at least 2 pixels"):
        export_pick("edges", "min-loss", results, None, tmp_path / "new", Options(size=(1, 8)))
    assert not (tmp_path / "new").exists()


def test_int8_files_of_an_export(results, tmp_path, monkeypatch):
    monkeypatch.setattr(clapp.training.int8.loss, "_STEPS", 2)
    options = Options(("onnx-int8", "c-int8"), fine_tune=True)
    found = export_pick("edges", "min-loss", results, None, tmp_path / "model", options)
    assert found.files == (*FILES, "model_int8.onnx", "model_int8.h", "model_int8.c")
    card = (found.path / "card.md").read_text()
    assert "| loss in int8 | 0." in card
    assert "| loss in int8, fine-tuned for it | 0." in card
    assert "| ONNX Runtime, int8 | " in card
    assert "| C, int8 | " in card
    header = (found.path / "model_int8.h").read_text()
    assert "int sobel_3_int8_run(const uint8_t *image, int height, int width, int8_t" in header


def test_other_formats_of_an_export(results, tmp_path, monkeypatch):
    formats = ("python", "program", "opencv-dnn", "openvino")
    found = export_pick("edges", "min-loss", results, None, tmp_path / "model", Options(formats))
    extra = ("model.py", "model.pt", "model.pt2", "model.xml", "model.bin")
    assert found.files == (*FILES, *extra)
    assert sorted(found.files) == sorted(p.name for p in found.path.iterdir())
    card = (found.path / "card.md").read_text()
    who = ("ONNX Runtime", "model.py", "torch.export", "OpenCV dnn", "OpenVINO")
    for name in who:
        row = re.search(rf"^\| {re.escape(name)} \| (\S+) \| (\S+) \| (\S+) \|$", card, re.M)
        assert row is not None, name
        assert all(float(value) < 1e-4 for value in row.groups()), name
    # The file needs neither CLAPP nor anything else but torch.
    code = "import sys, model, torch; x = torch.zeros(1, 3, 9, 8); y = model.load()(x);"
    code += "assert y.shape == (1, 1, 9, 8); sys.exit('clapp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=found.path, check=False)
    assert done.returncode == 0
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"--format openvino: the package .* clapp\[openvino\]"):
        export_pick("edges", "knee", results, None, tmp_path / "b", Options(("openvino",)))


def test_tflite_files_of_an_export(results, tmp_path, monkeypatch):
    formats = ("tflite", "tflite-int8", "tflite-16x8", "onnx-16x8")
    found = export_pick("edges", "min-loss", results, None, tmp_path / "model", Options(formats))
    files = ("model.tflite", "model_int8.tflite", "model_16x8.tflite", "model_16x8.onnx")
    assert found.files == (*FILES, *files)
    card = (found.path / "card.md").read_text()
    assert "| loss in 16x8 | 0." in card
    for name in ("TFLite, LiteRT", "TFLite, TFLite Micro", "TFLite, 16x8, TFLite Micro"):
        row = re.search(rf"^\| {re.escape(name)} \| (\S+) \| (\S+) \| (\S+) \|$", card, re.M)
        assert row is not None, name
        assert all(float(value) < (0.2 if "16x8" in name else 1e-4) for value in row.groups()), name
    arena = re.search(r"^\| TFLite, int8: arena of TFLite Micro \| ([\d,]+) bytes at", card, re.M)
    assert arena is not None
    assert 3 * 224 * 224 < int(arena[1].replace(",", "")) < 50 * 224 * 224
    assert "pictures of 224x224, as validation has them; --size gives others |" in card
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    options = Options(("tflite-int8",), size=(40, 50))
    found = export_pick("edges", "min-loss", results, None, tmp_path / "b", options)
    card = (found.path / "card.md").read_text()
    assert "not run: the package tflite-micro is missing; install clapp[tflite]" in card
    assert "| `model_int8.tflite` | the network for TFLite, for pictures of 50x40 |" in card


def test_a_target_brings_its_formats_and_refuses(results, tmp_path):
    options = Options(target="opencv-dnn")
    found = export_pick("edges", "trial=2", results, None, tmp_path / "model", options)
    card = (found.path / "card.md").read_text()
    assert "| target | opencv-dnn: OpenCV's dnn module. |" in card
    assert "| OpenCV dnn | " in card
    with pytest.raises(UserError, match="--target ethos-u: this model does not run there: Sqrt of"):
        export_pick("edges", "trial=0", results, None, tmp_path / "b", Options(target="ethos-u"))
    assert not (tmp_path / "b").exists()


def test_a_card_says_what_was_written_otherwise_for_a_target(results, tmp_path):
    options = Options(("c", "python"), (48, 64), uint8=True, target="ethos-u")
    found = export_pick("edges", "min-loss", results, None, tmp_path / "model", options)
    card = (found.path / "card.md").read_text()
    assert "picture of 64x48 pixels (with CLAPP: of any size) and returns one grey" in card
    assert "In `model.onnx`: uint8, 0 to 255, (1, 3, 48, 64) to float32 (1, 1, 48, 64)." in card
    assert "Written by straight pieces, nearly the same: root, maximum. |" in card
    assert "| loss as written for ethos-u | 0." in card
    assert "| loss in int8, as written for ethos-u | 0." in card
    for name in ("ONNX Runtime", "C", "model.py"):
        row = re.search(rf"^\| {re.escape(name)} \| (\S+) \| (\S+) \| (\S+) \|$", card, re.M)
        assert row is not None, name
        assert all(float(value) < 1e-4 for value in row.groups()), name
    assert "| as written for ethos-u | " in card
    names = {node.op_type for node in onnx.load(found.path / "model.onnx").graph.node}
    assert not names & {"Sqrt", "Div", "ReduceMax", "Pad", "Abs"}
    assert "any size" not in card.replace("(with CLAPP: of any size)", "")


# Each pair of values of padding, downsample, output_norm and separable occurs.
SWITCHES = [
    ("zero_after", 1, "none", False),
    ("zero_after", 2, "max", True),
    ("zero", 1, "max", False),
    ("zero", 2, "none", True),
    ("reflect", 1, "none", True),
    ("reflect", 2, "max", False),
    ("replicate", 1, "max", True),
    ("replicate", 2, "none", False),
]
ACTIVATIONS = ["gelu", "abs", "square", "swish", "leaky_relu", "squared_relu", "tanh", "sigmoid"]


@pytest.mark.parametrize(
    ("switches", "activation"), list(zip(SWITCHES, ACTIVATIONS, strict=True)), ids=str
)
def test_onnx_equals_pytorch(switches, activation, tmp_path, capfd):
    padding, downsample, output_norm, separable = switches
    torch.manual_seed(0)
    model = build_model(
        {
            "capacity": 3,
            "num_layers": 2 if separable else 1,
            "kernel_size": 5,
            "padding": padding,
            "downsample": downsample,
            "output_norm": output_norm,
            "separable": separable,
            "activation": activation,
            "output_activation": {
                "max": "sqrt",
                "none": "clip" if separable else "sigmoid",
            }[output_norm],
            "shared_weights": separable,
            "flip_conv_norm": not separable,
        }
    ).eval()
    path = tmp_path / "model.onnx"
    write_onnx(model, path, {})
    assert capfd.readouterr() == ("", "")
    draw = np.random.default_rng(0)
    least = model.min_size
    sizes = [(2, 64, 64), (1, 65, 31), (1, 33, 100), (3, least, least), (1, least, least + 3)]
    pictures = [draw.random((n, 3, h, w), np.float32) for n, h, w in sizes]
    assert parity(model, path, pictures) < 2e-5


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model and its ONNX file."""
    torch.manual_seed(0)
    model = build_model({"capacity": 2, "num_layers": 1, "output_norm": "max"}).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    write_onnx(model, path, {})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert isinstance(model.main[0].norm, torch.nn.GroupNorm)
    return model, path


def test_normalisation_stays_exact_on_large_pictures(small):
    picture = np.random.default_rng(0).random((1, 3, 1024, 1024), np.float32)
    assert parity(*small, [picture]) < 2e-5


def test_parity_notices_other_weights(small):
    model, path = copy.deepcopy(small[0]), small[1]
    picture = np.random.default_rng(0).random((1, 3, 32, 20), np.float32)
    with torch.no_grad():
        model.post.weight *= 1.05
    with pytest.raises(ParityError, match=r"differ by 0\.\d+ on a picture of 20x32"):
        parity(model, path, [picture])
    with torch.no_grad():
        model.post.bias.fill_(float("nan"))
    with pytest.raises(ParityError, match="differ by nan"):
        parity(model, path, [picture])
