import csv
import math

import numpy as np
import pytest
import torch
from loguru import logger
from PIL import Image

from clapp.config import load_config
from clapp.errors import ConfigError, UserError
from clapp.export.onnx import write_onnx
from clapp.filters.library import apply_filter
from clapp.inference.comparing.examples import Worst
from clapp.inference.comparing.tables import PAGE, SHEET, TABLE, write_comparison
from clapp.inference.evaluate import Size, compare, evaluate
from clapp.inference.metrics import edges, mean_edges, measure
from clapp.models.build import build_model
from clapp.training.folder import save_config, save_trained, save_weights
from clapp.training.trainer import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trial folder after a few real steps on photographs, and its training's result."""
    config = load_config(
        {
            "model": {"capacity": 2, "num_layers": 1, "padding": "reflect"},
            "train_data": {"min_buffer": 8, "max_buffer": 16, "crop_size": 32, "resize_base": 64},
            "train": {
                "batch_size": 4,
                "min_iterations": 0,
                "max_iterations": 10,
                "validation_interval": 10,
            },
        }
    )
    result = train(config)
    folder = tmp_path_factory.mktemp("trained") / "m"
    save_trained(folder, config, result)
    return folder, result


@pytest.fixture(scope="module")
def zero(tmp_path_factory):
    """A folder whose network returns zero everywhere."""
    config = load_config({"model": {"capacity": 1, "num_layers": 1, "padding": "reflect"}})
    model = build_model(config.model).eval()
    with torch.no_grad():
        model.post.weight.zero_()
        model.post.bias.zero_()
    folder = tmp_path_factory.mktemp("zero") / "m"
    folder.mkdir()
    save_config(folder, config)
    save_weights(folder, model)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Three pictures as large as the crop, one of them in a subfolder, and two bad ones."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png"):
        pixels = draw.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def test_l2_is_the_loss_of_the_training(trained):
    folder, result = trained
    found = evaluate(folder, "photos:validation")
    # Training runs channels-last, where torch's float32 GroupNorm is off by some 1e-5.
    assert found.l2 == pytest.approx(result.loss, rel=2e-4)
    assert found.images == 18
    assert found.skipped == 0


def test_onnx_file_gives_the_same(trained, tmp_path):
    folder, result = trained
    write_onnx(result.model, tmp_path / "m.onnx", {"filter": '"sobel_3"'})
    ours = evaluate(folder, "photos:validation")
    theirs = evaluate(tmp_path / "m.onnx", "photos:validation")
    assert theirs.document() == pytest.approx(ours.document(), rel=1e-4)


def test_values_against_the_definitions(zero, pictures):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    files = [pictures / "a.png", pictures / "b.png", pictures / "deep" / "c.png"]
    targets = [apply_filter("sobel_3", np.asarray(Image.open(f))) / 255.0 for f in files]
    nothing = np.zeros((64, 64))
    found = evaluate(zero, pictures, resize=64, crop=64)
    assert found.l2 == pytest.approx(np.mean([(t**2).mean() for t in targets]), rel=1e-5)
    assert found.l1 == pytest.approx(np.mean([t.mean() for t in targets]), rel=1e-5)
    psnr = [peak_signal_noise_ratio(t, nothing, data_range=1) for t in targets]
    assert found.psnr == pytest.approx(np.mean(psnr), rel=1e-5)
    ssim = [structural_similarity(t, nothing, data_range=1) for t in targets]
    assert found.ssim == pytest.approx(np.mean(ssim), rel=1e-4)
    assert found.document() == {
        "l2": found.l2,
        "l1": found.l1,
        "psnr": found.psnr,
        "ssim": found.ssim,
        "images": 3,
    }


def test_bad_pictures_are_counted_and_named_once(zero, pictures):
    said = []
    handler = logger.add(lambda message: said.append(str(message)), level="WARNING")
    try:
        found = evaluate(zero, pictures, resize=64, crop=64)
    finally:
        logger.remove(handler)
    assert (found.images, found.skipped) == (3, 2)
    for name in ("bad.png", "empty.jpg"):
        assert len([line for line in said if name in line]) == 1


def test_another_filter_and_one_picture(zero, pictures):
    file = pictures / "a.png"
    target = apply_filter("random_41", np.asarray(Image.open(file))) / 255.0
    found = evaluate(zero, file, "random_41", resize=64, crop=64)
    assert found.l2 == pytest.approx((target**2).mean(), rel=1e-5)
    assert found.images == 1


def test_resize_and_crop(zero, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (90, 130, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    resized = Image.fromarray(pixels).resize((58, 40), Image.Resampling.BILINEAR)
    target = apply_filter("sobel_3", np.asarray(resized)[5:35, 14:44]) / 255.0
    found = evaluate(zero, tmp_path / "x.png", resize=40, crop=30)
    assert found.l2 == pytest.approx((target**2).mean(), rel=1e-5)


def test_mistakes(zero, pictures, tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder; .*photos:validation"):
        evaluate(zero, tmp_path / "none")
    with pytest.raises(UserError, match="photos:tests: there is no such file or folder"):
        evaluate(zero, "photos:tests")
    with pytest.raises(ConfigError, match="did you mean sobel_3"):
        evaluate(zero, pictures, "sobel3")
    for resize, crop in ((64, 65), (64, 6)):
        with pytest.raises(UserError, match=f"--crop {crop}: at least 7 .* at most --resize 64"):
            evaluate(zero, pictures, resize=resize, crop=crop)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there are no pictures in it"):
        evaluate(zero, tmp_path / "empty")
    for file in ("a.png", "b.png", "deep/c.png"):
        (pictures / file).unlink()
    with pytest.raises(UserError, match="none of its 2 pictures can be read"):
        evaluate(zero, pictures)
    with pytest.raises(UserError, match=r"bad\.png: cannot be read as a picture"):
        evaluate(zero, pictures / "bad.png")


def test_a_model_that_does_not_say_its_filter(trained, tmp_path):
    write_onnx(trained[1].model, tmp_path / "m.onnx", {})
    with pytest.raises(UserError, match="give --filter"):
        evaluate(tmp_path / "m.onnx", "photos:validation")


def test_metrics_of_an_exact_copy_and_of_nonsense():
    plane = np.random.default_rng(0).random((20, 20), np.float32)
    assert measure(plane, plane) == (0, 0, 100, pytest.approx(1))
    over = measure(plane * 0 + 1.5, plane * 0 + 1)
    assert over.l2 == pytest.approx(0.25)  # as it is
    assert over.psnr == 100  # as it is shown
    assert math.isnan(measure(plane * np.float32("nan"), plane).psnr)


def test_edges_are_found_within_one_pixel():
    target = np.zeros((9, 9), np.float32)
    target[4, 1:8] = 1
    shifted = np.zeros_like(target)
    shifted[5, 1:8] = 0.6
    assert edges(shifted, target) == (1, 1, 1)
    shifted[0, 0] = 0.5  # far from any edge
    found = edges(shifted, target)
    assert found == pytest.approx((7 / 8, 1, 2 * (7 / 8) / (15 / 8)))
    far = np.roll(target, 2, axis=0)
    assert edges(far, target) == (0, 0, 0)
    half = target.copy()
    half[4, 5:] = 0.4
    assert edges(half, target) == pytest.approx((1, 5 / 7, 2 * (5 / 7) / (12 / 7)))
    assert edges(0 * target, 0 * target) == (1, 1, 1)
    assert edges(target, target / 2) is None
    assert mean_edges([edges(far, target), None]) is None
    assert mean_edges([edges(far, target), edges(target, target)]) == (0.5, 0.5, 0.5)


def test_evaluate_tells_of_edges(zero, trained):
    found = evaluate(zero, "photos:validation", filter="canny")
    assert found.edges == (1, 0, 0)
    assert found.document()["edges"] == {"precision": 1, "recall": 0, "f1": 0}
    assert evaluate(trained[0], "photos:validation").edges is None


def test_several_models_side_by_side(trained, zero, tmp_path, pictures):
    write_onnx(trained[1].model, tmp_path / "m.onnx", {"filter": '"sobel_3"'})
    models = [trained[0], zero, tmp_path / "m.onnx"]
    found = compare(models, str(pictures), size=Size(64, 64))
    assert [row.picture for row in found.rows] == ["a.png", "b.png", "deep/c.png"]
    assert found.skipped == 2
    for number, model in enumerate(models):
        alone = evaluate(model, pictures, resize=64, crop=64)
        assert found.of(number) == alone
    losses = np.array([[one.l2 for one in row.metrics] for row in found.rows])  # (3, 3)
    low, high = found.of(1).intervals["l2"]
    half = 4.302653 * losses[:, 1].std(ddof=1) / math.sqrt(3)  # Student's t of two degrees
    assert (low + high) / 2 == pytest.approx(losses[:, 1].mean())
    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)
    differences = losses[:, 1] - losses[:, 0]
    bounds = found.against_first(1)
    assert sum(bounds) / 2 == pytest.approx(differences.mean())
    assert found.against_first(0) is None
    document = found.document()
    assert [one["l2"] for one in document["models"]] == pytest.approx(losses.mean(0))
    assert document["filter"] == "sobel_3"


def test_what_a_comparison_writes(trained, zero, tmp_path, pictures):
    found = compare([trained[0], zero], str(pictures), "canny", Size(64, 64))
    written = write_comparison(tmp_path / "out", found)
    assert all(path.is_file() for path in written)
    rows = list(csv.DictReader((tmp_path / "out" / TABLE).read_text().splitlines()))
    assert len(rows) == 6
    assert {row["model"] for row in rows} == set(found.models)
    mean = np.mean([float(row["l2"]) for row in rows if row["model"] == found.models[1]])
    assert mean == pytest.approx(found.of(1).l2)
    f1 = np.mean([float(row["f1"]) for row in rows if row["model"] == found.models[0]])
    assert f1 == pytest.approx(found.of(0).edges.f1)
    with Image.open(tmp_path / "out" / SHEET) as sheet:
        assert sheet.width > 6 * 224  # picture, filter, two models with their differences
    page = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert "deep/c.png" in page
    assert "<th>recall" in page
    order = [example.losses for example in found.worst]
    assert order == sorted(order, key=sum, reverse=True)


def test_the_worst_part_of_a_picture_is_shown():
    image = np.zeros((400, 600, 3), np.uint8)
    target = np.zeros((400, 600), np.float32)
    output = target.copy()
    output[310:330, 480:500] = 1
    worst = Worst(2)
    for name, factor in (("a", 0.1), ("b", 1.0), ("c", 0.5)):
        worst.offer(name, [factor], image, target, [output * factor])
    found = worst.sorted()
    assert [one.picture for one in found] == ["b", "c"]
    assert found[0].image.shape == (224, 224, 3)
    assert found[0].outputs[0].sum() == 400


def test_native_size(zero, pictures, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (90, 130, 3), np.uint8)
    Image.fromarray(pixels).save(pictures / "large.png")
    Image.fromarray(pixels[:5]).save(pictures / "low.png")
    found = compare([zero], str(pictures), size=Size(native=True))
    sizes = {row.picture: (row.height, row.width) for row in found.rows}
    assert sizes["large.png"] == (90, 130)
    assert "low.png" not in sizes
    assert found.skipped == 3
    target = apply_filter("sobel_3", pixels) / 255.0
    row = next(row for row in found.rows if row.picture == "large.png")
    assert row.metrics[0].l2 == pytest.approx((target**2).mean(), rel=1e-5)


def test_patterns_and_sources(zero, pictures):
    pattern = compare([zero], str(pictures / "?.png"), size=Size(64, 64))
    assert [row.picture for row in pattern.rows] == [str(pictures / n) for n in ("a.png", "b.png")]
    source = compare([zero], "synthetic:test", most=2)
    assert [row.picture for row in source.rows] == ["synthetic:test 1", "synthetic:test 2"]
    with pytest.raises(UserError, match="no file matches"):
        compare([zero], str(pictures / "*.gif"))
    with pytest.raises(ConfigError, match="split 'nonsense' of synthetic is not allowed"):
        compare([zero], "synthetic:nonsense")


def test_models_of_different_filters(zero, trained, tmp_path):
    write_onnx(trained[1].model, tmp_path / "m.onnx", {"filter": '"canny"'})
    with pytest.raises(UserError, match=r"m\.onnx: learned canny, and .* sobel_3; give --filter"):
        compare([zero, tmp_path / "m.onnx"], "photos:validation")
    found = compare([zero, tmp_path / "m.onnx"], "photos:validation", "laplacian", most=1)
    assert (found.filter, len(found.rows)) == ("laplacian", 1)
