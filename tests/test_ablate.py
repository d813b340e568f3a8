"""`clapp ablate`: tricks toggled at matched size, and planted effects found again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_experiments import CONFIG, simulated
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.commands.experiments.ablate import BASE, ablate
from clapp.commands.experiments.plots.output import effect_rows, worth_text, write_ablation
from clapp.commands.experiments.targets import Target
from clapp.commands.experiments.tricks import TRICKS, Variant, changed_by, matched, variant
from clapp.config import Config, load_config
from clapp.errors import ConfigError, UserError
from clapp.models.costs import cost
from clapp.system.intervals import Interval

REFERENCE = load_config(None, ["train.device=cpu"])
PLANTED = {"output-norm": 0.5, "rezero": 2.5, "activation": 1.8, "norm": 1.35, "loss": 1.0}
"""By how much each trick divides the loss."""


def toggled(name: str, config: Config = REFERENCE, inherits: bool = False) -> Variant:
    found = variant(TRICKS[name], config, inherits)
    assert isinstance(found, Variant), found
    return found


def in_use(config: Config) -> dict[str, bool]:
    model: Any = config.model
    return {
        "output-norm": model.output_norm == "max",
        "rezero": model.rezero,
        "activation": model.activation != "relu",
        "norm": model.norm == "group",
        "loss": config.train.loss_type != "l2",
    }


def planted(config: Config) -> float:
    """A loss from the tricks in use, a factor of the seed and a little of the pair."""
    factor = np.prod([PLANTED[name] for name, used in in_use(config).items() if used])
    seed = config.train.seed
    shared = np.random.default_rng(seed).standard_normal()
    key = [seed, *map(int, in_use(config).values())]
    own = np.random.default_rng(key).standard_normal()
    return float(0.01 / factor * np.exp(shared + 0.05 * own))


def test_planted_effects_are_found_in_their_order(tmp_path: Path) -> None:
    target = Target("net", "net", tmp_path, REFERENCE)
    found = ablate(target, tmp_path / "net", range(6), 1, [*PLANTED], simulated(planted))
    assert [one.variant.trick.name for one in found.effects] == sorted(
        PLANTED, key=lambda name: -PLANTED[name]
    )
    for effect in found.effects:
        name = effect.variant.trick.name
        assert effect.variant.on == in_use(REFERENCE)[name]
        assert effect.worth is not None
        assert effect.worth.low <= PLANTED[name] <= effect.worth.high
        assert effect.worth.high / effect.worth.low < 1.5  # pairs: seeds differ by e
        assert effect.clear == (name != "loss")
    base = found.base.interval
    assert base is not None
    assert base.high / base.low > 3
    assert len(list((tmp_path / "net" / BASE).glob("seed-*"))) == 6
    again = ablate(target, tmp_path / "net", range(6), 1, [*PLANTED], None)  # nothing is left to do
    assert again.document() == found.document()
    assert write_ablation(found) == ["ablation.json", "ablation.html", "effects.png"]
    assert (tmp_path / "net" / "effects.png").read_bytes().startswith(b"\x89PNG")
    rows = effect_rows(found)
    assert [row[0] for row in rows[1:]] == [one.variant.trick.name for one in found.effects]


def test_a_variant_has_nearest_to_as_many_parameters() -> None:
    wanted = cost(REFERENCE.model).params
    assert wanted == 2505
    for name in ("rezero", "reskip", "norm", "activation"):
        found = toggled(name)
        others = [
            cost(changed_by(REFERENCE, {**found.changes, "model.capacity": width}).model).params
            for width in range(1, 17)
        ]
        assert abs(found.params - wanted) == min(abs(one - wanted) for one in others)
    uneven = load_config(None, ["model={num_layers: 2, capacity: [4, 6], stem: 4, norm: none}"])
    widths = matched(uneven, {"model.kernel_size": 5})["model.capacity"]
    assert len(widths) == 2
    assert widths[0] < 4
    with pytest.raises(ConfigError, match=r"model\.padding"):
        matched(REFERENCE, {"model.padding": "rainbow"})


def test_what_a_trick_changes() -> None:
    assert toggled("norm-first").changes == {"model.flip_conv_norm": False}
    assert toggled("zeros-after").changes == {"model.padding": "reflect"}
    assert toggled("loss").changes == {"train.loss_type": "l2"}
    assert toggled("schedule").changes == {"train.schedule": "constant"}
    half = toggled("progressive")
    assert not half.on
    stages = (half.config.num_resolutions, half.config.train_data.crop_size)
    assert stages == (2, REFERENCE.train_data.crop_size // 2)
    assert half.config.train.max_iterations * 2 == REFERENCE.train.max_iterations
    back = toggled("progressive", half.config)
    assert back.on
    assert back.config.train_data == REFERENCE.train_data
    assert back.config.train.batch_size == REFERENCE.train.batch_size
    small = load_config(None, ["model={capacity: 2, num_layers: 1}", "train.starts=4"])
    assert toggled("lm", small).changes == {"train.optimizer": "adam", "train.starts": 1}
    born = toggled("inheritance", small, inherits=True)
    assert (born.on, born.inherits, born.changes) == (True, False, {})


@pytest.mark.parametrize(
    ("name", "sets", "reason"),
    [
        ("lm", [], "more than 300 parameters are too many"),
        ("schedule", ["model={capacity: 1, num_layers: 1}"], "has no learning rate"),
        ("norm-first", ["model.norm=none"], "there is no normalisation"),
        ("inheritance", [], "it has no parent"),
        ("rezero", ["model={family: unet}"], "only FilterNet has it"),
        ("reskip", ["model={capacity: 2, num_layers: 1, stem: 1}"], "it changes nothing here"),
        ("progressive", ["train_data.crop_size=63"], "is odd"),
    ],
)
def test_why_a_trick_cannot_be_toggled(name: str, sets: list[str], reason: str) -> None:
    found = variant(TRICKS[name], load_config(None, sets), False)
    assert isinstance(found, str)
    assert reason in found


def test_the_command_trains_and_prints(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(json.dumps(CONFIG.model_dump(mode="json")))
    options = ["ablate", "net.yaml", "--runs", "2", "--only", "rezero", "--parallel", "1"]
    done = CliRunner().invoke(app, [*options, "--json", "--out", "out"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    (effect,) = document["effects"]
    assert (effect["trick"], effect["in_use"], effect["pairs"]) == ("rezero", True, 2)
    losses = [
        json.loads((tmp_path / "out" / name / f"seed-0000{seed}" / "result.json").read_text())[
            "loss"
        ]
        for name in (BASE, "rezero")
        for seed in (0, 1)
    ]
    ratio = (losses[2] * losses[3] / losses[0] / losses[1]) ** 0.5
    assert effect["worth"] == pytest.approx(ratio)
    said = CliRunner().invoke(app, [*options, "--out", "out"])
    assert "rezero" in said.stdout
    for more, word in (
        (["--only", "luck"], "luck"),
        (["--only", "inheritance"], "no trick can be toggled: inheritance: it has no parent"),
    ):
        wrong = CliRunner().invoke(app, ["ablate", "net.yaml", *more])
        assert isinstance(wrong.exception, UserError)
        assert word in str(wrong.exception)
    both = CliRunner().invoke(app, ["ablate"])
    assert "give MODEL or --trial STUDY N" in str(both.exception)


def test_ratios_as_text() -> None:
    assert worth_text(Interval(5767.3, 4717.6, 7048, 5)) == "5,767 [4,718, 7,048]"
    assert worth_text(Interval(0.00191, 0.0015, 0.0023, 5)) == "0.0019 [0.0015, 0.0023]"
    assert (worth_text(Interval(1.25, 0, float("inf"), 1)), worth_text(None)) == ("1.2", "unknown")
