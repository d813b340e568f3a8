"""Suggestions: by meaning before spelling, and none rather than one by sound."""

import pytest

from clapp.system.suggest import hint, meant

MODEL = ["capacity", "num_layers", "norm", "stem", "shared_weights"]
ALL = [*(f"model.{key}" for key in MODEL), "train.learning_rate", "train.seed", "train_data.seed"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("depth", "num_layers"),
        ("Depth", "num_layers"),
        ("width", "capacity"),
        ("capcity", "capacity"),
        ("Capacity", "capacity"),
        ("stm", "stem"),
        ("lr", "train.learning_rate"),
        ("learning-rate", "train.learning_rate"),
        ("learning_rate", "train.learning_rate"),
        ("seed", "train.seed"),
        ("nonsense", None),
        ("", None),
    ],
)
def test_a_key_of_the_section_or_of_another(word: str, expected: str | None) -> None:
    assert meant(word, MODEL, ALL) == expected


def test_dotted_keys() -> None:
    assert meant("model.depth", ALL) == "model.num_layers"
    assert meant("train_data.seed", ALL) == "train_data.seed"
    assert meant("model.learning_rate", ALL) == "train.learning_rate"
    assert meant("train.lr", ALL) == "train.learning_rate"


def test_a_hint_is_a_question_or_nothing() -> None:
    assert hint("depth", MODEL) == "did you mean num_layers? "
    assert hint("xyz", MODEL) == ""
