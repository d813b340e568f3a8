"""Families of networks: one from outside of the package, and what all of them promise."""

import json
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import clapp
from clapp.config import Layer, ModelConfig, differences, identity, load_config, model_config, nest
from clapp.errors import ConfigError, UserError
from clapp.export.formats import Bundle
from clapp.export.onnx import parity, write_onnx
from clapp.export.options import Options
from clapp.export.writers import write_format
from clapp.models.build import Network, build_model, heir
from clapp.models.costs import cost
from clapp.models.families import family_of, known_families
from clapp.models.graph.footprint import steps_of
from clapp.models.graph.run import run_graph
from clapp.models.neighbours import smaller
from clapp.models.words import model_in_words
from clapp.study.plan.plan import make_plan
from clapp.study.sampling.draw import Draw
from clapp.training.int8.loss import exported_state
from clapp.training.optimisers.tangents import _by_torch, jacobian

ROOT = Path(__file__).parents[1]
MODULE = '''
import torch
from torch import nn

import clapp


class RowConfig(clapp.ModelConfig):
    """A chain of rows: convolutions of 1 x `length`, `depth` of them."""

    length: int = 3
    depth: int = 1

    @property
    def widest(self):
        return self.input_channels


class Rows(nn.Module):
    def __init__(self, config):
        super().__init__()
        ends = [config.input_channels] * config.depth + [config.output_channels]
        border = (0, config.length // 2)
        self.rows = nn.Sequential(
            *(nn.Conv2d(a, b, (1, config.length), padding=border) for a, b in zip(ends, ends[1:]))
        )

    def forward(self, x):
        return self.rows(x)


def cost(config):
    ends = [config.input_channels] * config.depth + [config.output_channels]
    weights = [a * b * config.length for a, b in zip(ends, ends[1:])]
    return clapp.Cost(sum(weights) + sum(ends[1:]), 2 * sum(weights) * 224 * 224)


clapp.register_family(
    clapp.Family(
        name="rows",
        config=RowConfig,
        build=Rows,
        cost=cost,
        min_size=lambda config: 1,
        receptive_field=lambda config: (0, config.depth * (config.length // 2)),
        is_local=lambda config: True,
        words=lambda config: f"{config.depth} rows of {config.length}",
    )
)
'''
STUDY = """
plugins: [row_plugin]
search_space:
  model.family: {type: categorical, choices: [rows]}
  model.length: {type: int, low: 1, high: 7, step: 2}
  model.depth: {type: int, low: 1, high: 3}
baselines: {long: {model.length: 7}}
config:
  train_data: {resize_base: 64, crop_size: 32, min_buffer: 4}
  valid_data: {resize_base: 64, crop_size: 48, num_images: 5}
  train: {batch_size: 2, min_iterations: 1, max_iterations: 40, validation_interval: 20}
budget: {trials: 6}
"""


def run(folder: Path, *words: str) -> str:
    done = forked.clapp(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_family_from_outside_is_searched_and_exported(tmp_path: Path) -> None:
    (tmp_path / "row_plugin.py").write_text(MODULE)
    (tmp_path / "mine.yaml").write_text(STUDY)
    run(tmp_path, "optimize.py", "--study", "mine.yaml", "--workers", "1")
    front = json.loads((tmp_path / "results" / "mine" / "front.json").read_text())
    assert front["counts"]["complete"] + front["counts"]["pruned"] == 6
    assert all(one["config"]["model.family"] == "rows" for one in front["front"])
    long = json.loads((tmp_path / "results/mine/trials/00000/result.json").read_text())
    assert (long["params"], long["flops"]) == (3 * 7 + 1, 2 * 3 * 7 * 224 * 224)
    exported = json.loads(run(tmp_path, "export", "mine.yaml", "--json"))
    assert "model.onnx" in exported["files"]
    run(tmp_path, "report", "mine.yaml")
    assert " rows of " in (tmp_path / "results/mine/report.html").read_text()


FAMILIES = tuple(known_families())
OTHERS = tuple(name for name in FAMILIES if name != "filternet")
"""Families without rules of their own for inheritance and derivatives."""
_BLOCKS = {"width": "capacity", "depth": "num_layers"}


def drawn(family: str, seed: int, **changes: object) -> ModelConfig:
    """A network of the family's packaged space; a local one of FilterNet, with two layers."""
    if family == "filternet":
        plain = {"norm": "none", "padding": "reflect", "capacity": 2 + seed % 3, "num_layers": 2}
        return model_config(plain | {_BLOCKS.get(k, k): v for k, v in changes.items()})
    study = make_plan("smoke", overrides=[Layer("test", {"search_space": family})])
    keys = study.space.suggest(Draw(np.random.default_rng(seed)), study.base)
    values = {k.removeprefix("model."): v for k, v in keys.items() if k.startswith("model.")}
    return model_config(values | changes)


def as_it_is(_: str, value: torch.Tensor) -> torch.Tensor:
    return value


def network(family: str, seed: int, **changes: object) -> Network:
    """One with weights away from their start, also where these are zero."""
    torch.manual_seed(seed)
    net = build_model(drawn(family, seed, **changes)).eval()
    with torch.no_grad():
        for value in net.state_dict().values():
            value.add_((torch.rand_like(value) - 0.5) / 20)
    return net


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", FAMILIES)
def test_costs_are_those_of_a_counted_pass(family: str, seed: int) -> None:
    config = drawn(family, seed, output_channels=1 + seed % 3)
    net = build_model(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.rand(1, 3, 224, 224))
    params = sum(p.numel() for p in net.parameters())
    assert cost(config) == (params, counter.get_total_flops())
    assert cost(config.canonical()) == cost(config)


def test_can24_has_the_size_of_the_paper() -> None:
    config = model_config({"family": "can", "width": 24, "depth": 8, "output_channels": 3})
    assert cost(config).params == 37_219
    assert cost(config).flops == pytest.approx(3.7e9, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_any_size_and_onnx(family: str, seed: int, tmp_path: Path) -> None:
    net = network(family, seed)
    least = net.min_size
    sizes = [(least, least), (17, 40), (33, 31), (64, 48)]
    pictures = [torch.rand(2, 3, *size) for size in sizes]
    for picture in pictures:
        with torch.no_grad():
            result = net(picture)
            by_steps = run_graph(steps_of(net.config), exported_state(net), picture, as_it_is)
        assert result.shape == (2, 1, *picture.shape[2:])
        torch.testing.assert_close(by_steps, result, atol=1e-4, rtol=1e-4)
    write_onnx(net, tmp_path / "net.onnx", {})
    parity(net, tmp_path / "net.onnx", [picture.numpy() for picture in pictures])


def _sees_less_than(net: Network, side: int) -> bool:
    entry = family_of(net.config)
    return 2 * entry.receptive_field(net.config)[0] + entry.alignment(net.config) < side


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_reaches_as_far_as_the_family_says(family: str, seed: int) -> None:
    plain = {"norm": "none"} if family == "can" else {}
    entry, side = family_of(model_config({"family": family})), 192
    nets = (network(family, seed + 10 * n, activation="relu", **plain) for n in range(10))
    net = next(n for n in nets if _sees_less_than(n, side)).double()
    for name, value in net.named_parameters():  # so that no effect cancels another one
        value.data = torch.zeros_like(value) if "bias" in name else value.data.abs() + 0.01
    rows, columns = entry.receptive_field(net.config)
    picture = torch.zeros(1, 3, side, side, dtype=torch.float64)
    reached = 0
    with torch.no_grad():
        before = net(picture)
        for place in range(96, 96 + entry.alignment(net.config)):
            changed = picture.clone()
            changed[..., place, place] += 1
            found = (net(changed) - before)[0, 0].abs() > 0
            if not entry.is_local(net.config):
                assert found.all()
                return
            far = found.nonzero() - place
            reached = max(reached, int(far.abs().max()))
    assert reached == rows == columns


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_a_batch_do_not_mix(family: str) -> None:
    net = network(family, 0)
    pictures = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        together, alone = net(pictures), [net(pictures[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_down_the_gradient_reduces_the_loss(family: str) -> None:
    torch.manual_seed(0)
    net = build_model(drawn(family, 0, width=2, depth=1)).eval()
    x = torch.rand(2, 3, 24, 24)
    before = F.mse_loss(net(x), x.mean(1, keepdim=True))
    gradients = torch.autograd.grad(before, list(net.parameters()))
    size = torch.cat([g.flatten() for g in gradients]).norm()
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter -= 1e-3 / size * gradient
        assert 0 < F.mse_loss(net(x), x.mean(1, keepdim=True)) < before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_described(family: str) -> None:
    assert f"| `{family}` |" in (ROOT / "docs" / "models.md").read_text()
    assert make_plan("smoke", overrides=[Layer("test", {"search_space": family})])
    wider = (model_in_words(drawn(family, 0, width=width)) for width in (3, 4))
    assert next(wider) != next(wider)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", OTHERS)
def test_jacobians_are_those_of_torch(family: str, seed: int) -> None:
    few = {"inner": 1, "height": 1, "depth": seed % 2} if family == "u2net" else {}
    net = network(family, seed, width=2, output_channels=1 + seed % 2, **few).double()
    picture = torch.rand(2, 3, 12, 9, dtype=torch.float64)
    for own, theirs in zip(jacobian(net, picture), _by_torch(net, picture), strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("family", OTHERS)
def test_smaller_networks_inherit(family: str) -> None:
    net = network(family, 1, width=3, depth=2)
    changes = smaller(net.config)
    assert any("width" in keys for _, keys in changes)
    for _, keys in changes:
        child = model_config(net.config.model_dump() | keys)
        assert cost(child).params < cost(net.config).params
        state = heir(net.config, net.state_dict(), child)
        assert state is not None
        build_model(child).load_state_dict(dict(state))
        shared = [name for name, value in state.items() if net.state_dict()[name].equal(value)]
        assert shared or "width" in keys
    assert heir(net.config, net.state_dict(), model_config({})) is None
    wider = model_config(net.config.model_dump() | {"width": 4})
    assert heir(net.config, net.state_dict(), wider) is not None
    assert model_in_words(wider) != model_in_words(net.config)


@pytest.mark.parametrize("family", OTHERS)
def test_a_training_learns(family: str) -> None:
    config = load_config(
        {
            "model": {"family": family, "width": 4},
            "train_data": {"target_filter": {"kernel": [[1 / 9] * 3] * 3}, "crop_size": 48,
                           "min_buffer": 4},
            "valid_data": {"num_images": 4, "crop_size": 64},
            "train": {"device": "cpu", "optimizer": "adam", "max_iterations": 500,
                      "min_iterations": 500, "validation_interval": 50, "loss_type": "l2",
                      "batch_size": 4, "learning_rate": 0.01},
        }
    )  # fmt: skip
    result = clapp.train(config)
    assert result.loss < 0.01


def test_can_is_exported_without_its_normalisation() -> None:
    net = network("can", 0, norm="adaptive", depth=3, width=3)
    plain = family_of(net.config).exported(net)
    assert not any("norm" in name for name in plain.state_dict())
    picture = torch.rand(1, 3, 20, 30)
    torch.testing.assert_close(plain(picture), net(picture), atol=1e-4, rtol=1e-4)


def test_other_formats_take_can_and_refuse_what_they_cannot_write(tmp_path: Path) -> None:
    pictures = [torch.rand(1, 3, 33, 40).numpy()]
    for values in ({}, {"input_channels": 4, "settings": "scale"}):
        net = network("can", 0, width=3, depth=2, **values)
        config = load_config({})
        options = Options(size=(33, 40))
        bundle = Bundle(tmp_path, net, config, options, pictures, {})
        if not values:
            written, differences = write_format("c", bundle)
            assert "model.c" in written.files
            measured = [one.values for one in differences if not isinstance(one.values, str)]
            assert measured
            assert all(max(values) < 1e-4 for values in measured)
        else:
            with pytest.raises(UserError, match=r"--format: .* onnx alone, .*; allowed: channel"):
                write_format("c", bundle)


def test_a_space_of_several_families() -> None:
    space = {
        "model.family": {"type": "categorical", "choices": ["filternet", "can"]},
        "model.capacity": {
            "type": "int",
            "low": 1,
            "high": 4,
            "when": {"model.family": "filternet"},
        },
        "model.width": {"type": "int", "low": 1, "high": 4, "when": {"model.family": "can"}},
        "train.batch_size": {"type": "categorical", "choices": [2, 4]},
    }
    plan = make_plan("smoke", overrides=[Layer("test", {"search_space": space})])
    seen = set()
    for seed in range(12):
        values = plan.space.suggest(Draw(np.random.default_rng(seed)), plan.base)
        config = plan.config(values, 0, None)
        seen.add(config.model.family)
        assert ("model.width" in values) == (config.model.family == "can")
        assert load_config(nest(differences(config))) == config
    assert seen == {"filternet", "can"}
    wrong = space | {"model.family": {"type": "categorical", "choices": ["can", "filtrnet"]}}
    with pytest.raises(ConfigError, match=r"choices\[1\]: 'filtrnet' is not allowed; did you mean"):
        make_plan("smoke", overrides=[Layer("test", {"search_space": wrong})])
    del space["model.width"]["when"]
    with pytest.raises(ConfigError, match=r"model.width: unknown key; .*known: family, .*capacity"):
        make_plan("smoke", overrides=[Layer("test", {"search_space": space})])


def test_old_configurations_are_what_they_were() -> None:
    """But for the packaged photographs, whose edition is part of the identity."""
    factored = {"capacity": [2, 1], "num_layers": 2, "kernel_size": ["1x5", "5x1"]}
    factored |= {"activation": ["none", "square"], "norm": "none"}
    known = {
        "a1ce5a66f8a89e4f": {},
        "73bab03666e76bde": {"capacity": 3, "num_layers": 2},
        "92c878598105e66b": factored,
    }
    for key, model in known.items():
        config = load_config({"model": model})
        assert identity(config) == key
        assert identity(load_config({"model": model | {"family": "filternet"}})) == key
        assert "model.family" not in differences(config)
        assert load_config(nest(differences(config))) == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "filtrnet"}, "model.family: 'filtrnet' is not allowed; did you mean filternet"),
        ({"family": 3}, "model.family: 3 is not allowed; allowed: text"),
        ({"family": ["filternet"]}, "model.family: .* is not allowed; allowed: text"),
        ({"capacityy": 3}, "model.capacityy: unknown key; did you mean capacity"),
    ],
)
def test_bad_families_are_refused(model: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({"model": model})
    with pytest.raises(ConfigError, match=message.removeprefix("model.")):
        model_config(model)


def test_a_study_of_filternet_resolves_to_it() -> None:
    assert make_plan("sobel3").base["model.family"] == "filternet"
