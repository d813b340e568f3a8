"""Factors of channels that move from one convolution to the next."""

from typing import Any

import pytest
import torch

from clapp.models.activations import activation
from clapp.models.build import build_model
from clapp.models.graph.footprint import steps_of
from clapp.models.graph.nodes import Graph
from clapp.models.graph.run import run_graph
from clapp.training.int8.equalise import equalised
from clapp.training.int8.loss import in_integers
from clapp.training.int8.scales import Bits, Scales, State, calibrate, run_int8
from tests.test_c_export import NETWORKS, PLAIN

PICTURES = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
TWO: dict[str, Any] = PLAIN | {"num_layers": 2, "capacity": 3, "stem": 2}
FORMS: dict[str, dict[str, Any]] = {
    **{name: TWO | {"activation": [name, "relu"]} for name in ("none", "relu", "leaky_relu")},
    **{name: TWO | {"activation": [name, "relu"]} for name in ("abs", "square", "max3")},
    "depthwise": TWO | {"capacity": [4, 8], "depthwise": True, "activation": "relu"},
    "half": TWO | {"downsample": 2, "activation": "abs"},
    "group": TWO | {"norm": "group", "activation": "relu"},
    "skips": TWO | {"rezero": True, "capacity": 2, "activation": "relu"},
    "shared": TWO | {"shared_weights": True, "capacity": 2, "activation": "relu"},
}


def network(values: dict[str, Any]) -> tuple[Graph, State]:
    torch.manual_seed(1)
    model = build_model(values).eval()
    return steps_of(model.config), model.state_dict()


def computed(graph: Graph, state: State) -> torch.Tensor:
    return run_graph(graph, state, PICTURES, lambda _, value: value)


@pytest.mark.parametrize("name", [*FORMS, *NETWORKS])
@torch.no_grad()
def test_the_network_stays_the_same(name: str) -> None:
    graph, state = network({**FORMS, **NETWORKS}[name])
    kept = {key: value.clone() for key, value in state.items()}
    before, found = computed(graph, state), equalised(graph, state, PICTURES)
    assert torch.allclose(computed(graph, found), before, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(state[key], kept[key]) for key in kept)
    if name in FORMS:
        changed = any(not torch.equal(found[key], kept[key]) for key in kept)
        assert changed == (name not in ("skips", "shared"))


@pytest.mark.parametrize("name", ["relu", "square", "depthwise", "max3", "half"])
@torch.no_grad()
def test_channels_then_reach_equally_far(name: str) -> None:
    graph, state = network(FORMS[name])
    reached: dict[str, torch.Tensor] = {}

    def look(value_name: str, value: torch.Tensor) -> torch.Tensor:
        if value.dim() == 4 and len(value) == len(PICTURES):
            reached[value_name] = value.abs().amax((0, 2, 3))
        return value

    run_graph(graph, equalised(graph, state, PICTURES), PICTURES, look)
    taken = [node.inputs[0] for node in graph.nodes if node.kind == "conv"]
    assert len(taken) == 4
    for value in taken[1:]:
        assert reached[value].min() > 0
        assert reached[value].max() / reached[value].min() < 1.001


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["none", "relu", "abs", "square"])
@torch.no_grad()
def test_factors_that_mean_nothing_do_not_matter(name: str, bits: Bits) -> None:
    """One channel is multiplied by 100, and what is made of it divided by as much."""
    graph, state = network(FORMS[name])
    other = {key: value.clone() for key, value in state.items()}
    for key in ("main.0.conv.0.weight", "main.0.conv.0.bias"):
        other[key][1] *= 100
    other["main.1.conv.0.weight"][:, 1] /= 100.0 ** (activation(name).degree or 0)
    exact = computed(graph, state)
    assert torch.allclose(computed(graph, other), exact, rtol=1e-3, atol=1e-4)

    def lost(state: State, scales: Scales) -> float:
        return float((run_int8(graph, state, scales, PICTURES) - exact).square().mean())

    equal = equalised(graph, state, PICTURES)
    least = lost(equal, calibrate(graph, equal, PICTURES, bits))
    assert lost(*in_integers(graph, other, PICTURES, bits)) < 1.1 * least
    assert lost(other, calibrate(graph, other, PICTURES, bits)) > 5 * least


@torch.no_grad()
def test_equal_channels_are_taken_only_where_less_is_lost() -> None:
    for values in NETWORKS.values():
        graph, state = network(values)
        exact = computed(graph, state)

        def lost(one: State, graph: Graph = graph, exact: torch.Tensor = exact) -> float:
            scales = calibrate(graph, one, PICTURES)
            return float((run_int8(graph, one, scales, PICTURES) - exact).square().mean())

        chosen, _ = in_integers(graph, state, PICTURES)
        ways = (state, equalised(graph, state, PICTURES))
        assert lost(chosen) == pytest.approx(min(lost(one) for one in ways), rel=1e-3)
