"""Target profiles: their facts, what leaves a search space, what an export refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clapp.config import Layer, model_config
from clapp.errors import ConfigError, UserError
from clapp.export.formats import weights_of
from clapp.export.onnx import make_onnx, parity, write_onnx
from clapp.export.options import Options, check_target
from clapp.models.build import build_model
from clapp.models.graph.footprint import steps_of
from clapp.models.targets.profile import REWRITES, find_target, known_targets
from clapp.study.plan.plan import make_plan, plan_from
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
    (found,) = problems("edgetpu", **plain | {"norm": "group"})
    assert found.startswith("Div of the step norm: there is no such operator (")
    assert found.endswith(", 2026-10)")
    (found,) = problems("tflite-micro", **plain | {"activation": "gelu"})
    assert found.startswith("Erf of the step gelu: there is no GELU (run with its package")
    assert problems("esp-dl", **plain | {"stem": 2, "capacity": 4, "depthwise": True})
    assert problems("esp-dl", **plain | {"stem": 2, "capacity": 2, "depthwise": True}) == []


@pytest.mark.parametrize("activation", ["abs", "leaky_relu"])
def test_what_relu_can_say_is_written_by_relu(activation: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(PLAIN | {"activation": activation, "padding": "zero"}).eval()
    options = Options(target="edgetpu", size=(40, 30))
    check_target(options, steps_of(model.config))
    graph = steps_of(model.config)
    names = {node.op_type for node in make_onnx(graph, weights_of(model), options).graph.node}
    assert not names & set(REWRITES)
    write_onnx(model, tmp_path / "m.onnx", {}, options)
    image = np.random.default_rng(0).random((1, 3, 40, 30), np.float32)
    assert parity(model, tmp_path / "m.onnx", [image]) < 1e-6


def test_the_maximum_of_magnitudes_without_abs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(PLAIN | {"output_norm": "max", "padding": "zero"}).eval()
    options = Options(target="esp-dl", size=(40, 30))
    proto = make_onnx(steps_of(model.config), weights_of(model), options)
    assert "Abs" not in {node.op_type for node in proto.graph.node}
    write_onnx(model, tmp_path / "m.onnx", {}, options)
    image = np.random.default_rng(0).random((1, 3, 40, 30), np.float32)
    assert parity(model, tmp_path / "m.onnx", [image]) < 1e-5


def test_an_export_refuses_what_does_not_run() -> None:
    relu = PLAIN | {"activation": "relu"}
    graph = steps_of(model_config(relu | {"output_norm": "max", "padding": "zero"}))
    message = "--target edgetpu: this model does not run there: Div of the step maximum"
    with pytest.raises(UserError, match=message):
        check_target(Options(target="edgetpu", size=(9, 9)), graph)
    with pytest.raises(UserError, match="one size only; give --size HxW"):
        check_target(Options(target="tflite-micro"), graph)


def test_a_study_draws_nothing_that_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    whole = make_plan(STUDY).space.parameters
    plan = make_plan(STUDY, (), [Layer("test", {"target": "edgetpu"})])
    space = plan.space.parameters
    activations: Any = space["model.activation"]
    before: Any = whole["model.activation"]
    assert set(before.choices) - set(activations.choices) == {"gelu"}
    assert len(activations.weights) == len(activations.choices)
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
    with pytest.raises(ConfigError, match=r"config\.model\.activation: gelu does not run on targ"):
        make_plan(STUDY, (), [Layer("test", values)])
    only = {"model.norm": {"type": "categorical", "choices": ["group"]}}
    with pytest.raises(ConfigError, match=r"model\.norm: none of its choices runs on target edge"):
        make_plan(STUDY, (), [Layer("test", values | {"search_space": only})])
    with pytest.raises(ConfigError, match=r"target: 'phone' is not allowed"):
        make_plan(STUDY, (), [Layer("test", {"target": "phone"})])
