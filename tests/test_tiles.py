"""Pictures cut into tiles give what the whole picture gives."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from clapp.config import Layer, ModelConfig, compose, model_config
from clapp.errors import UserError
from clapp.export.onnx import write_onnx
from clapp.export.options import Options
from clapp.inference import tiles
from clapp.inference.picture import infer
from clapp.inference.reductions import reductions_of
from clapp.inference.runner import Runner, as_batch, as_image, open_runner
from clapp.inference.tiles import side_of, spans
from clapp.models.build import build_model
from clapp.system.sizes import parse_size
from clapp.training.folder import save_config, save_weights
from tests.test_families import FAMILIES, drawn
from tests.test_model import random_architecture

SIZES = [(97, 71), (64, 130), (131, 131)]


def saved(folder: Path, config: ModelConfig) -> Path:
    """A network with weights away from their start."""
    torch.manual_seed(0)
    net = build_model(config).eval()
    with torch.no_grad():
        for value in net.state_dict().values():
            value.add_((torch.rand_like(value) - 0.5) / 20)
    folder.mkdir(exist_ok=True)
    save_config(folder, compose([Layer("test", {"model": config.model_dump()})], stored=True))
    save_weights(folder, net)
    return folder


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Brighter from left to right, so that tiles differ in their statistics."""
    noise = np.random.default_rng(seed).integers(0, 120, (height, width, 3))
    return (noise + np.linspace(0, 135, width)[None, :, None]).astype(np.uint8)


def tiled(runner: Runner, image: np.ndarray, side: int) -> np.ndarray:
    """The floats that tiles give, by the parts that `apply` is made of."""
    assert runner.parts is not None
    at = [
        spans(size, side, reach, runner.parts.alignment, runner.min_size)
        for size, reach in zip(image.shape, runner.parts[:2], strict=False)
    ]
    pairs = [(row, column) for row in at[0] for column in at[1]]
    assert len(pairs) > 1

    def part(row, column):
        piece = image[row.first : row.last, column.first : column.last]
        return as_batch(piece), (row.inner, column.inner)

    shape = image.shape[:2] if runner.channels == 1 else image.shape
    result = np.full(shape, np.nan, np.float32)

    def gather(see):
        for pair in pairs:
            see(*part(*pair))

    with runner.by_parts(gather) as compute:
        for row, column in pairs:
            batch, where = part(row, column)
            found = as_image(compute(batch, where))[where]
            result[row.start : row.stop, column.start : column.stop] = found
    return result


def assert_tiles_give_the_whole(runner: Runner, size: tuple[int, int], side: int) -> None:
    height, width = (max(one, runner.min_size) for one in size)
    image = picture(height, width)
    whole = as_image(runner.run(as_batch(image)))
    found = tiled(runner, image, side)
    scale = max(1.0, float(np.abs(whole).max()))
    assert np.abs(found - whole).max() <= 1e-4 * scale
    assert np.array_equal(as_image(runner.run(as_batch(image))), whole)  # left as it was


@pytest.mark.parametrize("seed", range(40))
def test_any_filternet(tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"tiles {seed}")
    config = random_architecture(rng, input_channels=3, output_channels=rng.choice([1, 1, 3]))
    runner = open_runner(saved(tmp_path / "m", config))
    assert_tiles_give_the_whole(runner, SIZES[seed % 3], rng.choice([32, 46, 50]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", FAMILIES)
def test_any_family(tmp_path: Path, family: str, seed: int) -> None:
    config = drawn(family, seed, output_channels=1 + 2 * (seed % 2))
    runner = open_runner(saved(tmp_path / "m", config))
    assert_tiles_give_the_whole(runner, SIZES[seed % 3], 64)


@pytest.mark.parametrize("downsample", [1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_statistics_of_every_kind_at_once(tmp_path: Path, shared: bool, downsample: int) -> None:
    """Also those of a block that is applied again and again: each time others."""
    model = {"capacity": 3, "num_layers": 3, "norm": "group", "output_norm": "max"}
    model |= {"shared_weights": shared, "downsample": downsample}
    runner = open_runner(saved(tmp_path / "m", model_config(model)))
    assert_tiles_give_the_whole(runner, (95, 93), 34)


def test_tiles_without_what_is_around_them_differ(tmp_path: Path) -> None:
    """The comparison above notices a halo that is one pixel too small."""
    config = model_config({"capacity": 2, "num_layers": 1, "kernel_size": 5, "norm": "none"})
    runner = open_runner(saved(tmp_path / "m", config))
    assert runner.parts is not None
    runner.parts = runner.parts._replace(rows=runner.parts.rows - 1)
    with pytest.raises(AssertionError):
        assert_tiles_give_the_whole(runner, (97, 71), 32)


def test_spans_cover_each_pixel_once() -> None:
    for size, side, reach, alignment, least in [(100, 32, 5, 1, 1), (61, 32, 7, 4, 30)]:
        found = spans(size, side, reach, alignment, least)
        covered = [pixel for one in found for pixel in range(one.start, one.stop)]
        assert covered == list(range(size))
        for one in found:
            assert one.first % alignment == 0
            assert one.first <= max(0, one.start - reach)
            assert one.last >= min(size, one.stop + reach)
            assert one.last - one.first >= least


def infer_levels(folder: Path, image: np.ndarray, model: Path, memory: str) -> np.ndarray:
    Image.fromarray(image).save(folder / "in.png")
    infer(model, folder / "in.png", folder / "out.png", memory)
    with Image.open(folder / "out.png") as out:
        return np.asarray(out)


@pytest.mark.parametrize("norm", ["none", "max"])
def test_a_budget_cuts_into_tiles(tmp_path, monkeypatch, norm: str) -> None:
    config = model_config({"capacity": 2, "num_layers": 1, "output_norm": norm, "norm": "none"})
    model = saved(tmp_path / "m", config)
    image = picture(301, 203)
    said: list[str] = []
    monkeypatch.setattr(tiles, "tell", said.append)
    whole = infer_levels(tmp_path, image, model, "1GB")
    assert not said
    found = infer_levels(tmp_path, image, model, "4MB")
    assert np.abs(found.astype(int) - whole).max() <= 1
    assert sum("filtering tile" in text for text in said) > 4
    assert any("pass 1: tile 2 of" in text for text in said) == (norm == "max")


def test_onnx_files_are_cut_where_they_say_how(tmp_path, monkeypatch, caplog) -> None:
    said: list[str] = []
    monkeypatch.setattr(tiles.logger, "warning", said.append)
    image = picture(301, 203)
    config = model_config({"capacity": 2, "num_layers": 1, "norm": "group", "output_norm": "max"})
    saved(tmp_path / "m", config)
    path = tmp_path / "m.onnx"
    write_onnx(torch_model(tmp_path / "m"), path, {})
    for silent in (False, True):
        if silent:  # a file that does not say how
            proto = onnx.load(path)
            del proto.metadata_props[:]
            onnx.save(proto, path)
        assert (open_runner(path).parts is None) == silent
        whole = infer_levels(tmp_path, image, path, "1GB")
        assert not said
        found = infer_levels(tmp_path, image, path, "4MB")
        assert np.abs(found.astype(int) - whole).max() <= 1
        assert len(said) == silent
    assert "203x301 pixels are computed as a whole" in said[0]


WITH_STATISTICS = [
    {"norm": "none", "output_norm": "max"},
    {"norm": "group", "num_layers": 2, "downsample": 2},
    {"norm": "group", "output_norm": "max", "shared_weights": True, "num_layers": 3},
    {"family": "global"},
]


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("model", WITH_STATISTICS, ids=str)
def test_onnx_files_with_statistics(tmp_path: Path, model: dict, uint8: bool) -> None:
    saved(tmp_path / "m", model_config(model))
    write_onnx(torch_model(tmp_path / "m"), tmp_path / "m.onnx", {}, Options(uint8=uint8))
    runner = open_runner(tmp_path / "m.onnx")
    assert runner.gathers
    assert_tiles_give_the_whole(runner, (97, 71), 32)


def test_onnx_files_of_fixed_size_are_not_cut(tmp_path: Path) -> None:
    saved(tmp_path / "m", model_config({"capacity": 2, "num_layers": 1}))
    write_onnx(torch_model(tmp_path / "m"), tmp_path / "m.onnx", {}, Options(size=(64, 48)))
    assert open_runner(tmp_path / "m.onnx").parts is None


@pytest.mark.parametrize("operator", ["ReduceSum", "InstanceNormalization", "ReduceMean"])
def test_statistics_that_cannot_be_gathered_are_told_apart(operator: str) -> None:
    """A sum, a normalisation in one operator, and a mean along rows that stays one of rows."""
    inputs = ["x", "scale", "bias"] if operator == "InstanceNormalization" else ["x"]
    node = helper.make_node(operator, inputs, ["y"])
    if operator == "ReduceMean":
        node.attribute.append(helper.make_attribute("axes", [3]))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph([node], "g", [value], [])
    assert reductions_of(helper.make_model(graph)) is None


def torch_model(folder: Path):
    from clapp.training.folder import load

    return load(folder)


def test_a_budget_that_is_too_small_is_named_and_gone_beyond(tmp_path, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(tiles.logger, "warning", said.append)
    model = saved(tmp_path / "m", model_config({"capacity": 2, "num_layers": 1}))
    image = picture(101, 103)
    whole = infer_levels(tmp_path, image, model, "1GB")
    found = infer_levels(tmp_path, image, model, "10kB")
    assert np.abs(found.astype(int) - whole).max() <= 1
    assert len(said) == 1
    assert "103x101 pixels need more than --memory" in said[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MB", 256 * 10**6), ("1.5 GiB", 3 * 2**29), ("64kb", 64000), ("1MiB", 2**20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "256", "-1MB", "0MB", "lots", "1TBx", "1e3MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"--memory .*: a size such as 256MB or 1.5GiB is expected"):
        parse_size(text, "--memory")


def test_tiles_keep_to_the_budget() -> None:
    for parts in (tiles.Parts(3, 3, 1, 64), tiles.Parts(5, 1, 2, 500), tiles.Parts(90, 90, 16, 96)):
        for left in (60e6, 200e6):
            side = side_of(parts, left)
            assert side % parts.alignment == 0
            assert tiles._tile(side, parts) <= left
