import pytest

from clapp.config import ModelConfig, load_config
from clapp.errors import ConfigError
from clapp.models.words import in_words, model_in_words

MAGNITUDE = {
    "model.stem": 1,
    "model.capacity": 4,
    "model.num_layers": 1,
    "model.kernel_size": 5,
    "model.padding": "reflect",
    "model.norm": "none",
    "model.activation": "square",
    "model.output_activation": "sqrt",
    "model.output_norm": "max",
    "train.loss_type": "l1",
    "train.learning_rate": 0.1,
}


def test_the_reference():
    assert in_words(load_config()) == (
        "4 blocks of 8 channels, 3x3, GELU, normalised before the convolution, ReZero and ReSkip, "
        "zeros around the result; trained with L1 + L2 + log cosh at 0.005, batches of 8"
    )


def test_differences_from_the_defaults_are_enough():
    words = in_words({**MAGNITUDE, "train_data.target_filter": "gone:filter"})
    assert words == (
        "1 block of 4 channels after a stem of 1, 5x5, square, no normalisation, reflected border, "
        "square root at the end, divided by its maximum; trained with L1 at 0.1, batches of 8"
    )


def test_differences_that_are_no_configuration():
    with pytest.raises(ConfigError, match=r"model\.capacity"):
        in_words({"model.capacity": "many"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"separable": True, "kernel_size": 7}, "separable 7x7"),
        ({"shared_weights": True, "num_layers": 3}, "1 block of 8 channels applied 3 times"),
        ({"capacity": 1}, "4 blocks of 1 channel"),
        ({"stem": 2}, "4 blocks of 8 channels after a stem of 2"),
        ({"activation": "none"}, "no activation"),
        ({"flip_conv_norm": False}, "normalised after the convolution"),
        ({"capacity": [1, 2], "num_layers": 2}, "2 blocks of 1 then 2 channels"),
        ({"kernel_size": ["1x5", "5x1"], "num_layers": 2}, "1x5 then 5x1"),
        ({"kernel_size": 3, "depthwise": True}, "depthwise 3x3"),
        ({"dilation": 2}, "3x3 dilated by 2"),
        ({"bias": False}, "no biases"),
        ({"stem": 0}, "4 blocks of 8 channels without a stem"),
        ({"head": "sum"}, "channels summed"),
        ({"activation": "max3"}, "maximum over 3x3"),
        ({"reskip": False}, "ReZero"),
        ({"padding": "replicate"}, "repeated border"),
        ({"downsample": 2}, "half resolution"),
        ({"output_activation": "relu"}, "ReLU at the end"),
        ({"output_activation": "sigmoid"}, "sigmoid at the end"),
        ({"output_activation": "clip"}, "clip at the end"),
    ],
)
def test_each_choice_is_said(change, said):
    words = model_in_words(model(**change)).split(", ")
    assert said in words
    assert said not in model_in_words(model()).split(", ")


def test_what_has_no_effect_is_not_said():
    one = model(num_layers=1, shared_weights=True, stem=3, kernel_size=1)
    assert model_in_words(one) == (
        "1 block of 8 channels after a stem of 3, 1x1, GELU, normalised before the convolution"
    )


def test_the_training():
    config = load_config({"num_resolutions": 2, "train": {"precision": "bf16"}})
    assert in_words(config).endswith("batches of 8, 2 resolutions, bfloat16")


def model(**changes: object) -> ModelConfig:
    return load_config({"model": changes}).model


def test_a_network_without_a_skip_is_not_said_to_have_one():
    assert "skip" not in model_in_words(model(rezero=False, reskip=False)).lower()
