"""The batched filters against OpenCV's: golden files, photographs, noise, extremes, devices."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from clapp.config import load_config
from clapp.errors import ConfigError
from clapp.filters.library import known_filters, resolve
from clapp.filters.linear import MODES
from clapp.filters.on_device import batched
from clapp.images import open_source
from clapp.images.decode import centre_crop

GOLDEN = np.load(Path(__file__).parent / "golden" / "filters_golden.npz")
NAMES = ["sobel_3", "random_41", "random2_51_15"]
EDGE = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
KERNELS = [
    {"kernel": EDGE, "normalize": "none"},
    {"kernel": EDGE, "normalize": "max"},
    {"kernel": np.full((3, 3), 1 / 9).tolist()},
    {"kernel": [[[0.5]], [[0.25]], [[-1]]], "normalize": "none"},
]
SIZES = [(1, 1), (1, 7), (2, 3), (5, 2), (40, 64), (61, 66), (63, 65)]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=cuda)])
def device(request):
    return request.param


@pytest.fixture(scope="module")
def photos():
    config = load_config()
    train, valid = (open_source(data).epoch(0) for data in (config.train_data, config.valid_data))
    return [*islice(train, 24), *islice(valid, 6)]


def on_device(spec, pictures, device):
    function = batched(spec)
    assert function is not None
    targets = function(torch.from_numpy(pictures).to(device))
    assert targets.device.type == device
    assert targets.dtype == torch.uint8
    return targets.cpu().numpy()


def one_by_one(spec, pictures):
    return np.stack([resolve(spec)(picture) for picture in pictures])


def assert_as_opencv(spec, pictures, device, equal=0.99):
    """Equal for `sobel_3`, which is the same arithmetic on every processor.

    Elsewhere OpenCV fuses multiplications and additions where the processor can: an ulp, and a
    grey level where a response lies on the border between two.
    """
    result, expected = on_device(spec, pictures, device), one_by_one(spec, pictures)
    assert result.shape == expected.shape
    if spec == "sobel_3":
        np.testing.assert_array_equal(result, expected)
    difference = np.abs(result.astype(int) - expected)
    assert (difference > 1).mean() <= 0.001
    assert (difference == 0).mean() >= equal


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("picture", ["noise", "scene"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_golden_file(name, picture, device):
    result = on_device(name, GOLDEN[picture][None], device)[0]
    np.testing.assert_array_equal(result, GOLDEN[f"{picture}__{name}"])


@pytest.mark.parametrize("side", [16, 33, 64, 97, 224])
@pytest.mark.parametrize("spec", [*NAMES, *KERNELS])
def test_photographs(spec, side, photos, device):
    pictures = np.stack([centre_crop(photo, side, side) for photo in photos])
    assert_as_opencv(spec, pictures, device)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", [*NAMES, *KERNELS, {"kernel": [[1, -1], [0, 2]]}])
def test_noise_of_every_size(spec, size, device):
    assert_as_opencv(spec, noise(16, *size), device)


@pytest.mark.parametrize("spec", [*NAMES, *KERNELS])
def test_flat_pictures(spec, device):
    grey = np.repeat(np.arange(256, dtype=np.uint8), 16 * 24 * 3).reshape(-1, 16, 24, 3)
    colours = np.repeat(noise(256), 16 * 24, axis=0).reshape(-1, 16, 24, 3)
    # Responses lie on the borders between grey levels over whole areas: an ulp shows in all of it.
    assert_as_opencv(spec, np.concatenate([grey, colours]), device, equal=0)


@pytest.mark.parametrize("spec", [*NAMES, *KERNELS])
def test_a_batch_equals_each_alone(spec, device):
    pictures = noise(5, 17, 23) // np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    alone = [on_device(spec, picture[None], device)[0] for picture in pictures]
    np.testing.assert_array_equal(on_device(spec, pictures, device), alone)


@pytest.mark.parametrize("seed", range(40))
def test_random_kernels(seed, device):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 8, 2)
    shape = (height, width) if rng.random() < 0.5 else (3, height, width)
    weights = rng.normal(size=shape) * (rng.random(shape) < 0.8)
    mode = MODES[seed % len(MODES)]
    pictures = noise(4, *rng.integers(1, 50, 2), seed=seed)
    assert_as_opencv({"kernel": weights.tolist(), "normalize": mode}, pictures, device)


def test_every_mode_has_its_normaliser():
    for mode in MODES:
        assert batched({"kernel": EDGE, "normalize": mode}) is not None


def test_none_where_there_is_no_exact_version():
    assert set(NAMES) < set(known_filters())
    assert batched("sobel_canny_5") is None
    assert batched("my_filters:red") is None
    assert batched({"kernel": [[1] * 7] * 7}) is not None
    assert batched({"kernel": [[1] * 10] * 5}) is None
    assert batched({"kernel": [[[1] * 10] * 5] * 3}) is None


MORPHOLOGY = {"ksize": 5, "shape": "ellipse", "iterations": 2}
EXACT = [
    "grey",
    {"name": "gamma", "channels": 3, "gamma": 0.7},
    *(
        {"name": "threshold", "level": 90, "mode": mode}
        for mode in ("binary", "binary_inv", "trunc", "tozero", "tozero_inv")
    ),
    *(
        {"name": name, "channels": channels, **how}
        for name in ("erode", "dilate", "open", "close", "gradient", "top_hat", "black_hat")
        for channels, how in ((1, {}), (3, MORPHOLOGY), (3, {"shape": "cross"}))
    ),
]


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (40, 57)])
@pytest.mark.parametrize("spec", EXACT, ids=str)
def test_filters_with_parameters_are_exact(spec, size, device):
    pictures = noise(3, *size)
    expected = one_by_one(spec, pictures)
    np.testing.assert_array_equal(on_device(spec, pictures, device), expected)


def test_a_wrong_kernel_is_named():
    with pytest.raises(ConfigError, match="rows of equal length"):
        batched({"kernel": [[1, 2], [3]]})


def test_its_input_stays_as_it_was(device):
    pictures = torch.from_numpy(noise(2, 9, 9)).to(device)
    before = pictures.clone()
    for spec in (*NAMES, *KERNELS):
        batched(spec)(pictures)
        assert torch.equal(pictures, before)
