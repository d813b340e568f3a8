"""Search spaces: errors in one line, order and conditions, every draw a valid configuration."""

from typing import Any

import optuna
import pytest

from clapp.config import Config, Layer, compose, flatten, identity, nest
from clapp.errors import ConfigError
from clapp.study.plan.plan import ENGINE
from clapp.study.plan.space import Space, load_space, refusal
from clapp.system.files import data_dir

BASE = flatten(compose([ENGINE]).model_dump())
CAPACITY = {"type": "int", "low": 1, "high": 8}
NORM = {"type": "categorical", "choices": ["group", "none"]}


def space(spec: Any) -> Space:
    return load_space(spec, "here", [ENGINE])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "the search space is empty"),
        ({"model.capacty": CAPACITY}, "no such configuration key; did you mean model.capacity?"),
        ({"model": CAPACITY}, "here: model: no such configuration key"),
        ({"model.capacity": 3}, "here: model.capacity: 3 is not allowed"),
        ({"model.capacity": {"low": 1}}, "model.capacity.type: this key is required"),
        ({"model.capacity": CAPACITY | {"type": "integer"}}, "allowed: int, float, categorical"),
        ({"model.capacity": {"type": "int", "low": 1}}, "model.capacity.high: this key is"),
        ({"model.capacity": CAPACITY | {"stp": 2}}, "model.capacity.stp: unknown key; did you"),
        ({"model.capacity": CAPACITY | {"low": 9}}, "model.capacity.high: 8 is not allowed"),
        ({"model.capacity": CAPACITY | {"low": 0}}, "model.capacity.low: model.capacity: 0 is"),
        ({"model.capacity": CAPACITY | {"low": 1.5}}, "allowed: a whole number"),
        ({"model.capacity": CAPACITY | {"step": 2}}, "do not reach high 8"),
        ({"model.capacity": CAPACITY | {"step": 7, "log": True}}, "not allowed together with step"),
        ({"model.kernel_size": CAPACITY}, "model.kernel_size.high: model.kernel_size: 8 is not"),
        (
            {"train.learning_rate": {"type": "float", "low": 0, "high": 1, "log": True}},
            "train.learning_rate.log: true needs low above 0",
        ),
        ({"model.norm": NORM | {"choices": []}}, "model.norm.choices: [] is not allowed"),
        ({"model.norm": NORM | {"choices": ["none", "none"]}}, "holds a value twice"),
        (
            {"model.norm": NORM | {"choices": ["batch"]}},
            "model.norm.choices[0]: model.norm: 'batch'",
        ),
        ({"model.norm": NORM | {"when": {"model.capacity": 1}}}, "not a key of this space"),
        (
            {"model.capacity": CAPACITY, "model.norm": NORM | {"when": {"model.capacity": 9}}},
            "model.norm.when.model.capacity: 9 is not a value that model.capacity can take",
        ),
        (
            {
                "model.capacity": CAPACITY | {"when": {"model.norm": "none"}},
                "model.norm": NORM | {"when": {"model.capacity": 3}},
            },
            "circular `when` conditions: ",
        ),
        ({"valid_data.crop_size": CAPACITY}, "losses of different trials would not be comparable"),
        ({"train.seed": CAPACITY}, "cannot be searched"),
        ({"train.batch_seed": CAPACITY}, "the same network trained from another seed"),
        ({"num_runs": CAPACITY}, "num_runs: cannot be searched: a study trains each config"),
        ({"num_parallel_runs": CAPACITY}, "cannot be searched: a study trains each"),
        ({"experiment_name": NORM}, "cannot be searched: only `clapp train` and `clapp repeat`"),
        ({"train.output_dir": NORM}, "cannot be searched: only `clapp train` and `clapp repeat`"),
        ({"train.output_log_interval": CAPACITY}, "cannot be searched: only `clapp train`"),
        ({"train.num_workers": CAPACITY}, "cannot be searched: it says where a network"),
        ({"train_data.token": NORM}, "cannot be searched: it is a secret"),
        ({"model.depth": CAPACITY}, "no such configuration key; did you mean model.num_layers?"),
        ({"model.capacity": CAPACITY | {"type": "integer"}}, "did you mean int? allowed: int"),
        ({"model.capacity": {"type": "int", "min": 1, "high": 3}}, "did you mean low?"),
        ({"model.capacity": CAPACITY | {"high": 10**20}}, "allowed: at most 9007199254740992"),
        ({"model.capacity": CAPACITY | {"low": -(2**63)}}, "allowed: at least -9007199254740992"),
        ({"model.capacity": CAPACITY | {"step": 10**30}}, "allowed: at most 9007199254740992"),
        ({"model.capacity": CAPACITY | {"high": 2**53}}, "model.capacity: 9007199254740992 is"),
        (
            {"model.output_channels": {"type": "categorical", "choices": [1, 3]}},
            "model.output_channels.choices[1]: model.output_channels 3 is not allowed; the filter",
        ),
        (
            {"train.learning_rate": {"type": "float", "low": 0.0, "high": 1.0, "step": 1e-9}},
            "are more than 1,000,000",
        ),
        (
            {"train.learning_rate": {"type": "float", "low": 1.0, "high": 1e308, "step": 1e-300}},
            "do not reach high",
        ),
        ({"train.stop_l2_loss": CAPACITY}, "never stops at success"),
        (
            {"model.num_layers": {"type": "categorical", "choices": [None]}},
            "model.num_layers.choices[0]: model.num_layers: null is not allowed",
        ),
        (
            {"model.num_layers": {"type": "categorical", "choices": ["many", 2]}},
            "model.num_layers.choices[0]: model.num_layers: 'many' is not allowed",
        ),
    ],
)
def test_errors_name_the_place(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_possible_only_under_its_condition_is_accepted() -> None:
    stem = {"type": "categorical", "choices": [None, 2], "when": {"model.shared_weights": False}}
    shared = {"type": "categorical", "choices": [True, False]}
    found = space({"model.stem": stem, "model.shared_weights": shared})
    assert list(found.parameters) == ["model.shared_weights", "model.stem"]
    with pytest.raises(ConfigError, match="must equal capacity"):
        load_space(
            {"model.stem": stem | {"when": {}}},
            "here",
            [ENGINE, Layer("base", {"model": {"shared_weights": True}})],
        )


def test_conditions_look_at_the_base_where_a_key_was_not_drawn() -> None:
    found = space(
        {
            "model.num_layers": {"type": "int", "low": 1, "high": 2},
            "model.shared_weights": {
                "type": "categorical",
                "choices": [False, True],
                "when": {"model.num_layers": 2},
            },
            "model.stem": {
                "type": "categorical",
                "choices": [1, 2],
                "when": {"model.shared_weights": False},
            },
        }
    )
    one = optuna.trial.FixedTrial({"model.num_layers": 1, "model.stem": 2})
    assert found.suggest(one, BASE) == {"model.num_layers": 1, "model.stem": 2}
    shared = optuna.trial.FixedTrial({"model.num_layers": 2, "model.shared_weights": True})
    assert found.suggest(shared, BASE) == {"model.num_layers": 2, "model.shared_weights": True}


def test_represent_leaves_out_what_the_space_cannot_hold() -> None:
    found = space(
        {
            "model.capacity": {"type": "int", "low": 1, "high": 4},
            "train.learning_rate": {"type": "float", "low": 0.001, "high": 0.1},
            "model.norm": NORM,
            "model.flip_conv_norm": {
                "type": "categorical",
                "choices": [True, False],
                "when": {"model.norm": "group"},
            },
        }
    )
    assert found.represent({**BASE, "model.norm": "none"}) == {
        "train.learning_rate": BASE["train.learning_rate"],
        "model.norm": "none",
    }


@pytest.mark.parametrize("name", sorted(p.stem for p in data_dir("search_spaces").glob("*.yaml")))
def test_a_draw_of_a_packaged_space_is_valid_unless_a_depthwise_block_does_not_fit(
    name: str,
) -> None:
    """No condition of a space can say that a block's channels are a multiple of those before it."""
    found = space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    misfits = 0
    for _ in range(300):
        drawn = found.suggest(study.ask(), BASE)
        layers = [ENGINE, Layer("drawn", nest(drawn))]
        if depthwise_misfits({**BASE, **drawn}):
            misfits += 1
            with pytest.raises(ConfigError, match=r"depthwise turns \d channels"):
                compose(layers)
        else:
            compose(layers)
    assert 0 < misfits < 200 if name.startswith("filternet") else misfits == 0
    again = load_space(found.document(), "again", [ENGINE])
    assert again.parameters == found.parameters


def depthwise_misfits(values: dict[str, Any]) -> bool:
    """Whether a depthwise block turns channels into a number that is no multiple of them."""
    count = values["model.num_layers"]

    def each(key: str) -> list[Any]:
        value = values[key]
        return value if isinstance(value, list) else [value] * count

    widths = each("model.capacity")
    stem = values["model.stem"]
    first = {None: widths[0], 0: values["model.input_channels"]}.get(stem, stem)
    before = [first, *widths[:-1]]
    return any(
        depthwise and width % channels
        for depthwise, width, channels in zip(each("model.depthwise"), widths, before, strict=True)
    )


def test_every_key_that_may_be_searched_makes_another_network_or_training() -> None:
    """Otherwise all draws would be duplicates of one another."""
    base = compose([ENGINE])
    for key, value in BASE.items():
        if refusal(key) is not None or key in UNLIKE:
            continue
        others = [_possible(key, changed) for changed in _others(key, value) if changed != value]
        possible = [config for config in others if config is not None]
        assert possible, f"{key}: no other value is tried here"
        assert identity(possible[0]) != identity(base), key


UNLIKE = ("model.input_channels", "model.output_channels")  # no other value is possible


def _others(key: str, value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 2, value / 2, value - 1, value + 2]
    choices = ["abs", "none", "max", "relu", "l1", "zero", "bf16", "all", "sum"]
    choices += ["adam", "can", "constant", "parallel", "x"]
    return [3, 0.5, *choices, 1, False] if value is None else [*choices, 2]


def _possible(key: str, value: Any) -> Config | None:
    try:
        return compose([ENGINE, Layer("other", nest({key: value}))])
    except ConfigError:
        return None


def test_a_grid_of_a_large_range_takes_no_memory() -> None:
    found = space({"train.max_iterations": {"type": "int", "low": 400, "high": 2**31 - 1}})
    assert len(found.parameters["train.max_iterations"].grid(5)) == 2**31 - 400
