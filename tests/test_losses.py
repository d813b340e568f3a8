import math

import pytest
import torch

from clapp.errors import ConfigError
from clapp.training.losses import loss

ERROR = torch.tensor([0.0, 0.5, -2.0, 1.0]).view(1, 1, 2, 2)
TARGET = torch.full((1, 1, 2, 2), 0.25)


def log_cosh(error: float) -> float:
    return math.log(math.cosh(error))


EXPECTED = {
    "l1": 3.5 / 4,
    "l2": 5.25 / 4,
    "lc": (log_cosh(0.5) + log_cosh(2) + log_cosh(1)) / 4,
}


@pytest.mark.parametrize("name", ["l1", "l2", "lc", "all"])
def test_value(name: str) -> None:
    expected = EXPECTED[name] if name in EXPECTED else sum(EXPECTED.values())
    assert loss(name)(TARGET + ERROR, TARGET).item() == pytest.approx(expected, rel=1e-6)


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


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="'l3' is not known; known: l1, l2, lc, all"):
        loss("l3")
