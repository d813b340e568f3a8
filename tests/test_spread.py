"""What a loss is a mean over, and how often its interval holds."""

import numpy as np
import pytest

from clapp.training.losses import Spread, spread
from clapp.training.losses.spread import MOST, positive_interval


def test_crops_of_one_picture_are_one_part():
    found = spread([1.0, 2.0, 3.0, 6.0], [7, 3, 7, 3])
    assert found == Spread(3.0, 2, 4, (4.0, 2.0))
    assert found.counted == "4 crops of 2 pictures"
    assert found.words().startswith("4 crops of 2 pictures, 95 % interval ")
    assert spread([0.5], [0]).words() == "1 picture"
    assert spread([0.5], [0]).interval is None


def test_many_pictures_become_groups_of_them():
    losses = np.linspace(0.1, 1, 100)
    found = spread(losses, range(100))
    assert (found.pictures, found.crops, len(found.parts)) == (100, 100, MOST)
    assert found.mean == pytest.approx(losses.mean())
    assert np.mean(found.parts) == pytest.approx(losses.mean(), rel=0.05)


def test_the_interval_by_hand():
    low, high = positive_interval(3.0, (2.0, 4.0))
    # Student's t of one degree of freedom is 12.706; the standard error is 1.
    assert high / 3 == pytest.approx(np.exp(12.706 / 3), rel=1e-3)
    assert low * high == pytest.approx(9.0)
    assert Spread(3.0, 2, 2, (2.0, 4.0)).document("test_")["test_loss_low"] == low


def test_parts_that_are_all_equal_leave_no_width_and_zeros_no_infinity():
    assert positive_interval(0.5, (0.5, 0.5, 0.5)) == (0.5, 0.5)
    assert positive_interval(0.0, (0.0, 0.0)) == (0.0, 0.0)
    low, high = positive_interval(1e-12, (0.0, 2e-12))
    assert 0 <= low <= high < 1


@pytest.mark.parametrize(
    ("pictures", "sigma", "least"),
    [(6, 0.3, 0.93), (6, 0.6, 0.91), (6, 1.0, 0.87), (32, 0.6, 0.92)],
)
def test_how_often_the_interval_holds_the_mean(pictures, sigma, least):
    """Of pictures whose losses are log-normal; docs/trust.md has the table."""
    draw = np.random.default_rng(pictures)
    held, number = 0, 1500
    for row in np.exp(draw.normal(0, sigma, (number, pictures))):
        low, high = positive_interval(float(row.mean()), tuple(row))
        held += low <= np.exp(sigma**2 / 2) <= high
    assert least <= held / number <= 0.975
