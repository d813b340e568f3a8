"""What a child keeps of its parent."""

import random
from typing import Any, cast

import pytest
import torch
from test_model import BARE, FORMS, SMALL, random_architecture
from torch import Tensor

from clapp.config import ModelConfig, model_config
from clapp.config.filternet import FilterNetConfig
from clapp.errors import ConfigError
from clapp.models.activations import activation
from clapp.models.changes import changes, fusions
from clapp.models.inheritance.filternet import inherited
from clapp.models.networks.filternet import FilterNet


def child_of(parent: FilterNet, values: dict[str, Any]) -> FilterNet:
    """A network with the parent's keys but for `values`, and with its weights."""
    config = model_config(parent.config.model_dump() | values)
    child = FilterNet(config).eval()
    state = inherited(parent.config, parent.state_dict(), config, child.state_dict())
    child.load_state_dict(dict(state))
    return child


def trained(**values: Any) -> FilterNet:
    """A network whose weights are far from any start."""
    torch.manual_seed(0)
    net = FilterNet(model_config(SMALL | {"stem": 1, "padding": "reflect"} | values)).eval()
    for parameter in net.parameters():
        parameter.data += torch.randn_like(parameter) / 3
    return net


PICTURES = torch.rand(2, 3, 24, 24)


def same(a: FilterNet, b: FilterNet, atol: float = 1e-5) -> bool:
    return torch.allclose(a(PICTURES), b(PICTURES), atol=atol, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"capacity": 4},  # new channels have no effect on the head
        {"stem": 3},
        {"kernel_size": 5},
        {"kernel_size": 5, "capacity": 3},
        {"stem": 0},  # multiplied into the first convolution
        {"stem": 0, "kernel_size": 5},
        {"num_layers": 2, "activation": ["none", "relu"], "capacity": [1, 2]},
        {"head": "conv", "bias": True},
        {},
    ],
)
def test_growing_changes_nothing(change: dict[str, Any]) -> None:
    parent = trained(activation="relu")
    assert same(parent, child_of(parent, change))


@pytest.mark.parametrize("stem", [2, None])
def test_a_stem_with_biases_is_folded_into_the_first_convolution(stem: int | None) -> None:
    parent = trained(activation="relu", bias=True, capacity=2, stem=stem)
    assert same(parent, child_of(parent, {"stem": 0}))


@pytest.mark.parametrize(
    ("stem", "others"), [(None, {"no stem", "a stem of 1", "a stem of 3"}), (0, {"a stem of 1"})]
)
def test_a_stem_may_come_and_go(stem: int | None, others: set[str]) -> None:
    """Also where it is as wide as the first block because nothing else is said."""
    model = model_config(SMALL | {"capacity": 2, "stem": stem})
    found = {words for words, _ in changes(cast(FilterNetConfig, model)) if "stem" in words}
    assert found >= others
    assert f"a stem of {2 if stem is None else 0}" not in found


def test_kernels_that_weigh_the_colours_alike_get_a_stem_of_one() -> None:
    parent = trained(stem=0, capacity=3, activation="relu", bias=True)
    alike = parent.main[0].conv[0].weight.data
    alike.copy_(alike[:, :1] * torch.tensor([0.3, 0.6, 0.1])[:, None, None])
    assert same(parent, child_of(parent, {"stem": 1}))
    assert same(parent, child_of(parent, {"stem": 2}))


def test_a_narrower_stem_keeps_what_matters_most() -> None:
    parent = trained(stem=2, capacity=2, activation="none", bias=False)
    parent.prep.weight.data[1] = 2 * parent.prep.weight.data[0]
    assert same(parent, child_of(parent, {"stem": 1}))


@pytest.mark.parametrize("values", [{"depthwise": True}, {"norm": "group"}, {"rezero": True}])
def test_a_stem_that_cannot_be_folded_is_dropped(values: dict[str, Any]) -> None:
    parent = trained(stem=2, capacity=2, flip_conv_norm=True, **values)
    child_of(parent, {"stem": 0, "depthwise": False})(PICTURES)


def test_a_head_is_folded_into_the_block_before() -> None:
    for name in ("none", "relu", "square", "abs"):
        parent = trained(activation=name, bias=False)
        if name != "none":
            parent.post.weight.data.abs_()
        assert same(parent, child_of(parent, {"head": "sum"})), name


def test_a_sum_becomes_a_head() -> None:
    parent = trained(head="sum")
    assert same(parent, child_of(parent, {"head": "conv"}))


def test_a_sigmoid_is_put_where_it_changes_least() -> None:
    for before in ("none", "relu"):
        parent = trained(output_activation=before)
        child = child_of(parent, {"output_activation": "sigmoid"})
        parent.config = parent.config.model_copy(update={"output_activation": "none"})
        torch.testing.assert_close(child(PICTURES), torch.sigmoid(4 * (parent(PICTURES) - 0.5)))


@pytest.mark.parametrize("layers", [1, 2])
def test_depthwise_blocks_and_their_stem_get_a_channel_together(layers: int) -> None:
    parent = trained(stem=2, capacity=2, num_layers=layers, depthwise=True, head="conv")
    child = child_of(parent, dict(changes(parent.config))["one channel more in every block"])
    assert child.config.stem == 3
    assert all(block.width == 3 for block in child.config.blocks)
    assert same(parent, child)
    fewer = dict(changes(parent.config))["one channel less in every block"]
    assert fewer == {"stem": 1, "capacity": [1] * layers}


def test_values_may_be_clipped_unless_they_are_divided_by_the_maximum() -> None:
    parent = trained(output_activation="relu")
    child = child_of(parent, dict(changes(parent.config))["a clip at the end"])
    torch.testing.assert_close(child(PICTURES), parent(PICTURES).clamp(max=1))
    for values in ({"output_norm": "max"}, {"output_activation": "sqrt"}):
        config = trained(**values).config
        assert "a clip at the end" not in dict(changes(config))


def test_full_resolution_is_one_change_of_a_network_at_half() -> None:
    parent = trained(downsample=2)
    child = child_of(parent, dict(changes(parent.config))["full resolution"])
    assert child.config.downsample == 1
    assert "full resolution" not in dict(changes(child.config))
    assert all(
        torch.equal(a, b) for a, b in zip(child.parameters(), parent.parameters(), strict=True)
    )


def test_full_resolution_may_come_with_larger_kernels_and_each_window_twice() -> None:
    values = {"num_layers": 2, "activation": ["min3", "relu"], "kernel_size": ["1x3", 5]}
    parent = trained(downsample=2, **values)
    child = child_of(parent, dict(changes(parent.config))["full resolution, and twice the reach"])
    blocks = child.config.blocks
    assert child.config.downsample == 1
    assert [block.activation for block in blocks] == ["min3", "min3", "relu"]
    assert [block.kernel for block in blocks] == [(1, 5), (1, 1), (7, 7)]
    assert torch.equal(child.main[0].conv[0].weight[..., 1:4], parent.main[0].conv[0].weight)


def test_a_separable_kernel_is_factored_without_loss() -> None:
    parent = trained(kernel_size=5, capacity=1, activation="square")
    column, row = torch.randn(5, 1), torch.randn(1, 5)
    parent.main[0].conv[0].weight.data[0, 0] = column @ row
    for kernels in (["5x1", "1x5"], ["1x5", "5x1"]):
        child = child_of(
            parent, {"num_layers": 2, "kernel_size": kernels, "activation": ["none", "square"]}
        )
        assert same(parent, child, atol=1e-4)
        assert child.main[0].conv[0].weight.shape[2:] != (5, 5)


def test_the_most_important_channels_stay() -> None:
    parent = trained(capacity=3, activation="relu")
    conv = parent.main[0].conv[0]
    conv.weight.data[1] *= 1e-4
    conv.bias.data[1] = 0
    assert same(parent, child_of(parent, {"capacity": 2}), atol=1e-2)


APART = {
    "num_layers": 2,
    "capacity": 4,
    "kernel_size": ["1x5", "5x1"],
    "activation": ["none", "square"],
    "depthwise": True,
    "head": "sum",
    "bias": False,
}


@pytest.mark.parametrize("weak", range(4))
@pytest.mark.parametrize("stem", [1, 4])
@pytest.mark.parametrize("head", ["sum", "conv"])
def test_channels_that_are_kept_apart_go_as_a_whole(weak: int, stem: int, head: str) -> None:
    """Each kernel is largest where the channel as a whole is weak: only the product counts."""
    parent = trained(**APART | {"stem": stem, "head": head})
    first, second = (parent.main[block].conv[0].weight.data for block in (0, 1))
    first[weak] *= 100
    second[weak] *= 1e-6
    fewer = {"capacity": 3, "stem": min(stem, 3)}
    assert same(parent, child_of(parent, fewer))


@pytest.mark.parametrize("head", ["sum", "conv"])
def test_what_comes_next_decides_which_channel_goes(head: str) -> None:
    parent = trained(capacity=[4, 2], num_layers=2, activation=["relu", "relu"], head=head)
    parent.main[0].conv[0].weight.data[2] *= 100
    parent.main[1].conv[0].weight.data[:, 2] = 0
    assert same(parent, child_of(parent, {"capacity": [3, 2]}))


@pytest.mark.parametrize("kernels", [["5x1", "1x5"], ["1x5", "5x1"]])
@pytest.mark.parametrize("inside", [False, True])
def test_kernels_that_are_kept_apart_are_factored_one_by_one(
    kernels: list[str], inside: bool
) -> None:
    """Each is a column times a row; `inside`: of a block that keeps its channels apart already."""
    changes = {"stem": 3 if inside else 1, "depthwise": True, "head": "sum"}
    parent = trained(capacity=3, kernel_size=5, activation="abs", **changes)
    weight = parent.main[0].conv[0].weight.data
    weight[:] = torch.randn(3, 1, 5, 1) * torch.randn(3, 1, 1, 5)
    two = {"num_layers": 2, "kernel_size": kernels, "activation": ["none", "abs"]}
    assert same(parent, child_of(parent, two), atol=1e-4)


@pytest.mark.parametrize("values", [APART, {"activation": "abs", "head": "sum", "capacity": 2}])
def test_a_new_channel_before_a_sum_is_small(values: dict[str, Any]) -> None:
    parent = trained(**values)
    child = child_of(parent, {"capacity": int(values["capacity"]) + 1})
    before, after = parent(PICTURES).detach(), child(PICTURES).detach()
    assert 0 < (after - before).norm() / before.norm() < 0.2


def test_larger_kernels_everywhere_change_nothing_at_first() -> None:
    parent = trained(num_layers=2, kernel_size=["3x1", "1x3"], capacity=2, activation="relu")
    assert same(parent, child_of(parent, {"kernel_size": ["5x1", "1x5"]}))


def test_a_shrunk_kernel_keeps_its_middle() -> None:
    parent = trained(kernel_size=5)
    child = child_of(parent, {"kernel_size": "1x3"})
    middle = parent.main[0].conv[0].weight[:, :, 2:3, 1:4]
    torch.testing.assert_close(child.main[0].conv[0].weight, middle)


def test_depthwise_keeps_its_own_channel() -> None:
    parent = trained(stem=2, capacity=2)
    child = child_of(parent, {"depthwise": True})
    full = parent.main[0].conv[0].weight
    expected = torch.stack([full[0, 0], full[1, 1]])[:, None]
    torch.testing.assert_close(child.main[0].conv[0].weight, expected)
    assert same(child, child_of(child, {"depthwise": False}))


def test_dropping_biases_keeps_the_rest() -> None:
    parent = trained()
    child = child_of(parent, {"bias": False})
    torch.testing.assert_close(child.main[0].conv[0].weight, parent.main[0].conv[0].weight)


def test_nothing_of_the_parent_is_changed() -> None:
    parent = trained()
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    child_of(parent, {"head": "sum", "capacity": 1})
    for name, value in parent.state_dict().items():
        assert torch.equal(value, before[name])


def random_pair(seed: int) -> tuple[ModelConfig, ModelConfig]:
    rng = random.Random(f"pair {seed}")
    return random_architecture(rng), random_architecture(rng)


@pytest.mark.parametrize("seed", range(150))
def test_any_network_can_inherit_from_any_other(seed: int) -> None:
    first, second = random_pair(seed)
    parent, child = FilterNet(first), FilterNet(second)
    state = inherited(first, parent.state_dict(), second, child.state_dict())
    child.load_state_dict(dict(state))
    assert torch.isfinite(child(torch.rand(1, 3, 40, 40))).all()


def test_a_head_of_a_block_that_is_gone_is_not_folded_into_wider_ones() -> None:
    values = {"num_layers": 3, "capacity": [2, 3, 2], "activation": ["relu", "relu", "none"]}
    parent = trained(**values)
    shorter = {"num_layers": 2, "capacity": [2, 3], "activation": ["relu", "relu"], "head": "sum"}
    child = child_of(parent, shorter)
    kept = parent.main[1].conv[0].weight[2]
    assert torch.equal(child.main[1].conv[0].weight[2], kept)


def test_the_known_forms_come_out_of_each_other() -> None:
    """59 parameters to 31 to 23: the steps that a search would take."""
    assert [count for count, _ in FORMS[:3]] == [59, 31, 23]
    parent = FilterNet(model_config(FORMS[0][1]))
    for _, values in FORMS[1:3]:
        child = FilterNet(model_config(values))
        state = inherited(parent.config, parent.state_dict(), child.config, child.state_dict())
        child.load_state_dict(dict(state))
        parent = child
    assert sum(p.numel() for p in parent.parameters()) == 23


def test_impossible_children_are_refused_by_their_configuration() -> None:
    with pytest.raises(ConfigError):
        child_of(trained(), {"capacity": 0})


def weights_of(net: FilterNet) -> Tensor:
    return torch.cat([p.flatten() for p in net.parameters()])


def test_bare_networks_inherit_too() -> None:
    parent = FilterNet(model_config(BARE | {"activation": "square"}))
    assert torch.equal(weights_of(parent), weights_of(child_of(parent, {})))


@pytest.mark.parametrize("depthwise", [[True, False], [False, False], [True, True]])
@pytest.mark.parametrize("bias", [True, False])
def test_two_linear_convolutions_become_one(depthwise: list[bool], bias: bool) -> None:
    parent = trained(
        stem=2,
        num_layers=3,
        capacity=[2, 2, 3],
        kernel_size=["3x1", "1x5", 3],
        activation=["none", "abs", "relu"],
        depthwise=[*depthwise, False],
        bias=bias,
        padding="zero",
    )
    fused = fusions(parent.config)
    assert list(fused) == [0]
    child = child_of(parent, fused[0])
    assert child.config.blocks[0].kernel == (3, 5)
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))  # zeros are added only once
    assert torch.allclose(parent(PICTURES)[inner], child(PICTURES)[inner], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("name", ["max3", "min3"])
def test_a_window_after_a_block_is_one_change(name: str, width: int) -> None:
    """The child does at once what the parent does, and then takes the extreme of each window."""
    parent = trained(capacity=width, kernel_size=3, head="sum", activation="none")
    words = activation(name).words
    child = child_of(parent, dict(changes(parent.config))[f"block 0, then {words}"])
    after = parent.config.model_dump() | {"activation": [name]}
    known = FilterNet(model_config(after)).eval()
    known.load_state_dict(parent.state_dict())
    assert same(known, child)
    assert not same(parent, child)


def test_a_window_may_take_the_place_of_a_function_of_the_same_degree_and_go() -> None:
    words: dict[str, set[str]] = {}
    for before in ("relu", "square", "none", "max3", "gelu"):
        model = cast(FilterNetConfig, model_config(SMALL | {"activation": before}))
        found = {change: values.get("activation") for change, values in changes(model)}
        words[before] = {one for one, values in found.items() if values in (["max3"], ["none"])}
    assert words["relu"] == words["none"] == {"block 0: maximum over 3x3"}
    assert words["max3"] == {"block 0: no activation"}
    assert words["gelu"] == words["square"] == set()
