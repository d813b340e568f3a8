"""Networks in int8: scales, loss, fine-tuning, ONNX and C beside each other."""

import ctypes
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import clapp.training.int8.loss
from clapp.config import load_config
from clapp.errors import UserError
from clapp.export.c.compiled import compile_c, load_c
from clapp.export.c.int8 import write_c_int8
from clapp.export.c.statements_int8 import factor_of
from clapp.export.formats import weights_of
from clapp.export.onnx import model_of
from clapp.export.onnx_int8 import Int8Writer
from clapp.export.options import Options
from clapp.front.objectives import results
from clapp.front.outcomes import Candidate
from clapp.front.pick.choose import Finished, pick
from clapp.models.build import Network, build_model
from clapp.models.graph.footprint import steps_of
from clapp.models.graph.nodes import IMAGE
from clapp.models.graph.run import run_graph
from clapp.training.int8.loss import fine_tune, int8_loss, loss_of, training_pictures
from clapp.training.int8.scales import Scale, calibrate, fused, run_int8
from tests.test_c_export import NETWORKS, PLAIN

CONFIG = load_config(overrides=["valid_data.num_images=4"])
RELU = PLAIN | {"activation": "relu", "stem": 3, "padding": "replicate"}
INT8 = NETWORKS | {"relu": RELU}


def network(values: dict[str, Any]) -> Network:
    torch.manual_seed(0)
    return build_model(values).eval()


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return training_pictures(CONFIG, 4)[0]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_steps_by_torch_are_the_network(name: str, pictures: torch.Tensor) -> None:
    model = network(NETWORKS[name])
    image = pictures[:1, :, :61, :90]
    ours = run_graph(steps_of(model.config), model.state_dict(), image, lambda _, v: v)
    assert torch.allclose(ours, model(image), atol=1e-5)


def test_scales_reach_from_the_least_to_the_largest(pictures: torch.Tensor) -> None:
    model = network(RELU)
    graph, state = steps_of(model.config), model.state_dict()
    scales = calibrate(graph, state, pictures)
    assert scales[IMAGE] == Scale(1 / 255, -128)
    conv, relu = next((n.inputs[0], n.output) for n in graph.nodes if n.function == "relu")
    assert fused(graph) == {conv}
    assert scales[conv] == scales[relu]
    assert scales[relu].zero == -128  # nothing is negative
    with torch.no_grad():
        largest = float(model(pictures).max())
    step, zero = scales["output"][:2]
    assert step * (127 - zero) == pytest.approx(largest, abs=step)


@pytest.mark.parametrize("name", INT8)
def test_onnx_and_c_in_int8(name: str, tmp_path: Path, pictures: torch.Tensor) -> None:
    import onnxruntime

    model = network(INT8[name])
    graph, state = steps_of(model.config), model.state_dict()
    scales = calibrate(graph, state, pictures)
    options = Options(uint8=True)
    proto = model_of(Int8Writer(graph, weights_of(model), scales, options), graph, options)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet)
    code = write_c_int8(graph, weights_of(model), scales, "net", "a network", model.min_size)
    (tmp_path / "model_int8.h").write_text(code.header)
    (tmp_path / "model_int8.c").write_text(code.source)
    library = compile_c(tmp_path, tmp_path / "net.so", file=code.file)
    apply = load_c(library, code, uint8=True)
    least = model.min_size
    for height, width in ((100, 80), (61, 90), (least, least + 1)):
        image = pictures[:1, :, :height, :width].contiguous()
        levels = np.rint(image.numpy() * 255).astype(np.uint8)
        expected = session.run(None, {IMAGE: levels})[0]
        with torch.no_grad():
            ours = run_int8(graph, state, scales, image).numpy()
            exact = model(image).numpy()
        error = float(np.abs(ours - exact).mean())
        # Halves are rounded up here and to even there; a root makes more of one level.
        for found in (expected, apply(image.numpy())):
            assert np.abs(found - ours).mean() <= max(0.1 * error, 0.7 * scales["output"].step)
    assert code.ram(400) < 400 * 400
    source = code.source.replace("/* ", "")
    assert "malloc" not in source
    assert ("float" in source) == (code.plan.maximum is not None or code.plan.passes > 1)


def test_an_int8_source_needs_no_math(tmp_path: Path) -> None:
    model = network(RELU)
    graph = steps_of(model.config)
    scales = calibrate(graph, model.state_dict(), torch.rand(2, 3, 32, 32))
    code = write_c_int8(graph, weights_of(model), scales, "net", "a network", model.min_size)
    assert "math.h" not in code.source
    assert code.weight_bytes < 200
    assert "const uint8_t *image" in code.header
    (tmp_path / "model_int8.h").write_text(code.header)
    (tmp_path / "model_int8.c").write_text(code.source)
    library = compile_c(tmp_path, tmp_path / "net.so", file=code.file)
    assert ctypes.CDLL(str(library)).net_run(None, 0, 9, None, None) == -1


def test_a_normalisation_is_a_pass_and_no_value_is_kept_whole(tmp_path: Path) -> None:
    model = network(NETWORKS["reference"])
    graph = steps_of(model.config)
    scales = calibrate(graph, model.state_dict(), torch.rand(1, 3, 16, 16))
    code = write_c_int8(graph, weights_of(model), scales, "net", "a network", 3)
    assert code.plan.passes == 3
    assert code.ram(2000) - code.ram(1000) < 90 * 1000
    assert "floats once a picture" in code.header


@pytest.mark.parametrize("value", [1e-6, 0.3, 1.0, 7.5, 1000.0])
def test_factors_are_whole_numbers_and_a_shift(value: float) -> None:
    factor, shift = factor_of(value)
    assert 2**29 <= factor < 2**31
    assert math.isclose(factor / 2**shift, value, rel_tol=1e-8)


def test_loss_in_int8_is_an_objective() -> None:
    model = network(NETWORKS["59"])
    result: Any = SimpleNamespace(model=model, config=CONFIG, loss=0.5)
    found = results(result, ["loss", "loss_int8"])
    assert found["loss"] == 0.5
    assert found["loss_int8"] == int8_loss(model, CONFIG)
    images, targets = training_pictures(CONFIG, 2)
    assert images.shape == (2, 3, 224, 224)
    assert targets.shape == (2, 1, 224, 224)


def test_fine_tuning_lowers_the_loss_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clapp.training.int8.loss, "_STEPS", 50)
    monkeypatch.setattr(clapp.training.int8.loss, "PICTURES", 4)
    model = network(RELU | {"output_activation": "relu"})
    graph = steps_of(model.config)
    before = int8_loss(model, CONFIG)
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    state, scales = fine_tune(graph, model.state_dict(), CONFIG)
    assert loss_of(CONFIG, graph, state, scales) < before
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


def test_the_pick_by_loss_in_int8() -> None:
    def one(trial: int, **values: float) -> Candidate:
        return Candidate(trial, values, 10, 100, values["loss"], {})

    front = [one(1, loss=0.1, loss_int8=0.5), one(2, loss=0.2, loss_int8=0.3)]
    assert pick("min-loss", Finished(front, front)).trial == 1
    assert pick("min-loss-int8", Finished(front, front)).trial == 2
    without = [one(1, loss=0.1)]
    with pytest.raises(UserError, match=r"does not measure loss_int8; .* one of its objectives"):
        pick("min-loss-int8", Finished(without, without))
