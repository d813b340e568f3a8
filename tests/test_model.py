import random
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
from clapp.models.activations import ACTIVATIONS
from clapp.models.build import build_model
from clapp.models.costs import cost
from clapp.models.families.filternet import is_local, receptive_field
from clapp.models.networks.filternet import FilterNet

GOLDEN = np.load(Path(__file__).parent / "golden" / "model_golden.npz")
NETS: dict[str, dict[str, Any]] = {
    "default": {},
    "rezero_only_c4l2k5_relu": {
        "capacity": 4,
        "num_layers": 2,
        "kernel_size": 5,
        "activation": "relu",
        "reskip": False,
    },
    "reskip_only_c3l1_swish": {
        "capacity": 3,
        "num_layers": 1,
        "activation": "swish",
        "rezero": False,
    },
    "plain_c2l1_tanh": {
        "capacity": 2,
        "num_layers": 1,
        "activation": "tanh",
        "rezero": False,
        "reskip": False,
    },
}
SMALL = {"capacity": 2, "num_layers": 1, "rezero": False, "reskip": False, "norm": "none"}


def golden_weights(name: str) -> dict[str, torch.Tensor]:
    keys = [key for key in GOLDEN.files if key.startswith(f"{name}/")]
    return {key.split("/", 1)[1]: torch.from_numpy(GOLDEN[key]) for key in keys}


def random_architecture(rng: random.Random, **fixed: Any) -> ModelConfig:
    """Any architecture that is possible; half of them differ from block to block."""
    while True:
        try:
            return model_config(_drawn(rng) | fixed)
        except ConfigError:
            continue


def _drawn(rng: random.Random) -> dict[str, Any]:
    shared = rng.random() < 0.3
    layers = rng.choice([1, 2, 3, 4])
    listed = not shared and rng.random() < 0.5

    def per_block(choices: list[Any]) -> Any:
        return [rng.choice(choices) for _ in range(layers)] if listed else rng.choice(choices)

    return {
        "capacity": per_block([1, 2, 3, 4, 8]),
        "num_layers": layers,
        "kernel_size": per_block([1, 3, 5, 7, "1x3", "3x1", "1x5", "5x1", "3x5"]),
        "activation": per_block(list(ACTIVATIONS)),
        "flip_conv_norm": per_block([True, False]),
        "rezero": per_block([True, False]),
        "reskip": per_block([True, False]),
        "norm": per_block(["group", "none"]),
        "padding": rng.choice(["zero_after", "zero", "reflect", "replicate"]),
        "stem": None if shared else rng.choice([None, 0, 1, 2, 3]),
        "bias": rng.random() < 0.7,
        "head": rng.choice(["conv", "conv", "sum"]),
        "output_activation": rng.choice(["none", "relu", "sqrt", "sigmoid", "clip"]),
        "output_norm": rng.choice(["none", "max"]),
        "separable": per_block([False, False, True]),
        "depthwise": per_block([False, False, True]),
        "dilation": per_block([1, 1, 2]),
        "shared_weights": shared,
        "downsample": rng.choice([1, 2]),
    }


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    """(12, 3, 48, 48) crops."""
    rng = random.Random(0)
    pictures = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]
    crops = []
    for i in range(12):
        picture = pictures[i % 3]
        y, x = (rng.randrange(size - 48) for size in picture.shape[:2])
        crops.append(picture[y : y + 48, x : x + 48])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("name", NETS)
def test_equals_the_reference_network(name: str) -> None:
    weights = golden_weights(name)
    expected = weights.pop("output")
    net = build_model(NETS[name])
    own = net.state_dict()
    unused = set(weights) - set(own)
    assert all(key.endswith(("alfa", "beta")) for key in unused)
    net.load_state_dict({key: weights[key] for key in own})
    picture = torch.from_numpy(GOLDEN["input_uint8_hwc"]).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(net(picture), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0, 0, 2]),
        ("leaky_relu", [-0.01, 0, 2]),
        ("squared_relu", [0, 0, 4]),
        ("gelu", [-0.158655, 0, 1.954500]),
        ("tanh", [-0.761594, 0, 0.964028]),
        ("sigmoid", [0.268941, 0.5, 0.880797]),
        ("clip", [0, 0, 1]),
        ("swish", [-0.268941, 0, 1.761594]),
        ("none", [-1, 0, 2]),
        ("abs", [1, 0, 2]),
        ("square", [1, 0, 4]),
    ],
)
def test_activation_values(name: str, expected: list[float]) -> None:
    actual = ACTIVATIONS[name](torch.tensor([-1.0, 0.0, 2.0]))
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0
    )


def keys(**values: Any) -> set[str]:
    return set(build_model(values).state_dict())


def test_unused_parts_have_no_parameters() -> None:
    ends = {"prep.weight", "prep.bias", "post.weight", "post.bias"}
    conv = {"main.0.conv.0.weight", "main.0.conv.0.bias"}
    norm = {"main.0.norm.weight", "main.0.norm.bias"}
    assert keys(**SMALL) == ends | conv
    assert keys(**SMALL | {"norm": "group"}) == ends | conv | norm
    assert keys(**SMALL | {"rezero": True}) == ends | conv | {"main.0.alfa"}
    assert keys(**SMALL | {"reskip": True}) == ends | conv | {"main.0.beta"}
    assert keys(**SMALL | {"rezero": True, "reskip": True, "stem": 1}) == ends | conv
    assert keys(**SMALL | {"shared_weights": True, "num_layers": 3}) == ends | conv
    separable = {"main.0.conv.0.weight", "main.0.conv.1.weight", "main.0.conv.1.bias"}
    assert keys(**SMALL | {"separable": True}) == ends | separable


def block_output(x: torch.Tensor, **values: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A block's result, and the y of its definition."""
    block = build_model({"capacity": 2, "num_layers": 1, "stem": x.shape[1]} | values).main[0]
    with torch.no_grad():
        for scale in (block.alfa, block.beta):
            if scale is not None:
                scale.copy_(torch.tensor([0.5, -2.0]).view(1, 2, 1, 1))
        y = block.conv(block.norm(x)) if values["flip_conv_norm"] else block.norm(block.conv(x))
        return block(x), torch.nn.functional.gelu(y)


@pytest.mark.parametrize("flip", [True, False])
def test_residual_and_skip_follow_their_definition(flip: bool) -> None:
    x = torch.rand(2, 2, 9, 9)
    scale = torch.tensor([0.5, -2.0]).view(1, 2, 1, 1)
    for rezero, reskip in [(True, True), (True, False), (False, True), (False, False)]:
        z, y = block_output(x, rezero=rezero, reskip=reskip, flip_conv_norm=flip)
        skipped = scale * x if reskip else x if rezero else 0
        torch.testing.assert_close(z, (scale * y if rezero else y) + skipped)
    z, y = block_output(x[:, :1], rezero=True, reskip=True, flip_conv_norm=flip)
    torch.testing.assert_close(z, y)


@pytest.mark.parametrize("separable", [True, False])
def test_padding_borders(separable: bool) -> None:
    net = build_model(SMALL | {"kernel_size": 5, "separable": separable})
    inside = net.main[0].conv(torch.rand(1, 2, 12, 12))
    assert inside.shape == (1, 2, 12, 12)
    assert (inside[..., :2, :] == 0).all()
    assert (inside[..., :, -2:] == 0).all()
    assert (inside[..., 2:-2, 2:-2] != 0).all()
    x = torch.rand(1, 2, 12, 12)
    for padding, mode in [("zero", "constant"), ("reflect", "reflect"), ("replicate", "replicate")]:
        padded = build_model(SMALL | {"kernel_size": 5, "padding": padding, "separable": separable})
        padded.load_state_dict(net.state_dict())
        wide = torch.nn.functional.pad(x, (2, 2, 2, 2), mode=mode)
        expected = net.main[0].conv(wide)[..., 2:-2, 2:-2]
        torch.testing.assert_close(padded.main[0].conv(x), expected)


def test_shared_weights_apply_one_block_again_and_again() -> None:
    net = build_model({"capacity": 3, "num_layers": 3, "shared_weights": True})
    x = torch.rand(1, 3, 16, 16)
    expected = net.prep(x)
    for _ in range(3):
        expected = net.main[0](expected)
    torch.testing.assert_close(net(x), net.post(expected))


def test_downsampling_keeps_pixels_in_place() -> None:
    net = build_model(SMALL | {"kernel_size": 1, "activation": "none", "downsample": 2})
    for size in [(1, 1), (2, 2), (5, 8), (8, 5), (31, 17)]:
        assert net(torch.rand(1, 3, *size)).shape[-2:] == size
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)
    straight = build_model(SMALL | {"kernel_size": 1, "activation": "none"})
    straight.load_state_dict(net.state_dict())
    torch.testing.assert_close(
        net(ramp)[..., 1:-1, 1:-1], straight(ramp)[..., 1:-1, 1:-1], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("downsample", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("padding", ["zero_after", "zero", "reflect", "replicate"])
def test_min_size_is_the_smallest_picture(padding: str, kernel_size: int, downsample: int) -> None:
    values = {"padding": padding, "kernel_size": kernel_size, "downsample": downsample}
    net = build_model(SMALL | values)
    size = net.min_size
    assert net(torch.rand(1, 3, size, size)).shape == (1, 1, size, size)
    if size > 1:
        with pytest.raises(RuntimeError):
            net(torch.rand(1, 3, size - 1, size))


@pytest.mark.parametrize("padding", ["zero_after", "zero", "reflect", "replicate"])
@pytest.mark.parametrize("downsample", [1, 2])
def test_one_channel_is_never_normalised_over_one_pixel(padding: str, downsample: int) -> None:
    values = {"capacity": 1, "stem": 1, "norm": "group", "kernel_size": 3, "num_layers": 2}
    net = build_model(values | {"padding": padding, "downsample": downsample})
    size = net.min_size
    assert net(torch.rand(1, 3, size, size)).shape == (1, 1, size, size)


def output_of(values: torch.Tensor, **config: Any) -> torch.Tensor:
    """What a network makes of its last convolution's `values` (B, C, H, W)."""
    net = build_model(SMALL | {"output_channels": values.shape[1]} | config)
    net.post.register_forward_hook(lambda *_: values)
    return net(torch.rand(len(values), 3, *values.shape[2:]))


def test_output_activations() -> None:
    values = torch.tensor([-4.0, 0.0, 0.25, 4.0]).view(1, 1, 2, 2).repeat(1, 1, 2, 2)
    expected = {"none": values, "relu": values.relu(), "sqrt": values.relu().sqrt()}
    expected |= {"sigmoid": 1 / (1 + (-values).exp()), "clip": values.clamp(0, 1)}
    for name, result in expected.items():
        actual = output_of(values, output_activation=name)
        torch.testing.assert_close(actual, result, atol=1e-3, rtol=0)
    assert (output_of(values * 0, output_activation="sqrt") == 0).all()


def test_output_norm_divides_by_each_pictures_maximum() -> None:
    values = torch.rand(3, 2, 4, 4) * torch.tensor([1.0, 0.1, 10.0]).view(3, 1, 1, 1)
    result = output_of(values, output_norm="max")
    expected = values / values.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(result, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("output_activation", ["none", "relu", "sqrt"])
def test_an_empty_picture_is_finite_backwards_too(output_activation: str) -> None:
    values = torch.zeros(2, 1, 4, 4, requires_grad=True)
    result = output_of(values, output_norm="max", output_activation=output_activation)
    assert (result == 0).all()
    (result - 1).square().mean().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


def test_a_sigmoid_starts_where_a_network_without_one_does(photographs: torch.Tensor) -> None:
    torch.manual_seed(5)
    plain = build_model(SMALL)(photographs)
    torch.manual_seed(5)
    squashed = build_model(SMALL | {"output_activation": "sigmoid"})(photographs)
    torch.testing.assert_close(squashed, torch.sigmoid(4 * (plain - 0.5)))


@pytest.mark.parametrize("output_activation", ["none", "relu", "sqrt", "sigmoid", "clip"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_network_starts_dead(
    activation: str, output_activation: str, photographs: torch.Tensor
) -> None:
    few, target = photographs[:2].double(), photographs[2:4, :1].double() / 5
    for seed in range(50):
        torch.manual_seed(seed)
        rng = random.Random(f"{seed}/{activation}")
        # Without biases, and summed up, nothing can be lifted off a rectifier's dead side.
        fixed = {"activation": activation, "output_activation": output_activation}
        fixed |= {"bias": True, "head": "conv", "stem": rng.choice([None, 1, 2])}
        config = random_architecture(rng, **fixed)
        net = FilterNet(config)
        result = net(photographs)
        assert torch.isfinite(result).all()
        assert result.std() > 1e-6, config
        if any(b.norm == "group" and 1 in (b.channels, b.width) for b in config.blocks):
            continue  # normalising one channel alone undoes its scale and its offset
        net = net.double()  # a gradient of zero is one of 1e-16 of the others
        asleep = without_gradient(net, few, target)
        # Kernels that start without a mean see no offset. Only minima and maxima pass offsets on.
        passed_on = activation in ("none", "min3", "max3")
        # An offset of a normalisation just before such a kernel is as unseen as that of the stem.
        blocks = enumerate(config.blocks)
        unseen = {"prep.bias", *(f"main.{n}.norm.bias" for n, b in blocks if b.norm_first)}
        assert all(one in unseen or (passed_on and one.endswith("bias")) for one in asleep), config
        if any(block.norm == "group" for block in config.blocks):
            continue  # which takes offsets away as well
        # That alone is the reason: with weights a little different, so that kernels have a mean,
        # nothing is without a gradient. A unit on the dead side of a rectifier would stay there.
        for module in net.main.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.data *= 1 + 0.1 * torch.rand_like(module.weight)
        assert without_gradient(net, few, target) == [], config


def without_gradient(net: FilterNet, pictures: torch.Tensor, target: torch.Tensor) -> list[str]:
    """Parameters that the loss does not depend on."""
    net.zero_grad()
    (net(pictures) - target).square().mean().backward()
    sizes = {}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all(), (name, net.config)
        sizes[name] = parameter.grad.abs().max().item()
    return [name for name, size in sizes.items() if size < 1e-12 * max(sizes.values())]


def test_initial_values_neither_vanish_nor_explode(photographs: torch.Tensor) -> None:
    for seed in range(100):
        torch.manual_seed(seed)
        config = random_architecture(random.Random(seed))
        features = FilterNet(config).features(photographs)
        assert 1e-3 < features.std() < 1e3, config


def test_initial_weights_follow_the_seed_and_nothing_else() -> None:
    torch.manual_seed(3)
    first = build_model({}).state_dict()
    torch.manual_seed(3)
    second = build_model({"output_activation": "sqrt"})
    state = torch.get_rng_state()
    for key, value in first.items():
        if not key.startswith("post"):
            torch.testing.assert_close(value, second.state_dict()[key])
    torch.manual_seed(3)
    build_model({})
    assert torch.equal(torch.get_rng_state(), state)


def test_kernels_wider_than_the_first_pictures() -> None:
    wide = SMALL | {"kernel_size": 7, "dilation": 6, "padding": "zero_after", "downsample": 2}
    net = build_model(wide)
    assert net.min_size == 73
    assert net(torch.rand(1, 3, 73, 73)).shape == (1, 1, 73, 73)


def test_a_mapping_is_validated() -> None:
    with pytest.raises(ConfigError, match=r"model.*capacity"):
        build_model({"capacity": 0})


BARE = SMALL | {"stem": 1, "bias": False, "head": "sum"}
# What is known to be reachable for sobel_3, random2_51_15 and random_41, by their parameters.
FORMS: list[tuple[int, dict[str, Any]]] = [
    (59, SMALL | {"stem": 1, "kernel_size": 5, "activation": "square"}),
    (
        31,
        SMALL
        | {"stem": 1, "num_layers": 2, "kernel_size": ["1x5", "5x1"], "depthwise": [False, True]}
        | {"activation": ["none", "square"]},
    ),
    (
        23,
        BARE
        | {"num_layers": 2, "kernel_size": ["1x5", "5x1"], "depthwise": [False, True]}
        | {"activation": ["none", "square"]},
    ),
    (
        21,
        BARE
        | {"num_layers": 4, "capacity": [1, 1, 2, 2], "kernel_size": ["1x3", "3x1", "1x3", "3x1"]}
        | {"depthwise": [False, False, False, True]},
    ),
    (54, BARE | {"stem": 0, "activation": "square", "padding": "zero"}),
    (27, BARE | {"stem": 0, "capacity": 1, "padding": "zero"}),
    (16, BARE | {"capacity": 1, "bias": True, "head": "conv"}),
    (12, BARE | {"capacity": 1, "padding": "zero"}),
]


@pytest.mark.parametrize(("parameters", "values"), FORMS)
def test_forms_known_to_be_small_can_be_written(parameters: int, values: dict[str, Any]) -> None:
    net = build_model(values)
    assert sum(p.numel() for p in net.parameters()) == cost(values).params == parameters


def test_window_maximum_and_minimum_are_dilation_and_erosion() -> None:
    picture = torch.rand(1, 1, 20, 30)
    array = picture[0, 0].numpy()
    square = np.ones((3, 3), np.uint8)
    for name, function in (("max3", cv2.dilate), ("min3", cv2.erode)):
        expected = torch.from_numpy(function(array, square))
        torch.testing.assert_close(ACTIVATIONS[name](picture)[0, 0], expected)


def test_equal_networks_are_equal_however_they_are_written() -> None:
    def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
        return model_config(first).canonical() == model_config(second).canonical()

    two = SMALL | {"num_layers": 2}
    assert same(two | {"kernel_size": [3, "3x3"]}, two | {"kernel_size": 3})
    assert same(two | {"activation": ["relu", "relu"]}, two | {"activation": "relu"})
    assert same(two | {"stem": 3, "rezero": [True, False]}, two | {"stem": 3})
    assert not same(two | {"rezero": [False, True]}, two)
    assert not same(two | {"kernel_size": ["1x5", "5x1"]}, two | {"kernel_size": ["5x1", "1x5"]})
    assert same(SMALL | {"kernel_size": 1, "dilation": 2}, SMALL | {"kernel_size": 1})
    assert same(SMALL | {"stem": 1, "depthwise": True}, SMALL | {"stem": 1})
    assert not same(SMALL | {"depthwise": True}, SMALL)
    assert not same(SMALL | {"stem": 0}, SMALL | {"stem": 3})
    assert not same(SMALL | {"head": "sum"}, SMALL)


@pytest.mark.parametrize("seed", range(40))
def test_canonical_keeps_the_function(seed: int, photographs: torch.Tensor) -> None:
    config = random_architecture(random.Random(f"canonical {seed}"))
    net, other = FilterNet(config), FilterNet(config.canonical())
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(photographs), net(photographs))
    assert config.canonical().canonical() == config.canonical()


@pytest.mark.parametrize("seed", range(40))
def test_receptive_field_is_what_a_change_reaches(seed: int) -> None:
    fixed = {"norm": "none", "output_norm": "none", "downsample": 1, "padding": "zero"}
    fixed |= {"activation": "square", "output_activation": "none"}
    config = random_architecture(random.Random(f"field {seed}"), **fixed)
    assert is_local(config)
    net = FilterNet(config).double()
    for parameter in net.parameters():
        parameter.data = torch.rand_like(parameter) + 0.1
    picture = torch.rand(1, 3, 71, 71, dtype=torch.float64)
    changed = picture.clone()
    changed[..., 35, 35] += 1
    rows, columns = ((net(changed) - net(picture))[0, 0] != 0).nonzero(as_tuple=True)
    reach = (rows - 35).abs().max().item(), (columns - 35).abs().max().item()
    assert reach == receptive_field(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"capacity": [2, 2, 2]}, "capacity lists 3 values; allowed: one value, or a list of"),
        ({"kernel_size": "5"}, "'5' is not allowed; allowed: 1, 3, 5, 7, or height x width"),
        ({"kernel_size": "2x3"}, "'2x3' is not allowed"),
        ({"stem": 2, "capacity": 3, "depthwise": True}, "block 0: depthwise turns 2 channels"),
        ({"depthwise": True, "separable": True}, "depthwise and separable exclude each other"),
        ({"head": "sum", "capacity": 3, "output_channels": 2}, "head sum needs a last capacity"),
        (
            {"num_layers": 2, "shared_weights": True, "activation": ["relu", "abs"]},
            "differs from block to block",
        ),
    ],
)
def test_impossible_architectures_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        model_config(values)
