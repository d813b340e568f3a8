"""Losses: values against formulas and scikit-image, sums, what each optimiser takes, slopes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from clapp.config import identity, load_config
from clapp.errors import ConfigError
from clapp.training.losses import LOSSES, loss, loss_words, not_residual
from clapp.training.optimisers.registry import chosen
from clapp.training.trainer import check, train

ERROR = torch.tensor([0.0, 0.5, -2.0, 1.0]).view(1, 1, 2, 2)
TARGET = torch.full((1, 1, 2, 2), 0.25)
RNG = np.random.default_rng(0)


def log_cosh(error: float) -> float:
    return math.log(math.cosh(error))


def charbonnier(error: float) -> float:
    return math.sqrt(error**2 + 1e-6) - 1e-3


EXPECTED = {
    "l1": 3.5 / 4,
    "l2": 5.25 / 4,
    "lc": (log_cosh(0.5) + log_cosh(2) + log_cosh(1)) / 4,
    "charbonnier": (charbonnier(0.5) + charbonnier(2) + charbonnier(1)) / 4,
    "huber": 0.05 * (0.475 + 1.975 + 0.975) / 4,
    "gradient": (abs(0.5) + 3) / 2 + (2 + 0.5) / 2,
}
EXPECTED["all"] = EXPECTED["l1"] + EXPECTED["l2"] + EXPECTED["lc"]


@pytest.mark.parametrize("name", EXPECTED)
def test_value(name: str) -> None:
    value = loss(name)(TARGET + ERROR, TARGET).item()
    assert value == pytest.approx(EXPECTED[name], rel=1e-5)


def pictures(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.random(shape))


@pytest.mark.parametrize("name", LOSSES)
def test_no_error_is_the_minimum(name: str) -> None:
    target = (pictures(2, 3, 40, 40) > 0.7).double()
    function = loss(name)
    best = function(target.clone(), target).item()
    assert best == pytest.approx(0, abs=2e-4)
    wrong = [target + 0.1 * pictures(2, 3, 40, 40), 0 * target]
    if name != "ms_ssim":  # a negative has the largest loss whatever changes
        wrong.append(1 - target)
    for prediction in wrong:
        x = prediction.clone().requires_grad_()
        value = function(x, target)
        (slope,) = torch.autograd.grad(value, x)
        assert value.item() > best + 1e-6
        assert torch.isfinite(slope).all()
        assert function((x - 1e-3 * slope / slope.abs().max()).detach(), target) < value


@pytest.mark.parametrize("name", [name for name, one in LOSSES.items() if one.residual])
def test_residual_losses_grow_with_the_error_of_each_pixel(name: str) -> None:
    target = pictures(1, 1, 8, 8)
    x = (target + pictures(1, 1, 8, 8) - 0.5).requires_grad_()
    (slope,) = torch.autograd.grad(loss(name)(x, target), x)
    assert (slope * (x - target) > 0).all()
    one = x.detach().clone()
    one[0, 0, 3, 4] += 5  # of another pixel nothing changes
    moved = one.requires_grad_()
    (other,) = torch.autograd.grad(loss(name)(moved, target), moved)
    slope[0, 0, 3, 4] = other[0, 0, 3, 4]
    torch.testing.assert_close(slope, other)


def test_ssim_is_that_of_scikit_image() -> None:
    first, second = pictures(1, 1, 40, 44), pictures(1, 1, 40, 44)
    mixed = 0.7 * first + 0.3 * second
    _, full = structural_similarity(
        first[0, 0].numpy(),
        mixed[0, 0].numpy(),
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inside = full[5:-5, 5:-5].mean()
    assert loss("ssim")(mixed, first).item() == pytest.approx(1 - inside, abs=1e-4)


@pytest.mark.parametrize("side", [33, 40, 64, 96, 224])
def test_ms_ssim_fits_its_window_to_the_crop(side: int) -> None:
    target = pictures(1, 1, side, side)
    assert loss("ms_ssim")(target.clone(), target).item() == pytest.approx(0, abs=1e-6)
    assert 0.1 < loss("ms_ssim")(1 - target, target).item() <= 1


def test_dice_is_the_overlap() -> None:
    target = torch.zeros(1, 1, 4, 4)
    target[..., 0] = 1
    prediction = torch.zeros(1, 1, 4, 4)
    prediction[..., :2] = 1
    expected = 1 - (2 * 4 + 1) / (8 + 4 + 1)
    assert loss("dice")(prediction, target).item() == pytest.approx(expected)


def test_focal_sees_what_is_wrong_and_comes_back_from_outside() -> None:
    target = torch.tensor([1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    prediction = torch.tensor([0.9, 0.1, 0.5]).view(1, 1, 1, 3)
    terms = [-(0.1**2) * math.log(0.9)] * 2 + [-(0.5**2) * math.log(0.5)]
    assert loss("focal")(prediction, target).item() == pytest.approx(sum(terms) / 3, rel=1e-5)
    far = torch.full((1, 1, 1, 1), -3.0, requires_grad=True)
    (slope,) = torch.autograd.grad(loss("focal")(far, torch.ones(1, 1, 1, 1)), far)
    assert slope.item() < 0


def test_log_cosh_survives_large_errors() -> None:
    prediction = torch.tensor([1e4], requires_grad=True)
    value = loss("lc")(prediction, torch.zeros(1))
    value.backward()
    assert value.item() == pytest.approx(1e4 - math.log(2))
    assert prediction.grad is not None
    assert prediction.grad.item() == pytest.approx(1)


def test_log_cosh_is_half_a_square_near_zero() -> None:
    prediction = torch.tensor([1e-2], dtype=torch.float64)
    assert loss("lc")(prediction, torch.zeros(1)).item() == pytest.approx(0.5e-4, rel=1e-3)


def test_a_weighted_sum() -> None:
    spec = {"l2": 1, "l1": 0.5}
    assert loss(spec)(TARGET + ERROR, TARGET).item() == pytest.approx(5.25 / 4 + 0.5 * 3.5 / 4)
    assert loss_words(spec) == "L2 + 0.5 L1"
    assert not_residual(spec) == []
    assert not_residual({"l2": 1, "ssim": 0.1}) == ["ssim"]


def of(**train_values: Any) -> Any:
    return load_config({"model": {"capacity": 1, "num_layers": 1}, "train": train_values})


def test_auto_takes_adam_where_there_are_no_residuals() -> None:
    assert chosen(of(loss_type="huber")) == "lm"
    assert chosen(of(loss_type={"l2": 1, "charbonnier": 2})) == "lm"
    for spec in ("ssim", "dice", {"l2": 1, "gradient": 0.5}):
        assert chosen(of(loss_type=spec)) == "adam"
    assert chosen(of(clip_gradient=1.0)) == "adam"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss_type": "l3"}, "'l3' is not allowed; allowed: l1, l2, lc, all"),
        ({"loss_type": {"l2": 1, "sim": 1}}, "'sim' is not allowed; did you mean ssim?"),
        ({"loss_type": {"l2": 0}}, "the weight of l2, 0, is not allowed; allowed: above 0"),
        ({"loss_type": {"l2": "1"}}, "the weight of l2, '1', is not allowed"),
        ({"loss_type": {}}, "{} is not allowed; allowed: a loss, or losses with weights"),
        (
            {"loss_type": {"l2": 1, "ssim": 1}, "optimizer": "lm"},
            "optimizer lm: not with the loss ssim, which is no sum over the errors",
        ),
        ({"optimizer": "lm", "clip_gradient": 1.0}, "clip_gradient could clip"),
        ({"schedule": "cos"}, "'cos' is not allowed; allowed: cosine, constant"),
        ({"weight_average": 1.0}, "less than 1"),
    ],
)
def test_mistakes_are_named(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(**values)
    assert message in str(caught.value)
    assert str(caught.value).startswith("configuration: train")


def test_a_crop_that_is_too_small_is_named() -> None:
    config = load_config(
        {"train_data": {"crop_size": 32}, "train": {"loss_type": {"l2": 1, "ms_ssim": 0.1}}}
    )
    with pytest.raises(ConfigError, match=r"L2 \+ 0.1 MS-SSIM compares crops of at least 33"):
        check(config)


def test_one_loss_written_in_two_ways_is_one() -> None:
    assert identity(of(loss_type={"l2": 1})) == identity(of(loss_type="l2"))
    assert identity(of(loss_type={"l2": 1, "l1": 2})) == identity(
        of(loss_type={"l1": 2.0, "l2": 1})
    )
    assert identity(of(loss_type={"l2": 2})) != identity(of(loss_type="l2"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapp.training.losses.registry.find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"ssim needs the package pytorch_msssim, .*clapp\[losses"
    ):
        of(loss_type="ssim")


@pytest.mark.parametrize("spec", ["focal", {"l2": 1, "dice": 0.1}, {"l2": 1, "ssim": 0.1}])
def test_a_training_with_losses_of_regions(spec: Any) -> None:
    config = load_config(
        {
            "model": {"capacity": 2, "num_layers": 1, "kernel_size": 1, "norm": "none"},
            "train_data": {"target_filter": "threshold", "crop_size": 16, "min_buffer": 4},
            "valid_data": {"num_images": 2, "crop_size": 48},
            "train": {
                "device": "cpu",
                "loss_type": spec,
                "max_iterations": 400,
                "min_iterations": 0,
                "validation_interval": 20,
                "learning_rate": 0.05,
                "stop_l2_loss": None,
            },
        }
    )
    result = train(config)
    assert result.optimizer == "adam"
    assert result.loss < 0.7 * result.curve[0].l2 or result.loss < 0.1
