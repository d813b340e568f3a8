import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clapp.config import Config, TrainConfig, defaults, load_config
from clapp.errors import ConfigError, UserError
from clapp.filters.on_device import batched
from clapp.models.build import build_model
from clapp.pool.pool import Pool, validation_set
from clapp.pool.validation import constant_losses
from clapp.training.device import resolve_device
from clapp.training.losses import loss
from clapp.training.schedule import learning_rate
from clapp.training.stopping import StoppingRule
from clapp.training.tensors import chunks, input_tensor, target_tensor
from clapp.training.trainer import Progress, Trainer, TrainResult, train

TINY: dict[str, Any] = {
    "model": {"capacity": 2, "num_layers": 1, "kernel_size": 3, "padding": "reflect"},
    "train_data": {"crop_size": 16, "resize_base": 64, "min_buffer": 4},
    "valid_data": {"crop_size": 48, "resize_base": 64, "num_images": 4},
    "train": {
        "device": "cpu",
        "optimizer": "adam",
        "batch_size": 4,
        "min_iterations": 0,
        "max_iterations": 12,
        "validation_interval": 4,
        "stop_l2_loss": None,
        "learning_rate": 0.01,
        "lr_cycle": 500,
        "min_lr": 0.0,
    },
}


def tiny(*overrides: str) -> Config:
    return load_config(TINY, overrides)


def train_config(**values: Any) -> TrainConfig:
    return TrainConfig.model_validate(defaults()["train"] | values)


def collect() -> tuple[list[Progress], Callable[[Progress], bool]]:
    seen: list[Progress] = []

    def report(progress: Progress) -> bool:
        seen.append(progress)
        return False

    return seen, report


def losses(result: TrainResult) -> list[float]:
    return [value for point in result.curve for value in (point.train_loss, point.l2)]


def test_learning_rate_restarts_after_doubling_cycles() -> None:
    config = train_config(learning_rate=1.0, min_lr=0.2, lr_cycle=10)
    assert [learning_rate(step, config) for step in (0, 10, 30)] == [1.0, 1.0, 1.0]
    assert learning_rate(5, config) == pytest.approx(0.6)
    assert learning_rate(20, config) == pytest.approx(0.6)
    expected = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = expected(optimiser, T_0=10, T_mult=2, eta_min=0.2)
    for step in range(75):
        assert learning_rate(step, config) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        scheduler.step()


def test_threshold_waits_for_the_average_and_the_minimum() -> None:
    config = train_config(stop_l2_loss=0.1, stop_loss_ema=0.75, min_iterations=30)
    rule = StoppingRule(config)
    assert rule.update(0.09, 10) is None
    assert rule.update(0.17, 20) is None
    assert rule.ema == pytest.approx(0.11)
    assert rule.update(0.03, 30) == "threshold"
    assert rule.ema == pytest.approx(0.09)
    never = StoppingRule(train_config(stop_l2_loss=None, min_iterations=0))
    assert never.update(0.0, 1000) is None


def test_plateau_counts_validations_without_one_percent() -> None:
    config = train_config(stop_l2_loss=None, stop_loss_ema=0, patience=3, min_iterations=60)
    rule = StoppingRule(config)
    values = [1.0, 0.995, 0.9, 0.895, 0.893, 0.892, 0.7, 0.7, 0.7, 0.7]
    reasons = [rule.update(value, 10 * i) for i, value in enumerate(values, 1)]
    # The sixth, at step 60, is the third within one percent of 0.9.
    assert reasons == [None] * 5 + ["plateau"] + [None] * 3 + ["plateau"]


def test_chunks_cover_the_batch_and_bound_the_activations() -> None:
    pictures = np.zeros((37, 64, 64, 3), np.uint8)
    cpu = torch.device("cpu")
    pieces = list(chunks(pictures, 8, cpu))
    assert sum(len(pictures[piece]) for piece in pieces) == 37
    assert max(len(pictures[piece]) for piece in pieces) * 8 * 64 * 64 * 4 <= 2 << 20
    assert list(chunks(pictures[:, :8, :8], 8, cpu)) == [slice(0, 1024)]
    assert len(list(chunks(np.zeros((2, 2000, 2000, 3), np.uint8), 8, cpu))) == 2


def test_tensors_are_in_plain_order_and_scaled() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    x = input_tensor(images, torch.device("cpu"))
    assert x.is_contiguous()
    assert x[1, 2, 3, 4].item() == pytest.approx(images[1, 3, 4, 2] / 255)
    y = target_tensor(images[..., 0], torch.device("cpu"))
    assert y.shape == (2, 1, 4, 5)
    assert y.max().item() == pytest.approx(images[..., 0].max() / 255)


def one_step(config: Config, monkeypatch: pytest.MonkeyPatch, pieces: int) -> list[torch.Tensor]:
    """Gradients of the first step with the batch in `pieces` chunks."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 24, 24, 3), np.uint8)
    targets = rng.integers(0, 256, (12, 24, 24), np.uint8)
    budget = 4 * 24 * 24 * config.model.capacity * math.ceil(12 / pieces)
    monkeypatch.setattr("clapp.training.tensors._CHUNK_BYTES", {"cpu": budget})
    with Pool.open(config.train_data, 1) as pool:
        torch.manual_seed(0)
        trainer = Trainer(config, pool, torch.device("cpu"), None)
        x, y = input_tensor(images, trainer.device), target_tensor(targets, trainer.device)
        value = trainer.step(x, y, 1e-3)
    torch.manual_seed(0)
    expected = loss(config.train.loss_type)(build_model(config.model)(x), y)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    return [p.grad for p in trainer.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("norm", ["group", "none"])
def test_chunked_gradients_are_those_of_the_whole_batch(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(f"model.norm={norm}", "model.capacity=4", "model.num_layers=2")
    whole = one_step(config, monkeypatch, 1)
    for pieces in (2, 5, 12):
        parts = one_step(config, monkeypatch, pieces)
        for a, b in zip(whole, parts, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_same_configuration_same_bits() -> None:
    first = train(tiny())
    torch.rand(5)  # whatever the caller did with the global generator meanwhile
    second = train(tiny())
    assert losses(first) == losses(second)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert losses(train(tiny("train.seed=1"))) != losses(first)
    assert losses(train(tiny("train.num_workers=2"))) == losses(first)


def test_golden_losses() -> None:
    # Zero padding, because elsewhere some gradients are zero but for rounding, and Adam follows
    # their signs: such runs repeat on one machine only.
    smooth = {"capacity": 3, "num_layers": 2, "norm": "none", "activation": "swish"}
    model = TINY["model"] | smooth | {"padding": "zero", "output_norm": "max"}
    result = train(load_config(TINY | {"model": model}))
    expected = [0.471392, 0.06315947, 0.3604488, 0.06964944, 0.4043805, 0.07001709]
    assert losses(result) == pytest.approx(expected, rel=1e-4)


def test_the_callers_random_numbers_are_left_alone() -> None:
    state = torch.get_rng_state()
    train(tiny("train.max_iterations=1"))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_is_the_mean_over_the_whole_validation_set() -> None:
    config = tiny()
    result = train(config)
    images, targets = validation_set(config.valid_data, config.target_filter)
    assert len(images) == 4
    with torch.no_grad():
        output = result.model(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    expected = (output[:, 0] - torch.from_numpy(targets) / 255).square().mean()
    assert result.loss == pytest.approx(expected.item(), rel=1e-5)
    assert not result.model.training
    assert result.device == "cpu"


def test_every_validation_is_reported_and_kept() -> None:
    seen, report = collect()
    result = train(tiny("train.max_iterations=10"), report)
    assert [p.step for p in seen] == [p.step for p in result.curve] == [4, 8, 10]
    assert [p.l2 for p in seen] == [p.l2 for p in result.curve]
    assert result.loss == result.curve[-1].l2
    assert (result.stop_reason, result.iterations, result.images) == ("iterations", 10, 40)
    ema = result.curve[0].l2
    for point in result.curve[1:]:
        ema = (ema + point.l2) / 2
        assert point.ema == pytest.approx(ema)
    assert result.ema == result.curve[-1].ema
    assert set(asdict(result.curve[0])) == {
        "step",
        "seconds",
        "train_loss",
        "l2",
        "ema",
        "learning_rate",
    }
    assert set(result.timings) == {"data", "decode", "step", "validate"}
    assert 0 < sum(result.timings.values()) <= result.seconds * 1.01


def test_pictures_are_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPP_CACHE", str(tmp_path))
    cold, warm = train(tiny()), train(tiny())
    assert 0 < cold.timings["decode"] < cold.seconds
    assert warm.timings["decode"] == 0


def test_report_ends_the_training() -> None:
    result = train(tiny(), lambda progress: progress.step >= 8)
    assert (result.stop_reason, result.iterations) == ("stopped", 8)


def test_resolutions_double_the_crop_halve_the_batch_and_reset_the_average(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes = []
    step = Trainer.step

    def spy(self: Trainer, images: Any, targets: Any, rate: float) -> torch.Tensor:
        shapes.append((images.shape, targets.shape, rate))
        return step(self, images, targets, rate)

    monkeypatch.setattr(Trainer, "step", spy)
    seen, report = collect()
    result = train(tiny("num_resolutions=2", "train.max_iterations=4"), report)
    assert [s[0] for s in shapes] == [(4, 3, 16, 16)] * 4 + [(2, 3, 32, 32)] * 4
    assert [s[1] for s in shapes] == [(4, 1, 16, 16)] * 4 + [(2, 1, 32, 32)] * 4
    assert [s[2] for s in shapes[:4]] == [s[2] for s in shapes[4:]]
    assert [(p.step, p.stage) for p in seen] == [(4, 0), (8, 1)]
    assert seen[1].ema == seen[1].l2
    assert (result.iterations, result.images) == (8, 24)


def test_the_threshold_ends_each_stage_on_its_own() -> None:
    result = train(tiny("num_resolutions=2", "train.stop_l2_loss=10"))
    assert (result.stop_reason, result.iterations) == ("threshold", 8)


def test_a_plateau_ends_a_stage() -> None:
    still = ["train.learning_rate=1e-12", "train.patience=2"]
    result = train(tiny(*still))
    assert (result.stop_reason, result.iterations) == ("plateau", 12)


def test_the_time_limit_ends_everything_with_a_loss() -> None:
    limits = ["train.max_seconds=0.3", "train.max_iterations=1000000"]
    result = train(tiny("num_resolutions=2", *limits, "train.validation_interval=1000000"))
    assert result.stop_reason == "time"
    assert 0.3 <= result.seconds < 3
    assert len(result.curve) == 1
    assert math.isfinite(result.loss)


def test_divergence_is_named() -> None:
    seen, report = collect()
    result = train(tiny("num_resolutions=2", "train.learning_rate=1e30"), report)
    assert result.stop_reason == "nan"
    assert math.isnan(result.loss)
    assert result.iterations == 4
    assert seen == []


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="input_channels 1 is not allowed; allowed: 3"):
        train(tiny("model.input_channels=1"))
    small = ["model.kernel_size=7", "model.padding=zero_after", "model.downsample=2"]
    with pytest.raises(ConfigError, match=r"train_data.crop_size 8: .*at least 13 pixels"):
        train(tiny(*small, "train_data.crop_size=8"))


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(UserError, match=r"device cuda:99 is not available; available: .*cpu"):
        resolve_device("cuda:99")


def test_targets_made_on_the_device_are_those_of_the_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    init = Trainer.__init__

    def with_batched_filter(self: Trainer, config: Config, *rest: Any) -> None:
        init(self, config, *rest)
        self.on_device = batched(config.target_filter)

    expected = losses(train(tiny()))
    monkeypatch.setattr(Trainer, "__init__", with_batched_filter)
    # No filter runs on the processor.
    monkeypatch.setattr("clapp.training.trainer.adjustable", lambda *_: None)
    assert losses(train(tiny())) == expected


def test_a_seed_for_the_batches_alone() -> None:
    first = train(tiny("train.batch_seed=5", "train.max_iterations=4"))
    same_weights = train(tiny("train.batch_seed=6", "train.max_iterations=4"))
    assert losses(first) != losses(same_weights)
    as_before = train(tiny("train.seed=5", "train.batch_seed=null", "train.max_iterations=4"))
    explicit = train(tiny("train.seed=5", "train.batch_seed=5", "train.max_iterations=4"))
    assert losses(as_before) == losses(explicit)


def test_bf16_computes_the_network_and_nothing_else_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = set()

    def spy(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        kinds.add((prediction.dtype, target.dtype))
        return loss("all")(prediction, target)

    monkeypatch.setattr("clapp.training.trainer.loss", lambda _: spy)
    full, half = train(tiny()), train(tiny("train.precision=bf16"))
    assert losses(half) != losses(full)  # it does round
    assert half.curve[0].train_loss == pytest.approx(full.curve[0].train_loss, rel=0.05)
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert kinds == {(torch.float32, torch.float32)}


def test_pictures_take_turns_in_validating_and_the_final_loss_is_over_all() -> None:
    whole = train(tiny())
    turns = train(tiny("train.validation_images=3"))
    assert turns.loss == pytest.approx(whole.loss, rel=1e-5)  # the same training
    assert turns.curve[-1].l2 != pytest.approx(whole.loss, rel=1e-3)
    assert turns.seconds > turns.curve[-1].seconds  # the last validation is part of the training
    assert turns.seconds >= sum(turns.timings.values())
    # 3 of 4 pictures each time: four validations see each picture three times.
    constant = constant_losses(tiny().valid_data, tiny().target_filter)
    still = ["train.learning_rate=1e-12", "train.min_lr=0", "train.max_iterations=16"]
    whole, turns = train(tiny(*still)), train(tiny(*still, "train.validation_images=3"))
    assert len(turns.curve) == 4
    shares = [np.delete(constant, (3 - number) % 4).mean() for number in range(4)] / constant.mean()
    mean = sum(point.l2 * share for point, share in zip(turns.curve, shares, strict=True)) / 4
    assert mean == pytest.approx(whole.loss, rel=1e-5)
    assert turns.loss == pytest.approx(whole.loss, rel=1e-5)


def test_a_turn_of_difficult_pictures_is_no_rise_of_the_loss() -> None:
    trained = train(tiny("train.max_iterations=200")).model.state_dict()
    still = ["train.learning_rate=1e-12", "train.min_lr=0", "train.max_iterations=16"]
    turns = train(tiny(*still, "train.validation_images=1"), None, trained)
    curve = [point.l2 for point in turns.curve]
    constant = constant_losses(tiny().valid_data, tiny().target_filter)
    raw = np.array(curve) * constant / constant.mean()
    assert np.std(curve) / np.mean(curve) < 0.5 * np.std(raw) / np.mean(raw)


SMALL: dict[str, Any] = {
    "model": {
        "capacity": 2,
        "num_layers": 1,
        "stem": 1,
        "norm": "none",
        "rezero": False,
        "reskip": False,
        "activation": "square",
        "padding": "reflect",
        "kernel_size": 5,
        "output_activation": "sqrt",
        "output_norm": "max",
    },
    "train_data": {"crop_size": 40},
    "train": {"device": "cpu", "loss_type": "l2", "stop_l2_loss": None, "max_iterations": 600},
}


def test_small_networks_are_trained_by_second_order() -> None:
    """The 59 parameters that Adam needs some 1,000 steps for."""
    result = train(load_config(SMALL, ["train.starts=4"]))
    assert result.optimizer == "lm"
    assert 1 <= result.starts <= 4
    assert result.loss < 5e-5
    assert [point.step for point in result.curve] == sorted({p.step for p in result.curve})
    assert train(load_config(SMALL, ["train.starts=4"])).loss == result.loss


def test_large_networks_and_bfloat16_are_left_to_adam() -> None:
    assert train(tiny("train.optimizer=auto", "model.capacity=4")).optimizer == "lm"
    for key in ("model.capacity=32", "train.precision=bf16"):
        assert train(tiny("train.optimizer=auto", key)).optimizer == "adam"
    with pytest.raises(ConfigError, match=r"bf16: not with train\.optimizer lm"):
        train(tiny("train.optimizer=lm", "train.precision=bf16"))


def test_a_training_starts_from_given_weights() -> None:
    first = train(load_config(SMALL, ["train.starts=4"]))
    weights = first.model.state_dict()
    short = ["train.max_iterations=20", "train.min_iterations=0"]
    again = train(load_config(SMALL, short), None, weights)
    assert again.loss < 2 * first.loss
    alone = train(load_config(SMALL, [*short, "train.starts=4"]), None, weights)
    assert losses(alone) == losses(again)  # no other first weights are tried
    assert alone.starts == 0


def test_starts_work_for_adam_too() -> None:
    result = train(tiny("train.starts=3"))
    assert result.iterations == 2 * 100 + 12
