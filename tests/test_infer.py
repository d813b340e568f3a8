import os

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from clapp.config import Layer, compose
from clapp.errors import UserError
from clapp.export.onnx import write_onnx
from clapp.inference.picture import infer
from clapp.inference.runner import open_runner
from clapp.models.build import build_model
from clapp.training.folder import save_config, save_weights


def save_model(folder, weights=None, others=None, **model):
    config = compose([Layer("test", {"model": model, **(others or {})})], stored=True)
    torch.manual_seed(0)
    net = build_model(config.model).eval()
    if weights is not None:
        net.load_state_dict(weights)
    folder.mkdir()
    save_config(folder, config)
    save_weights(folder, net)
    return folder, net


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A folder whose network returns the picture's mean channel: every pixel is known."""
    third = torch.full((1, 3, 1, 1), 1 / 3)
    weights = {
        "prep.weight": third,
        "prep.bias": torch.zeros(1),
        "main.0.conv.0.weight": torch.nn.functional.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1)),
        "main.0.conv.0.bias": torch.zeros(1),
        "post.weight": torch.ones(1, 1, 1, 1),
        "post.bias": torch.zeros(1),
    }
    model = {"capacity": 1, "num_layers": 1, "activation": "none", "norm": "none"}
    model |= {"rezero": False, "reskip": False, "padding": "reflect"}
    return save_model(tmp_path_factory.mktemp("grey") / "m", weights, **model)[0]


def infer_array(model, image, folder, name="out.png", source="in.png"):
    image.save(folder / source)
    infer(model, folder / source, folder / name)
    with Image.open(folder / name) as out:
        assert out.mode == "L"
        return np.asarray(out)


def test_result_is_the_rounded_output(grey, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    found = infer_array(grey, Image.fromarray(pixels), tmp_path)
    expected = np.rint(pixels.mean(2))
    assert np.array_equal(found, expected)


def test_outputs_outside_the_range_are_clamped(tmp_path):
    folder, net = save_model(tmp_path / "m", capacity=2, num_layers=1, norm="none")
    for bias, value in ((9.0, 255), (-9.0, 0)):
        with torch.no_grad():
            net.post.bias.fill_(bias)
        save_weights(folder, net)
        found = infer_array(folder, Image.new("RGB", (8, 8)), tmp_path)
        assert (found == value).all()


@pytest.mark.parametrize(
    ("mode", "colour", "level"),
    [
        ("L", 100, 100),
        ("1", 1, 255),
        ("LA", (100, 255), 100),
        ("RGBA", (0, 0, 0, 0), 255),  # transparency lies over white
        ("P", 0, 0),
        ("CMYK", (0, 0, 0, 0), 255),
        ("I;16", 0x4080, 64),
    ],
)
def test_any_picture(grey, tmp_path, mode, colour, level):
    name = "in.tif" if mode == "CMYK" else "in.png"
    found = infer_array(grey, Image.new(mode, (6, 5), colour), tmp_path, source=name)
    assert found.shape == (5, 6)
    assert (found == level).all()


MODELS = [
    {"padding": "zero_after", "kernel_size": 7},
    {"padding": "reflect", "kernel_size": 7, "downsample": 2, "output_norm": "max"},
    {"padding": "replicate", "kernel_size": 3, "downsample": 2},
]


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (8000, 50), (50, 801)])
def test_any_size(tmp_path, model, size):
    folder = save_model(tmp_path / "m", capacity=2, num_layers=1, **model)[0]
    assert infer_array(folder, Image.new("RGB", size, "red"), tmp_path).shape == size[::-1]


def test_small_pictures_are_continued_by_their_border(grey, tmp_path):
    found = infer_array(grey, Image.new("RGB", (1, 1), (30, 60, 90)), tmp_path)
    assert found.tolist() == [[60]]


def test_onnx_file_and_folder_agree(tmp_path):
    folder, net = save_model(tmp_path / "m", capacity=3, num_layers=1, padding="reflect")
    write_onnx(net, tmp_path / "x.onnx", {"min_size": str(net.min_size), "filter": '"sobel_3"'})
    draw = np.random.default_rng(0)
    for height, width in ((1, 1), (33, 50)):
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8))
        ours = infer_array(folder, image, tmp_path)
        theirs = infer_array(tmp_path / "x.onnx", image, tmp_path, "onnx.png")
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert open_runner(folder).filter == open_runner(tmp_path / "x.onnx").filter == "sobel_3"


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "PNG"])
def test_suffix_says_the_format(grey, tmp_path, suffix):
    Image.new("RGB", (9, 9), "white").save(tmp_path / "in.png")
    infer(grey, tmp_path / "in.png", tmp_path / "deep" / f"out.{suffix}")
    with Image.open(tmp_path / "deep" / f"out.{suffix}") as image:
        assert image.format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
        assert min(np.asarray(image).ravel()) >= 254
    assert len(list((tmp_path / "deep").iterdir())) == 1


@pytest.mark.parametrize("name", ["out", "out.onnx", "out.txt", "folder.png"])
def test_unusable_output(grey, tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in.png")
    with pytest.raises(UserError, match=rf"{name}: .*"):
        infer(grey, tmp_path / "in.png", tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif", "webp", "pgm", "tga", "jp2", "ico"])
def test_what_is_written_is_what_is_read(grey, tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    infer(grey, tmp_path / "in.png", tmp_path / f"out.{suffix}")
    with Image.open(tmp_path / f"out.{suffix}") as image:
        found = np.asarray(image.convert("RGB"))
    assert np.array_equal(found, np.repeat(np.rint(pixels.mean(2))[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        ("ico", "out.ico: cannot be written: All sizes too large for image"),
        ("icns", "ICNS makes 1024x1024 pixels of 512x300"),
        ("pdf", "PDF files cannot be read back"),
        ("eps", "EPS files cannot be read back"),
        ("xbm", "cannot write mode L"),
    ],
)
def test_formats_that_do_not_keep_the_picture(grey, tmp_path, suffix, reason):
    Image.new("RGB", (512, 300), "red").save(tmp_path / "in.png")
    out = tmp_path / f"out.{suffix}"
    out.write_bytes(b"older")
    with pytest.raises(UserError, match=reason):
        infer(grey, tmp_path / "in.png", out)
    assert out.read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_no_file(grey, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (9, 9)).save(tmp_path / "in.png")
    for name, reason in (
        ("pipe.png", "is a named pipe"),
        ("gone.png", "its link leads nowhere"),
        ("empty.png", "the file is empty"),
        ("x" * 300 + ".png", "File name too long"),
    ):
        with pytest.raises(UserError, match=reason):
            infer(grey, tmp_path / name, tmp_path / "out.png")
        if name != "empty.png":
            with pytest.raises(UserError, match=reason):
                infer(grey, tmp_path / "in.png", tmp_path / name)


def test_names_of_maximal_length(grey, tmp_path):
    name = "ü" * 125 + "x.png"
    Image.new("RGB", (9, 9)).save(tmp_path / name)
    infer(grey, tmp_path / name, tmp_path / ("y" * 255) / name)
    with Image.open(tmp_path / ("y" * 255) / name) as image:
        assert image.size == (9, 9)


def test_output_below_a_file(grey, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "in.png")
    with pytest.raises(UserError, match=r"out\.png: cannot be written"):
        infer(grey, tmp_path / "in.png", tmp_path / "in.png" / "out.png")


def test_unusable_input(grey, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    for name, reason in (
        ("none.png", "there is no such file"),
        ("bad.jpg", "cannot be read as a picture"),
        (".", "is a folder"),
    ):
        with pytest.raises(UserError, match=reason):
            infer(grey, tmp_path / name, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def write_foreign(path, shape, outputs=1):
    """An ONNX file of somebody else: the mean over channels, or two or all of them."""
    node = {
        1: helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1),
        2: helper.make_node("Gather", ["x", "first"], ["y"], axis=1),
        3: helper.make_node("Identity", ["x"], ["y"]),
    }[outputs]
    graph = helper.make_graph(
        [node],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("first", TensorProto.INT64, [2], [0, 1]),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def test_foreign_onnx(tmp_path):
    path = tmp_path / "x.onnx"
    image = Image.new("RGB", (9, 7), (30, 60, 90))
    write_foreign(path, [None, 3, None, None])
    assert (infer_array(path, image, tmp_path) == 60).all()
    assert open_runner(path).filter is None
    write_foreign(path, [1, 3, 8, 8])
    with pytest.raises(UserError, match=r"x\.onnx: cannot be applied to \(1, 3, 7, 9\)"):
        infer_array(path, image, tmp_path)
    write_foreign(path, [None, 1, None, None])
    with pytest.raises(UserError, match=r"one input, float32 or uint8 \(N, 3, H, W\), is expected"):
        infer_array(path, image, tmp_path)
    write_foreign(path, [None, 3, None, None], outputs=3)
    image.save(tmp_path / "in.png")
    infer(path, tmp_path / "in.png", tmp_path / "colour.png")
    assert Image.open(tmp_path / "colour.png").getpixel((3, 3)) == (30, 60, 90)
    write_foreign(path, [None, 3, None, None], outputs=2)
    with pytest.raises(UserError, match=r"its output is \(1, 2, 7, 9\); \(1, 1, 7, 9\)"):
        infer_array(path, image, tmp_path)


def test_unusable_models(grey, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf")
    picture = tmp_path / "in.png"
    Image.new("RGB", (9, 9)).save(picture)
    for model, reason in (
        (tmp_path / "none.onnx", "there is no such file"),
        (tmp_path / "broken.onnx", "cannot be read as ONNX"),
        (tmp_path / "none", "does not exist"),
        (grey / "config.yaml", "an export folder, a trial folder or an .onnx file is expected"),
        (save_model(tmp_path / "m", input_channels=1, capacity=1)[0], "1 channels into 1"),
    ):
        with pytest.raises(UserError, match=reason):
            infer(model, picture, tmp_path / "out.png")
