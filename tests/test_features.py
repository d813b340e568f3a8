"""Configurations as rows of numbers: nothing absent looks like something that is there."""

import numpy as np

from clapp.study.sampling.features import Encoder

COLUMNS = {
    "rate": {"type": "float", "low": 0.1, "high": 10.0, "log": True},
    "layers": {"type": "int", "low": 1, "high": 5},
    "norm": {"type": "categorical", "choices": ["none", "group"]},
}


def test_numbers_are_places_in_their_range_and_choices_have_a_column_each() -> None:
    row = Encoder(COLUMNS)({"rate": 1.0, "layers": 2, "norm": "group"}, [100, 1000])
    np.testing.assert_allclose(row, [2, 3, 0.5, 0.25, 0, 1])


def test_an_absent_number_is_like_none_that_is_there() -> None:
    """It used to be -1, and a rate of 0.1 was log10(0.1) = -1 as well."""
    encoder = Encoder(COLUMNS)
    absent = encoder({"layers": 2, "norm": "none"}, [10, 10])
    for rate in np.geomspace(0.1, 10, 50):
        row = encoder({"rate": float(rate), "layers": 2, "norm": "none"}, [10, 10])
        assert 0 <= row[2] <= 1
        assert abs(row[2] - absent[2]) >= 1
