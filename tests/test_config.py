"""Configuration: the reference's file, overrides, and one-line errors."""

from pathlib import Path
from typing import Any

import pytest

from clapp.config import (
    Layer,
    compose,
    defaults,
    flatten,
    identities,
    identity,
    load_config,
    load_stored,
    merge,
    nest,
)
from clapp.errors import ConfigError, UserError

GOLDEN = Path(__file__).parent / "golden"


def test_reference_default_file_loads_key_for_key() -> None:
    config = load_config(GOLDEN / "reference-default.yaml")
    assert config.train_data.name == "imagenet-1k"
    assert config.train_data.buffer_delay == 0.1
    assert config.valid_data.split == "validation"
    assert config.num_resolutions == 2
    assert config.train.batch_size == 256
    assert config.train.min_lr == 1e-5
    assert config.train.stop_loss_ema == 0.95
    assert config.model.capacity == 8


def test_packaged_model_is_the_reference_model() -> None:
    reference = load_config(GOLDEN / "reference-default.yaml").model
    assert load_config().model == reference


def test_every_default_is_documented() -> None:
    from clapp.system.files import PACKAGE

    text = (PACKAGE / "config" / "default.yaml").read_text()
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if rest.strip() and not line.startswith("#"):
            # valid_data repeats the keys of train_data, explained there.
            assert "#" in rest or key.strip() in defaults()["train_data"], line


@pytest.mark.parametrize("text", ["1e-3", "1E-3", ".001", "1.0e-3", "+1e-3"])
def test_scientific_notation_is_a_number(text: str) -> None:
    assert load_config(None, [f"train.learning_rate={text}"]).train.learning_rate == 0.001


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.capcity=3", "model.capcity: unknown key; did you mean capacity?"),
        ("nonsense=1", "nonsense: unknown key; known: num_runs"),
        (
            "model.kernel_size=4",
            "model.kernel_size: 4 is not allowed; allowed: 1, 3, 5, 7, or height x width",
        ),
        ("model.capacity=2.5", "model.capacity: 2.5 is not allowed; allowed: a whole number"),
        ("model.capacity=0", "model.capacity: 0 is not allowed; allowed: at least 1"),
        ("model.rezero=1", "model.rezero: 1 is not allowed; allowed: true or false"),
        ("model=3", "model: 3 is not allowed; allowed: a section"),
        ("train.learning_rate=fast", "'fast' is not allowed; allowed: a number"),
        ("train.learning_rate=.inf", "allowed: a finite number"),
        ("train.min_lr=1", "train: min_lr 1.0 exceeds learning_rate"),
        ("train.min_iterations=9999", "min_iterations 9999 exceeds max_iterations"),
        ("train_data.crop_size=999", "crop_size 999 does not fit into resize_base"),
        ("train_data.target_filter=sobel_4", "sobel_4"),
        ("valid_data.target_filter=random_41", "differs from train_data.target_filter"),
        ("valid_data.split=train", "share pictures: photos, split train"),
        ("train.batch_size", "key=value is expected"),
        ("depth=3", "depth: unknown key; did you mean model.num_layers? known: num_runs"),
        ("model.depth=3", "model.depth: unknown key; did you mean num_layers?"),
        ("model.width=3", "model.width: unknown key; did you mean capacity?"),
        ("learning_rate=1", "learning_rate: unknown key; did you mean train.learning_rate?"),
        ("model.lr=1", "model.lr: unknown key; did you mean train.learning_rate?"),
        ("model.activation=silu", "'silu' is not allowed; did you mean swish? allowed: relu"),
        ("train.loss_type=mse", "'mse' is not allowed; did you mean l2? allowed: l1, l2, lc, all"),
        ("train.device=gpu", "did you mean cuda? allowed: auto, cpu, mps, cuda, or cuda:N for"),
        ("train.device=cuda:-1", "allowed: auto, cpu, mps, cuda, or cuda:N for GPU number N"),
        ("train.seed=9223372036854775808", "allowed: less than 9223372036854775808"),
        ("train_data.seed=18446744073709551616", "is not allowed; allowed: less than"),
        ("train.batch_size=4294967296", "is not allowed; allowed: less than 2147483648"),
        ("train_data.resize_base=99999999", "is not allowed; allowed: at most 32768"),
        ("model.output_channels=3", "the filter sobel_3 returns 1 channel"),
        ("model.input_channels=1", "input_channels 1 is not allowed; allowed: 3"),
        ("a.b.c.d.e.f.g.h.i.j.k=1", "no such key"),
        ("model.capacity=3 # wide", "a comment is not allowed here"),
        ("train.batch_size=[", "line 1"),
    ],
)
def test_bad_override_is_one_line_that_names_it(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    text = str(caught.value)
    assert text.startswith(f"--set {override}")
    assert message in text
    assert "\n" not in text


def test_error_names_the_file_and_line_of_a_duplicate(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("train:\n  seed: 1\n  seed: 2\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml, line 3: duplicate key 'seed'"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("- 1\n", "a mapping of keys is expected"),
        ("model: {capacity: '8'}\n", r"model\.capacity: '8' is not allowed"),
        (
            "model: {capacity: '8', num_layers: no}\n",
            r"model\.capacity: '8' is .*; also model\.num_layers: false is not allowed",
        ),
    ],
)
def test_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml: {message}|{message}") as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_mix_may_not_share_a_source_with_the_validation() -> None:
    mixed = ["train_data.name=photos+synthetic", "valid_data.name=synthetic"]
    with pytest.raises(ConfigError, match="share pictures: synthetic, split train"):
        load_config(None, [*mixed, "valid_data.split=train"])
    assert load_config(None, [*mixed, "valid_data.split=train", "valid_data.seed=1"])
    assert load_config(None, mixed).valid_data.seed == 0
    folder = ["train_data.name=folder:a", "valid_data.name=folder:a", "train_data.split=all"]
    with pytest.raises(ConfigError, match="share pictures: folder:a"):
        load_config(None, folder)


def test_missing_file() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_config("nowhere.yaml")


def test_the_layer_at_fault_is_named() -> None:
    layers = [Layer("study.yaml", {"model": {"capacity": 0}}), Layer("space", {"model": {}})]
    with pytest.raises(ConfigError, match=r"^study\.yaml: model\.capacity"):
        compose(layers)


def test_inline_filters_replace_each_other() -> None:
    first = {"train_data": {"target_filter": {"kernel": [[1.0]], "normalize": "max"}}}
    second = {"train_data": {"target_filter": {"kernel": [[2.0]]}}}
    assert merge(first, second) == second


def test_flatten_reverses_nest() -> None:
    flat = {"train.seed": 1, "model.capacity": 2, "num_runs": 3}
    assert flatten(nest(flat)) == flat


def test_canonical_ignores_what_has_no_effect() -> None:
    base = ["model.norm=none", "model.stem=8"]
    first = load_config(None, [*base, "model.flip_conv_norm=true"]).model
    second = load_config(None, ["model.norm=none", "model.flip_conv_norm=false"]).model
    assert first.canonical() == second.canonical()
    assert first.canonical() != load_config().model.canonical()


def test_a_changed_copy_of_a_network_is_another_network() -> None:
    first = load_config(None, ["model.capacity=4", "model.stem=8"]).model
    assert first.blocks[0].width == first.canonical().blocks[0].width == 4
    other = first.model_copy(update={"capacity": 3})
    assert other.blocks[0].width == other.canonical().blocks[0].width == 3
    assert other.canonical() != first.canonical()
    assert hash(other) != hash(first)


def test_identities_with_other_models_are_those_of_their_configurations() -> None:
    config = load_config(None, ["train.learning_rate=0.01"])
    others = [load_config(None, [f"model.capacity={n}"]).model for n in (2, 3, 2)]
    found = identities(config, others)
    assert found == [identity(config.model_copy(update={"model": model})) for model in others]
    assert found[0] == found[2] != found[1]
    assert identities(config, [config.model]) == [identity(config)]


def test_shared_weights_need_equal_widths() -> None:
    with pytest.raises(ConfigError, match=r"stem \(1\) must equal capacity \(8\)"):
        load_config({"model": {"shared_weights": True, "stem": 1}})


def test_everything_that_is_wrong_is_said() -> None:
    bad = {"train": {"seed": -1}, "model": {"depth": 2, "capacity": 0, "rezero": 3, "norm": 1}}
    with pytest.raises(ConfigError) as caught:
        load_config(bad, ["num_resolutions=9", "train.patience=0"])
    text = str(caught.value)
    assert text.startswith("configuration: model.depth: unknown key; did you mean num_layers?")
    assert "; also --set num_resolutions=9: num_resolutions: 9 is not allowed" in text
    for key in ("capacity", "rezero", "norm", "train.seed", "train.patience"):
        assert key in text
    assert "more)" not in text


def test_a_default_follows_what_bounds_it() -> None:
    before = flatten(defaults())
    lowered = load_config(None, ["train.max_iterations=100", "train_data.resize_base=32"])
    assert (lowered.train.min_iterations, lowered.train_data.crop_size) == (100, 32)
    assert load_config(None, ["train.learning_rate=1e-7"]).train.min_lr == 1e-7
    assert load_config(None, ["train_data.max_buffer=4"]).train_data.min_buffer == 4
    assert load_config(None, ["train.max_iterations=5000"]).train.min_iterations == 400
    assert flatten(defaults()) == before
    # What somebody wrote is never changed.
    with pytest.raises(ConfigError, match="min_iterations 200 exceeds max_iterations 100"):
        load_config({"train": {"min_iterations": 200}}, ["train.max_iterations=100"])


def test_a_number_sign_in_an_override_is_text() -> None:
    data = load_config(None, ["train_data.name=folder:/x/set #2"]).train_data
    assert data.name == "folder:/x/set #2"
    assert load_config(None, ["experiment_name=#7"]).experiment_name == "#7"
    assert load_config(None, ["experiment_name='a # b'"]).experiment_name == "a # b"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({1: 2}, "the key 1 is not text"),
        ({"model": {None: 2}}, "the key null is not text"),
        ({"model": {"capacity": 10**5000}}, "a number of thousands of digits is not allowed"),
        ({"train": {"learning_rate": 10**400}}, "is not allowed"),
        ({"train_data": {"target_filter": {1: 2}}}, "target_filter.1: 1 is not allowed"),
        ({"train_data": {"target_filter": []}}, "target_filter: "),
    ],
)
def test_mappings_of_a_program_are_checked_too(mapping: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(mapping)
    assert message in str(caught.value)


def test_a_key_is_no_value_and_section_at_once() -> None:
    with pytest.raises(ConfigError, match="model is a value too"):
        nest({"model": 3, "model.capacity": 4})
    with pytest.raises(ConfigError, match="written twice"):
        nest({"model.capacity": 4, "model": 3})


def test_what_a_training_left_needs_no_filter_code(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train_data: {target_filter: 'nowhere:f'}\n")
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(tmp_path / "config.yaml")
    assert load_stored(tmp_path / "config.yaml").target_filter == "nowhere:f"
