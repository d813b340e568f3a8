import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import skimage.data
import torch

import clapp.config
from clapp.activations import ACTIVATIONS
from clapp.config import ModelConfig, model_config
from clapp.errors import ConfigError
from clapp.model import FilterNet, build_model

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
    shared = rng.random() < 0.3
    values = {
        "capacity": rng.choice([1, 2, 3, 4, 8]),
        "num_layers": rng.choice([1, 2, 3, 4]),
        "kernel_size": rng.choice([1, 3, 5, 7]),
        "activation": rng.choice(list(ACTIVATIONS)),
        "flip_conv_norm": rng.random() < 0.5,
        "rezero": rng.random() < 0.5,
        "reskip": rng.random() < 0.5,
        "norm": rng.choice(["group", "none"]),
        "padding": rng.choice(["zero_after", "zero", "reflect", "replicate"]),
        "stem": None if shared else rng.choice([None, 1, 2]),
        "output_activation": rng.choice(["none", "relu", "sqrt"]),
        "output_norm": rng.choice(["none", "max"]),
        "separable": rng.random() < 0.3,
        "shared_weights": shared,
        "downsample": rng.choice([1, 2]),
    }
    return model_config(values | fixed)


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


def test_every_activation_a_configuration_allows_exists() -> None:
    assert set(ACTIVATIONS) == set(get_args(clapp.config.Activation))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [0, 0, 2]),
        ("leaky_relu", [-0.01, 0, 2]),
        ("squared_relu", [0, 0, 4]),
        ("gelu", [-0.158655, 0, 1.954500]),
        ("tanh", [-0.761594, 0, 0.964028]),
        ("sigmoid", [0.268941, 0.5, 0.880797]),
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


@pytest.mark.parametrize("output_activation", ["none", "relu", "sqrt"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_network_starts_dead(
    activation: str, output_activation: str, photographs: torch.Tensor
) -> None:
    target = torch.rand(len(photographs), 1, 48, 48) / 5
    for seed in range(50):
        torch.manual_seed(seed)
        rng = random.Random(f"{seed}/{activation}")
        fixed = {"activation": activation, "output_activation": output_activation}
        config = random_architecture(rng, **fixed)
        net = FilterNet(config)
        result = net(photographs)
        assert torch.isfinite(result).all()
        assert result.std() > 1e-6, config
        (result - target).square().mean().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all(), (name, config)
            # Normalising one channel alone undoes its scale and its offset, and kernels that start
            # without a mean do not see the offset of the first convolution.
            alone = config.norm == "group" and 1 in (config.capacity, config.stem_channels)
            excused = alone or name == "prep.bias"
            assert excused or parameter.grad.abs().sum() > 0, (name, config)


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


def test_a_mapping_is_validated() -> None:
    with pytest.raises(ConfigError, match=r"model.*capacity"):
        build_model({"capacity": 0})
