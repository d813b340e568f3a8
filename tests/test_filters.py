"""The classical filters: golden files, inline kernels, functions, odd sizes, errors."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from clapp.errors import ConfigError, UserError
from clapp.filters.base import luma
from clapp.filters.library import apply_filter, known_filters, resolve

GOLDEN = np.load(Path(__file__).parent / "golden" / "filters_golden.npz")
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.mark.parametrize("picture", ["noise", "scene"])
@pytest.mark.parametrize("name", ["sobel_3", "sobel_canny_5", "random_41", "random2_51_15"])
def test_equals_the_golden_file_byte_for_byte(name, picture):
    result = apply_filter(name, GOLDEN[picture])
    np.testing.assert_array_equal(result, GOLDEN[f"{picture}__{name}"])


def test_luma_is_pillows_for_every_grey_and_many_colours():
    colours = RNG.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    colours[0, :256] = np.arange(256)[:, None]
    np.testing.assert_array_equal(luma(colours), np.asarray(Image.fromarray(colours).convert("L")))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (50, 1), (8000, 50)])
@pytest.mark.parametrize("spec", [*known_filters(), {"kernel": [[1, -1], [0, 2]]}])
def test_works_on_extreme_sizes(spec, shape):
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = apply_filter(spec, image)
    assert result.shape[:2] == shape
    assert result.dtype in (np.uint8, np.float32)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("name", known_filters())
def test_grey_stands_for_three_equal_channels(name):
    grey = NOISE[..., 0]
    np.testing.assert_array_equal(
        apply_filter(name, grey), apply_filter(name, np.dstack([grey, grey, grey]))
    )


def test_flat_pictures_have_no_edges():
    flat = np.full((20, 30, 3), 200, np.uint8)
    for name in ("sobel_3", "sobel_canny_5"):
        assert apply_filter(name, flat).max() == 0


def test_inline_kernel_is_a_correlation_of_the_grey_picture_with_reflected_border():
    kernel = [[-1, 0, 1]]
    padded = np.pad(luma(NOISE).astype(int), ((0, 0), (1, 1)), mode="reflect")
    expected = padded[:, 2:] - padded[:, :-2]
    modes = {
        "clip": np.clip(expected, 0, 255),
        "none": np.clip(np.abs(expected), 0, 255),
        "max": (np.abs(expected).astype(np.float32) * 255 / np.abs(expected).max()).astype(int),
    }
    for mode, values in modes.items():
        result = apply_filter({"kernel": kernel, "normalize": mode}, NOISE)
        np.testing.assert_array_equal(result, values)
    np.testing.assert_array_equal(apply_filter({"kernel": kernel}, NOISE), modes["clip"])


def test_inline_kernel_for_each_channel():
    kernel = [[[0.5]], [[0.25]], [[-1]]]
    expected = NOISE @ np.array([0.5, 0.25, -1.0])
    result = apply_filter({"kernel": kernel}, NOISE)
    np.testing.assert_array_equal(result, np.clip(expected, 0, 255).astype(np.uint8))


def test_even_kernels_are_anchored_as_in_opencv():
    kernel = RNG.random((4, 2)).round(2)
    kernel /= kernel.sum()
    expected = cv2.filter2D(luma(NOISE), cv2.CV_32F, kernel.astype(np.float32))
    result = apply_filter({"kernel": kernel.tolist()}, NOISE)
    np.testing.assert_array_equal(result, expected.astype(np.uint8))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sobel3", "unknown filter 'sobel3'; did you mean sobel_3? known: adaptive"),
        ({"kernel": [[1]], "normalise": "max"}, "unknown key 'normalise'; known: kernel"),
        ({"normalize": "max"}, "the key kernel, or name, is required"),
        ({"kernel": [[1, 2], [3]]}, "rows of equal length"),
        ({"kernel": [1, 2]}, "not of shape"),
        ({"kernel": []}, "not of shape"),
        ({"kernel": [[[1]], [[1]]]}, "not of shape"),
        ({"kernel": [["1"]]}, "numbers"),
        ({"kernel": [[True]]}, "numbers"),
        ({"kernel": [[float("nan")]]}, "finite"),
        ({"kernel": [[1e39, -1e39]]}, "may add up to 1e+33 at most; beyond, float32 overflows"),
        ({"kernel": [[10**40]]}, "finite numbers"),
        ({"kernel": [[4e32] * 3]}, "may add up to 1e+33"),
        ({"kernel": [[1]], "normalize": "sum"}, "allowed: none, max, clip"),
        ({"kernel": [[1]], "normalize": ["max"]}, "allowed: none, max, clip"),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        (":f", "cannot be imported"),
        ("os:no_such_function", "no_such_function"),
        ("os:sep", "not a function"),
        (3, "a filter is a name, a mapping or a list"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(ConfigError) as caught:
        resolve(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(UserError, match="a picture"):
        apply_filter("sobel_3", image)


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "my_filters.py").write_text(
        "import numpy as np\n"
        "def red(image): return image[..., 0].copy()\n"
        "def floats(image): return image[..., 0] / 1.0\n"
        "def wide(image): return image[..., 0].astype(np.uint16)\n"
        "def undefined(image): return np.full(image.shape[:2], np.nan)\n"
        "def small(image): return image[1:, :, 0]\n"
        "def fails(image): return image.nonsense\n"
        "def nothing(image): pass\n"
    )
    (tmp_path / "broken_filters.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere", *__import__("sys").path])


def test_functions_are_imported_from_the_working_directory(functions):
    assert resolve("my_filters:red").name == "my_filters:red"
    np.testing.assert_array_equal(apply_filter("my_filters:red", NOISE), NOISE[..., 0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("floats", "returned values from 0 to 255"),
        ("small", r"\(40, 56\) or \(40, 56, 3\) is expected"),
        ("wide", "returned uint16"),
        ("undefined", "returned 2240 values that are not finite"),
        ("fails", "failed: AttributeError"),
        ("nothing", "returned NoneType"),
    ],
)
def test_wrong_results_of_functions_are_refused(functions, name, message):
    with pytest.raises(UserError, match=message):
        apply_filter(f"my_filters:{name}", NOISE)


def test_a_module_that_fails_is_reported_with_its_reason(functions):
    with pytest.raises(ConfigError, match="ZeroDivisionError: division by zero"):
        resolve("broken_filters:f")


@pytest.mark.parametrize("spec", ["sobel_3", {"kernel": [[1, 2, 3]], "normalize": "max"}])
def test_filters_survive_pickling(spec):
    target = resolve(spec)
    again = pickle.loads(pickle.dumps(target))
    assert again.name == target.name
    np.testing.assert_array_equal(again(NOISE), target(NOISE))


@pytest.mark.parametrize("mode", ["none", "max", "clip"])
def test_the_largest_kernel_does_not_overflow(mode):
    white = np.full((8, 8, 3), 255, np.uint8)
    spec = {"kernel": np.full((3, 3), 1e33 / 9.001).tolist(), "normalize": mode}
    assert (apply_filter(spec, white) >= 254).all()


def test_names():
    assert {"random2_51_15", "random_41", "sobel_3", "sobel_canny_5"} < set(known_filters())
    assert resolve({"kernel": [[1, 2, 3], [4, 5, 6]]}).name == "kernel 2x3"
