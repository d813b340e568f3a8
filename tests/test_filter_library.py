"""Every filter of the library against a direct call of OpenCV or scikit-image, on photographs."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import skimage.filters
from PIL import Image
from scipy.ndimage import uniform_filter
from skimage.restoration import denoise_tv_chambolle

from clapp.config import identity, load_config
from clapp.errors import ConfigError
from clapp.filters.base import FILTERS
from clapp.filters.library import (
    apply_filter,
    canonical,
    filter_name,
    known_filters,
    output_channels,
    resolve,
)
from clapp.study.plan.plan import make_plan
from clapp.system.strict_yaml import parse_yaml

Array = np.ndarray
PHOTOS = {
    "coffee": skimage.data.coffee()[40:204, 60:250],
    "chelsea": skimage.data.chelsea()[60:223, 80:271],
    "camera": np.repeat(skimage.data.camera()[100:260, 150:340, None], 3, axis=2),
}


def grey(image: Array) -> Array:
    return np.asarray(Image.fromarray(image).convert("L"))


def unit(image: Array) -> Array:
    return grey(image) / 255


def levels(values: Array) -> Array:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def by_grey(call: Callable[[Array], Any]) -> Callable[[Array], Any]:
    return lambda image: call(grey(image))


def sobel_unit(image: Array) -> Array:
    x, y = (cv2.Sobel(grey(image), cv2.CV_64F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    return np.sqrt(x * x + y * y) / (4 * 255 * np.sqrt(2))


def scaled(values: Array) -> Array:
    return (np.abs(values) * 255 / np.abs(values).max()).astype(np.uint8)


def guided(image: Array) -> Array:
    x = unit(image)

    def mean(values: Array) -> Array:
        return uniform_filter(values, 9, mode="mirror")

    a = (mean(x * x) - mean(x) ** 2) / (mean(x * x) - mean(x) ** 2 + 0.01)
    return mean(a) * x + mean(mean(x) - a * mean(x))


def harris(image: Array) -> Array:
    response = np.maximum(cv2.cornerHarris(grey(image), 2, 3, 0.04), 0)
    return response / response.max()


def clahe(image: Array) -> Array:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(3, (4, 4)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def gabor(image: Array) -> Array:
    kernel = cv2.getGaborKernel((9, 9), 2, np.pi / 4, 5, 0.5, np.pi / 2, cv2.CV_32F)
    return levels(np.abs(cv2.filter2D(grey(image), cv2.CV_32F, kernel)))


def distance(image: Array) -> Array:
    free = 255 - cv2.Canny(grey(image), 50, 150)
    return np.minimum(cv2.distanceTransform(free, cv2.DIST_L2, 5) / 16, 1)


def equalized(image: Array) -> Array:
    parts = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    return cv2.cvtColor(cv2.merge((cv2.equalizeHist(parts[0]), *parts[1:])), cv2.COLOR_YCrCb2RGB)


def three(image: Array) -> Array:
    return np.repeat(grey(image)[..., None], 3, axis=2)


ELLIPSE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
SQUARE = np.ones((3, 3), np.uint8)
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], np.float32)
SWAP = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def morphology(operation: int) -> Callable[[Array], Any]:
    return by_grey(lambda g: cv2.morphologyEx(g, operation, SQUARE))


DIRECT: list[tuple[Any, Callable[[Array], Any]]] = [
    ("sobel", lambda i: levels(sobel_unit(i) * 4 * 255 * np.sqrt(2))),
    ({"name": "sobel", "normalize": "unit"}, sobel_unit),
    ({"name": "sobel", "normalize": "max"}, lambda i: scaled(sobel_unit(i))),
    (
        {"name": "sobel", "magnitude": False, "dx": 2, "dy": 0, "ksize": 5, "normalize": "clip"},
        by_grey(lambda g: levels(cv2.Sobel(g, cv2.CV_32F, 2, 0, ksize=5))),
    ),
    (
        {"name": "scharr", "direction": "x", "normalize": "offset"},
        by_grey(lambda g: 0.5 + cv2.Scharr(g, cv2.CV_64F, 1, 0) / (32 * 255)),
    ),
    ("prewitt", lambda i: skimage.filters.prewitt(unit(i))),
    ("roberts", lambda i: skimage.filters.roberts(unit(i))),
    ("laplacian", by_grey(lambda g: cv2.convertScaleAbs(cv2.Laplacian(g, cv2.CV_16S, ksize=3)))),
    (
        {"name": "log", "sigma": 1.4},
        by_grey(
            lambda g: cv2.convertScaleAbs(
                cv2.Laplacian(cv2.GaussianBlur(g, (0, 0), 1.4), cv2.CV_16S, ksize=3)
            )
        ),
    ),
    (
        {"name": "dog", "normalize": "offset"},
        lambda i: 0.5 + skimage.filters.difference_of_gaussians(unit(i), 1, 1.6) / 2,
    ),
    ("gaussian", by_grey(lambda g: cv2.GaussianBlur(g, (0, 0), 1.5))),
    (
        {"name": "gaussian", "channels": 3, "sigma": 2, "ksize": 5},
        lambda i: cv2.GaussianBlur(i, (5, 5), 2),
    ),
    ({"name": "box", "channels": 3}, lambda i: cv2.blur(i, (5, 5))),
    ("median", by_grey(lambda g: cv2.medianBlur(g, 5))),
    ({"name": "bilateral", "channels": 3}, lambda i: cv2.bilateralFilter(i, 9, 50, 3)),
    ("guided", guided),
    (
        {"name": "nlm", "search": 9, "patch": 5},
        by_grey(lambda g: cv2.fastNlMeansDenoising(g, None, 10, 5, 9)),
    ),
    (
        {"name": "nlm", "search": 9, "patch": 5, "channels": 3},
        lambda i: cv2.fastNlMeansDenoisingColored(i, None, 10, 10, 5, 9),
    ),
    ({"name": "tv", "channels": 3}, lambda i: denoise_tv_chambolle(i / 255, 0.1, channel_axis=-1)),
    ("tv", lambda i: denoise_tv_chambolle(unit(i), 0.1)),
    (
        {"name": "edge_preserving", "channels": 3},
        lambda i: cv2.edgePreservingFilter(i, flags=1, sigma_s=60, sigma_r=0.4),
    ),
    ("detail", lambda i: cv2.detailEnhance(three(i), sigma_s=10, sigma_r=0.15)[..., 0]),
    (
        "sharpen",
        by_grey(lambda g: cv2.filter2D(g, -1, np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]))),
    ),
    (
        {"name": "unsharp", "channels": 3, "amount": 0.7},
        lambda i: cv2.addWeighted(i, 1.7, cv2.GaussianBlur(i, (0, 0), 1.5), -0.7, 0),
    ),
    ({"name": "emboss", "channels": 3}, lambda i: cv2.filter2D(i, -1, EMBOSS)),
    ({"name": "gabor", "theta": 45}, gabor),
    ("canny", by_grey(lambda g: cv2.Canny(g, 50, 150))),
    (
        {"name": "canny", "low": 20, "high": 90.5, "root": True},
        by_grey(lambda g: cv2.Canny(g, 20, 90.5, L2gradient=True)),
    ),
    ("harris", harris),
    ("edge_distance", distance),
    ({"name": "erode", "shape": "ellipse", "ksize": 5}, by_grey(lambda g: cv2.erode(g, ELLIPSE))),
    (
        {"name": "dilate", "channels": 3, "iterations": 2},
        lambda i: cv2.dilate(i, SQUARE, iterations=2),
    ),
    ("open", morphology(cv2.MORPH_OPEN)),
    ("close", morphology(cv2.MORPH_CLOSE)),
    ("gradient", morphology(cv2.MORPH_GRADIENT)),
    ("top_hat", morphology(cv2.MORPH_TOPHAT)),
    ("black_hat", morphology(cv2.MORPH_BLACKHAT)),
    (
        {"name": "threshold", "level": 90, "mode": "tozero"},
        by_grey(lambda g: cv2.threshold(g, 90, 255, cv2.THRESH_TOZERO)[1]),
    ),
    ("otsu", by_grey(lambda g: (g > skimage.filters.threshold_otsu(g)) * np.uint8(255))),
    (
        {"name": "adaptive_threshold", "method": "gaussian", "c": -3},
        by_grey(
            lambda g: cv2.adaptiveThreshold(
                g, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 11, -3
            )
        ),
    ),
    ({"name": "clahe", "channels": 3, "clip": 3, "tiles": 4}, clahe),
    ("clahe", by_grey(lambda g: cv2.createCLAHE(2, (8, 8)).apply(g))),
    ("equalize", by_grey(cv2.equalizeHist)),
    ({"name": "equalize", "channels": 3}, equalized),
    ({"name": "gamma", "channels": 3}, lambda i: levels(255 * (i / 255) ** 2.2)),
    ("sepia", lambda i: cv2.transform(i, SEPIA)),
    ({"name": "color_matrix", "matrix": SWAP}, lambda i: i[..., ::-1]),
    ({"name": "pencil_sketch", "channels": 3}, lambda i: cv2.pencilSketch(i)[1]),
    ("pencil_sketch", lambda i: cv2.pencilSketch(three(i))[0]),
    ("grey", grey),
]
GOLDEN = {"sobel_3", "sobel_canny_5", "random_41", "random2_51_15"}
"""Tested against files of the reference."""


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize(("spec", "direct"), DIRECT, ids=[str(spec)[:60] for spec, _ in DIRECT])
def test_a_direct_call_gives_the_same(
    spec: Any, direct: Callable[[Array], Any], photo: str
) -> None:
    image = np.ascontiguousarray(PHOTOS[photo])
    result, expected = apply_filter(spec, image), np.asarray(direct(image.copy()))
    assert result.shape == expected.shape
    assert result.std() > 0  # a flat result would equal many
    if result.dtype == np.uint8 and expected.dtype == np.uint8:
        difference = np.abs(result.astype(int) - expected)
        # Single and double precision part where a value lies between two levels.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 2e-3
        return
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_every_filter_is_compared_with_a_direct_call() -> None:
    compared = {spec if isinstance(spec, str) else spec["name"] for spec, _ in DIRECT}
    assert compared | GOLDEN == set(known_filters())


def test_floats_are_not_cut_to_eight_bits() -> None:
    result = apply_filter("tv", PHOTOS["coffee"])
    assert len(np.unique(result)) > 256
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_facts(name: str) -> None:
    target = resolve(name)
    result = target(np.ascontiguousarray(PHOTOS["chelsea"]))
    assert target.channels == (3 if result.ndim == 3 else 1)
    assert target.facts.source
    assert target.facts.border != "not known"
    assert target.facts.channels_in in (1, 3)
    assert target.facts.flops is None or target.facts.flops >= 0
    assert FILTERS[name].summary.endswith((".", ")", "255", "mode says."))


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_no_pixel_beyond_the_reach_has_an_effect(name: str) -> None:
    entry = FILTERS[name]
    for spec in (
        (name, {"name": name, "channels": 3}) if "channels" in entry.parameters else (name,)
    ):
        target = resolve(spec)
        reach = target.facts.reach
        if reach is None:
            continue
        rng = np.random.default_rng(1)
        image = rng.integers(0, 256, (2 * reach + 9, 2 * reach + 11, 3), np.uint8)
        other = image.copy()
        centre = (reach + 4, reach + 5)
        far = np.ones(image.shape[:2], bool)
        far[
            centre[0] - reach : centre[0] + reach + 1, centre[1] - reach : centre[1] + reach + 1
        ] = 0
        other[far] = rng.integers(0, 256, (int(far.sum()), 3), np.uint8)
        assert np.array_equal(target(image)[centre], target(other)[centre])


def test_a_chain_applies_one_after_the_other() -> None:
    image = np.ascontiguousarray(PHOTOS["coffee"])
    blurred = cv2.GaussianBlur(grey(image), (0, 0), 2)
    expected = cv2.convertScaleAbs(cv2.Laplacian(blurred, cv2.CV_16S, ksize=3))
    chain = [{"name": "gaussian", "sigma": 2}, "laplacian"]
    np.testing.assert_array_equal(apply_filter(chain, image), expected)
    target = resolve(chain)
    assert target.name == "gaussian(sigma=2) > laplacian"
    assert target.facts.reach == 6 + 1
    assert target.channels == 1
    assert output_channels(["canny", "sepia"]) == 3
    again = pickle.loads(pickle.dumps(target))
    np.testing.assert_array_equal(again(image), expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cany", "unknown filter 'cany'; did you mean canny? known: adaptive_threshold, "),
        ({"name": "gausian"}, "unknown filter 'gausian'; did you mean gaussian?"),
        ({"name": "median", "kszie": 3}, "filter median: unknown parameter 'kszie'; did you mean"),
        ({"name": "sepia", "x": 3}, "unknown parameter 'x'; known: none; it has no parameters"),
        (
            {"name": "median", "ksize": 4},
            "filter median: ksize 4 is not allowed; allowed: odd whole numbers from 3 to 31",
        ),
        ({"name": "gaussian", "ksize": 8}, "allowed: odd whole numbers from 3 to 121, or 0: as"),
        ({"name": "gaussian", "sigma": 90}, "sigma 90 is not allowed; allowed: numbers from 0.3"),
        ({"name": "gaussian", "sigma": True}, "sigma True is not allowed"),
        ({"name": "gaussian", "sigma": float("nan")}, "sigma nan is not allowed"),
        ({"name": "gaussian", "channels": 2}, "channels 2 is not allowed; allowed: 1, 3"),
        ({"name": "canny", "low": 200}, "filter canny: low 200 must not be above high 150"),
        ({"name": "sobel", "dx": 0}, "magnitude is of two derivatives"),
        ({"name": "sobel", "dx": 3, "magnitude": False}, "ksize 3 must be larger than dx and dy"),
        ({"name": "dog", "low": 2}, "low 2 must be below high 1.6"),
        ({"name": "color_matrix", "matrix": [[1, 2], [3, 4]]}, "allowed: 3 rows of 3 numbers"),
        ({"name": "open", "shape": "disk"}, "shape 'disk' is not allowed; allowed: rect, ellipse"),
        ({"name": 3}, "a filter is a name, a mapping or a list"),
        ([], "a chain of filters needs at least one"),
        (["gaussian", "laplace"], "unknown filter 'laplace'; did you mean laplacian?"),
    ],
)
def test_mistakes_are_named(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(spec)
    assert message in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_config({"train_data": {"target_filter": spec}})
    assert str(caught.value).startswith("configuration: train_data.target_filter: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_default_is_allowed_and_survives_yaml() -> None:
    for name, entry in FILTERS.items():
        values = entry.values({})
        again = parse_yaml(json.dumps({"name": name, **values}), "here")
        assert canonical(again) == name
        assert filter_name(name) == name


OLD = {
    "[null, {}]": "a1ce5a66f8a89e4f",
    '[null, {"capacity": 3, "num_layers": 2}]': "73bab03666e76bde",
    '["sobel_canny_5", {}]': "ebf578615d1179a1",
    '["random_41", {"capacity": 3, "num_layers": 2}]': "3037f7041e567f0e",
    '["random2_51_15", {}]': "2ce3af3f9b3d4005",
    '[{"kernel": [[1, -1]], "normalize": "max"}, {}]': "a72d8a2437a4a7f7",
}
"""Filter and model -> identity, with the packaged photographs of this edition."""


@pytest.mark.parametrize("key", OLD)
def test_old_configurations_keep_their_identity(key: str) -> None:
    spec, model = json.loads(key)
    data = {} if spec is None else {"target_filter": spec}
    assert identity(load_config({"train_data": data, "model": model})) == OLD[key]


def test_one_filter_written_in_two_ways_is_one() -> None:
    def of(spec: Any) -> str:
        return identity(load_config({"train_data": {"target_filter": spec}}))

    plain = of("canny")
    assert of({"name": "canny", "low": 50.0}) == of({"name": "canny"}) == of(["canny"]) == plain
    assert of({"name": "canny", "low": 40}) != plain
    assert of(["gaussian", ["canny"]]) == of([{"name": "gaussian", "sigma": 1.5}, "canny"])


def test_the_network_has_as_many_outputs_as_the_filter() -> None:
    spec = {"name": "median", "channels": 3}
    assert load_config({"train_data": {"target_filter": spec}}).model.output_channels == 3
    assert load_config({"train_data": {"target_filter": "median"}}).model.output_channels == 1
    with pytest.raises(
        ConfigError, match="output_channels 1 is not allowed; the filter sepia returns 3"
    ):
        load_config({"train_data": {"target_filter": "sepia"}, "model": {"output_channels": 1}})


def test_a_study_may_name_its_filter_at_the_top(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("filter: {name: canny, low: 20}\nconfig: {train_data: {crop_size: 40}}\n")
    plan = make_plan(str(path))
    assert plan.base["train_data.target_filter"] == {"name": "canny", "low": 20}
    assert plan.base["train_data.crop_size"] == 40
    path.write_text("filter: canny\nconfig: {train_data: {target_filter: canny}}\n")
    with pytest.raises(ConfigError, match=r"filter: config\.train_data\.target_filter says it too"):
        make_plan(str(path))
    path.write_text("filter: {name: canny, lo: 20}\n")
    with pytest.raises(ConfigError, match="unknown parameter 'lo'; did you mean low"):
        make_plan(str(path))


STUDIES = sorted(Path(__file__).parents[1].joinpath("studies").glob("*.yaml"))


def test_there_is_a_study_for_each_of_twenty_filters() -> None:
    filters = set()
    for path in STUDIES:
        plan = make_plan(str(path))
        filters.add(filter_name(plan.base["train_data.target_filter"]).partition("(")[0])
        assert set(plan.file.baselines) <= {"reference"}
    assert len(filters) >= 20 + len(GOLDEN)


def test_every_filter_can_be_searched_in_the_space_it_names(tmp_path: Path) -> None:
    tried = set()
    for name, entry in FILTERS.items():
        for channels in (1, 3) if "channels" in entry.parameters else (None,):
            spec = {"name": name} | ({"channels": channels} if channels else {})
            space = resolve(spec).facts.space
            outputs = resolve(spec).channels
            if (space, outputs) in tried:
                continue
            tried.add((space, outputs))
            path = tmp_path / f"{space}_{outputs}.yaml"
            path.write_text(json.dumps({"filter": spec, "search_space": space, "baselines": {}}))
            assert make_plan(str(path)).base["model.output_channels"] == outputs
    assert {space for space, _ in tried} >= {"filternet", "filternet_color", "global", "can"}
