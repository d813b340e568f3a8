"""Target profiles: their facts, what leaves a search space, what an export refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from clapp.config import Layer, load_config, model_config
from clapp.errors import ConfigError, UserError
from clapp.export.onnx import parity, write_onnx
from clapp.export.options import Options, check_target
from clapp.export.tflite.run import Micro, run_litert
from clapp.export.tflite.steps import write_tflite
from clapp.models.build import Network, build_model
from clapp.models.graph.footprint import steps_of
from clapp.models.targets.pieces import fit_pieces
from clapp.models.targets.profile import find_target, known_targets
from clapp.models.targets.rewrite import Fitted, rewrite
from clapp.study.plan.plan import make_plan, plan_from
from clapp.training.int8.loss import training_pictures
from clapp.training.int8.scales import calibrate, run_int8
from tests.test_c_export import PLAIN

STUDY = "sobel3"


def problems(target: str, **values: Any) -> list[str]:
    return list(find_target(target).problems(steps_of(model_config(PLAIN | values))))


def test_every_profile_is_complete() -> None:
    known = "c edgetpu esp-dl ethos-u onnx opencv-dnn tflite-micro"
    assert known_targets() == known.split()
    for name in known_targets():
        profile = find_target(name)
        assert profile.description
        for fact in profile.refuses:
            assert [fact.operator, fact.padding, fact.groups].count(None) == 2
            assert fact.why
            assert fact.source
    with pytest.raises(ConfigError, match=r"target 'esp' is not known; .*known: c, edgetpu"):
        find_target("esp")


def test_the_operator_the_step_and_the_source_are_named() -> None:
    plain: dict[str, Any] = {"padding": "zero", "activation": "relu"}
    assert all(problems(name, **plain) == [] for name in known_targets())
    assert problems("edgetpu", **plain | {"padding": "reflect"}) == []  # by Slice and Concat
    found, _ = problems("edgetpu", **plain | {"norm": "group"})
    assert found.startswith("Div of the step norm: there is no such operator (")
    assert found.endswith(", 2026-10)")
    assert problems("tflite-micro", **plain | {"activation": "gelu"}) == []  # by straight pieces
    assert problems("esp-dl", **plain | {"stem": 2, "capacity": 4, "depthwise": True})
    assert problems("esp-dl", **plain | {"stem": 2, "capacity": 2, "depthwise": True}) == []


def network(values: dict[str, Any]) -> Network:
    torch.manual_seed(0)
    return build_model(PLAIN | values).eval()


def fitted(model: Network, target: str, pictures: torch.Tensor) -> Fitted:
    graph = steps_of(model.config)
    return rewrite(graph, dict(model.state_dict()), find_target(target), lambda: pictures)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return training_pictures(load_config(overrides=["valid_data.num_images=4"]), 4)[0]


EXACT = [
    ("edgetpu", {"activation": "abs"}),
    ("edgetpu", {"activation": "leaky_relu"}),
    ("esp-dl", {"output_norm": "max"}),
    ("esp-dl", {"output_norm": "max", "output_channels": 3, "activation": "abs"}),
    ("edgetpu", {"padding": "reflect"}),
]


@pytest.mark.parametrize(("target", "values"), EXACT)
@torch.no_grad()
def test_what_other_steps_can_say_is_said_by_them(
    target: str, values: dict[str, Any], tmp_path: Path, pictures: torch.Tensor
) -> None:
    model = network({"padding": "zero", "activation": "relu"} | values)
    options = Options(target=target, size=(40, 30))
    check_target(options, steps_of(model.config))
    steps = fitted(model, target, pictures)
    assert steps.lossy == ()
    image = pictures[:1, :, :40, :30].contiguous()
    assert torch.allclose(steps.computed(image), model(image), atol=1e-6)
    write_onnx(model, tmp_path / "m.onnx", {}, options, steps)
    assert parity(model, tmp_path / "m.onnx", [image.numpy()]) < 1e-5
    names = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert not names & find_target(target).refused
    assert "Pad" not in names


LOSSY = [
    ("ethos-u", {"activation": "square", "output_activation": "sqrt", "output_norm": "max"}),
    ("edgetpu", {"output_norm": "max", "output_channels": 2, "activation": "leaky_relu"}),
    ("edgetpu", {"activation": "gelu", "capacity": 3}),
    ("tflite-micro", {"activation": "gelu", "norm": "group"}),
]


@pytest.mark.parametrize(("target", "values"), LOSSY)
@torch.no_grad()
def test_straight_pieces_are_nearly_the_same(
    target: str, values: dict[str, Any], pictures: torch.Tensor
) -> None:
    model = network({"padding": "reflect"} | values)
    graph = steps_of(model.config)
    assert list(find_target(target).problems(graph)) == []
    steps = fitted(model, target, pictures)
    assert set(steps.lossy) <= {"root", "maximum", "gelu"}
    assert steps.lossy
    for node in steps.graph.nodes:
        assert not find_target(target).in_the_way(steps.graph, node), node
    expected, found = model(pictures), steps.computed(pictures)
    spread = float(expected.var())
    assert 0 < float((found - expected).square().mean()) < 5e-3 * spread
    # All there is runs in TFLite Micro, in floats and in int8 as its loss is measured.
    image = pictures[:1, :, 60:99, 50:83].contiguous()
    weights = {name: value.numpy() for name, value in steps.state.items()}
    content = write_tflite(steps.graph, weights, (39, 33), sliced=True)
    ours = steps.computed(image).numpy()
    for run in (run_litert(content), Micro(content, 39 * 33)):
        assert np.abs(run(image.numpy()) - ours).max() < 1e-4
    scales = calibrate(steps.graph, steps.state, pictures)
    content = write_tflite(steps.graph, weights, (39, 33), scales, sliced=True)
    ours = run_int8(steps.graph, steps.state, scales, image).numpy()
    step = scales["output"].step
    assert np.abs(Micro(content, 39 * 33)(image.numpy()) - ours).mean() < 1.5 * step


def test_pieces_follow_samples() -> None:
    draw = np.random.default_rng(0)
    samples = draw.exponential(0.1, 5000)
    few, many = (fit_pieces(np.sqrt, samples, count) for count in (4, 16))
    losses = [float(np.square(p(samples) - np.sqrt(samples)).mean()) for p in (few, many)]
    assert losses[1] < losses[0] / 20 < 1e-4
    assert np.all(np.diff(many.knots) > 0)
    assert np.diff(many.knots)[0] < np.diff(many.knots)[-1] / 10  # where the root bends
    assert many(np.array([-1.0, 99.0])).tolist() == [many.values[0], many.values[-1]]


def test_every_target_on_known_networks() -> None:
    """The table in docs/chip.md."""
    square = {"activation": "square", "padding": "reflect", "output_activation": "sqrt"}
    refused = {}
    for name, values in {
        "sobel": PLAIN | square | {"output_norm": "max", "kernel_size": 5},
        "reference": {},
    }.items():
        graph = steps_of(model_config(values))
        for target in known_targets():
            for problem in find_target(target).problems(graph):
                refused.setdefault((name, target), problem.split(":")[0])
    assert refused == {
        ("reference", "edgetpu"): "Div of the step norm",
        ("reference", "ethos-u"): "Sqrt of the step norm",
    }


def test_an_export_refuses_what_does_not_run() -> None:
    graph = steps_of(model_config(PLAIN | {"norm": "group", "activation": "relu"}))
    message = "--target edgetpu: this model does not run there: Div of the step norm"
    with pytest.raises(UserError, match=message):
        check_target(Options(target="edgetpu", size=(9, 9)), graph)
    message = "--target edgetpu --format tflite-16x8: it does not run 16x8; allowed: int8"
    with pytest.raises(UserError, match=message):
        check_target(Options(("c", "tflite-16x8"), target="edgetpu", size=(9, 9)), graph)
    graph = steps_of(model_config(PLAIN))
    with pytest.raises(UserError, match="one size only; give --size HxW"):
        check_target(Options(target="tflite-micro"), graph)


def test_a_study_draws_nothing_that_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    whole = make_plan(STUDY).space.parameters
    plan = make_plan(STUDY, (), [Layer("test", {"target": "edgetpu"})])
    space = plan.space.parameters
    activations: Any = space["model.activation"]
    before: Any = whole["model.activation"]
    assert activations == before  # GELU becomes straight pieces
    norms: Any = space["model.norm"]
    assert norms.choices == ["none"]
    assert "model.flip_conv_norm" in whole
    assert "model.flip_conv_norm" not in space  # it applied to group normalisation alone
    again = plan_from("again", plan.document()).space
    assert again.document() == plan.space.document()
    assert make_plan(STUDY, (), [Layer("test", {"target": "onnx"})]).space.parameters == whole


def test_what_a_study_fixes_must_run_too() -> None:
    space = {"model.capacity": {"type": "int", "low": 1, "high": 2}}
    values = {"target": "edgetpu", "search_space": space}
    with pytest.raises(ConfigError, match=r"config\.model\.norm: group does not run on target"):
        make_plan(STUDY, (), [Layer("test", values)])
    only = {"model.norm": {"type": "categorical", "choices": ["group"]}}
    with pytest.raises(ConfigError, match=r"model\.norm: none of its choices runs on target edge"):
        make_plan(STUDY, (), [Layer("test", values | {"search_space": only})])
    with pytest.raises(ConfigError, match=r"target: 'phone' is not allowed"):
        make_plan(STUDY, (), [Layer("test", {"target": "phone"})])
