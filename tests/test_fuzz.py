"""What somebody may write, drawn at random: it is taken, or refused in one line by a UserError.

`CLAPP_FUZZ=20000 pytest tests/test_fuzz.py` tries that many examples of each instead of a few.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clapp.config import compose, defaults, flatten, identity, load_config, nest
from clapp.errors import UserError
from clapp.filters.library import apply_filter, known_filters
from clapp.study.plan.files import StudyFile, find_space, find_study, load_study
from clapp.study.plan.plan import make_plan, plan_from
from clapp.study.plan.space import load_space
from clapp.system.strict_yaml import dump_yaml, parse_yaml

EXAMPLES = int(os.environ.get("CLAPP_FUZZ", "150"))
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="CLAPP_FUZZ" not in os.environ,  # the same in every run of the short form
    suppress_health_check=list(HealthCheck),
)
optuna.logging.set_verbosity(optuna.logging.ERROR)

DEFAULTS = flatten(defaults())
KEYS = sorted(DEFAULTS)
SECTIONS = ["train_data", "valid_data", "model", "train"]
STUDY_KEYS = sorted(StudyFile.model_fields)
WORDS = sorted(
    {str(value) for value in DEFAULTS.values() if isinstance(value, str)}
    | {"relu", "group", "l2", "photos+synthetic", "folder:.", "none", "tpe", "front", "int"}
    | {"float", "categorical", "filternet", "30m", "1e-3", "nowhere:f", "os:getcwd", "tiny"}
)
NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.integers(),
    st.sampled_from([2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**25, 10**400, -(2**63) - 1]),
    st.floats(),
    st.sampled_from([1e-3, 0.5, 1e308, 5e-324, -0.0]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=8))
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "kernel", "x"]), inner, max_size=3),
        st.dictionaries(LEAVES, inner, max_size=2),
    ),
    max_leaves=6,
)
NAMES = st.one_of(st.sampled_from(KEYS), st.sampled_from(SECTIONS), st.text(max_size=6))


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values of the kind that a key has, more often than any other."""
    if isinstance(value, bool):
        return st.one_of(st.booleans(), ANYTHING)
    if isinstance(value, int | float):
        return st.one_of(NUMBERS, st.just(value), ANYTHING)
    return st.one_of(st.sampled_from(WORDS), st.just(value), ANYTHING)


ENTRIES = st.sampled_from(KEYS).flatmap(lambda key: st.tuples(st.just(key), near(DEFAULTS[key])))
CONFIGS = st.lists(st.one_of(ENTRIES, st.tuples(NAMES, ANYTHING)), max_size=4).map(dict)
PARAMETERS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["int", "float"]), "low": NUMBERS, "high": NUMBERS},
        optional={
            "step": NUMBERS,
            "log": st.booleans(),
            "when": st.dictionaries(NAMES, ANYTHING, max_size=2),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("categorical"), "choices": st.lists(LEAVES, max_size=4)},
        optional={"when": st.dictionaries(NAMES, ANYTHING, max_size=2)},
    ),
    st.dictionaries(st.sampled_from(["type", "low", "high", "choices", "x"]), ANYTHING, max_size=4),
    ANYTHING,
)


def possible(value: Any) -> st.SearchStrategy[Any]:
    """Parameters around a default, which a space may well hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return st.just({"type": "categorical", "choices": [value]})
    kind = "int" if isinstance(value, int) else "float"
    ends = st.tuples(st.just(value), NUMBERS).map(sorted)
    return ends.map(lambda pair: {"type": kind, "low": pair[0], "high": pair[1]})


SPACES = st.lists(
    st.one_of(
        st.sampled_from(KEYS).flatmap(lambda k: st.tuples(st.just(k), possible(DEFAULTS[k]))),
        st.tuples(st.sampled_from(KEYS), PARAMETERS),
        st.tuples(NAMES, PARAMETERS),
    ),
    min_size=1,
    max_size=3,
).map(dict)
STUDIES = st.fixed_dictionaries(
    {},
    optional={
        "search_space": st.one_of(SPACES, st.sampled_from(["tiny", "filternet"]), ANYTHING),
        "config": st.one_of(CONFIGS, ANYTHING),
        "baselines": st.one_of(
            st.dictionaries(st.text(min_size=1, max_size=4), CONFIGS, max_size=2), ANYTHING
        ),
        "budget": st.one_of(
            st.fixed_dictionaries({}, optional={"trials": NUMBERS, "timeout": LEAVES}), ANYTHING
        ),
        "limits": st.dictionaries(st.sampled_from(["loss", "params", "flops", "x"]), LEAVES),
        "sampler": st.one_of(st.sampled_from(["front_trees", "tpe", "grid", "qmc"]), ANYTHING),
        "pruner": st.one_of(st.sampled_from(["front", "none", "mo-asha"]), ANYTHING),
        "seed": ANYTHING,
        "objectives": st.one_of(
            st.lists(st.sampled_from(["loss", "params", "flops", "x"]), max_size=3), ANYTHING
        ),
        "max_retry": ANYTHING,
        "description": ANYTHING,
    },
)


def tried(function: Callable[..., Any], *args: Any) -> Any:
    """The result, or None for a refusal, which has to be one readable line."""
    try:
        return function(*args)
    except UserError as error:
        text = str(error)
        assert text.strip()
        assert len(text) < 5000
        assert not re.search(r"Traceback|pydantic|object at 0x|\(and \d+ more\)", text)
        return None


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@FUZZED
@given(st.text(max_size=60))
def test_any_text_as_yaml(text: str) -> None:
    value = tried(parse_yaml, text, "f")
    if value is not None:
        tried(load_config, value if isinstance(value, Mapping) else {"model": value})


YAML = st.text(alphabet="abk:-,[]{}&*!<>|'\"#%@`\n\t \\?.0123456789eE~=ß\u2028\ufeff", max_size=40)


@FUZZED
@given(YAML)
def test_what_looks_like_yaml(text: str) -> None:
    value = tried(parse_yaml, text, "f")
    if value is not None:
        assert tried(parse_yaml, dump_yaml(value), "again") == value or value != value


@FUZZED
@given(CONFIGS)
def test_any_mapping_as_a_configuration(values: dict[Any, Any]) -> None:
    config = tried(lambda: load_config(nest(values)))
    if config is not None:
        again = compose([*()]) if not values else load_config(config.model_dump())
        assert identity(again) == identity(config)


@FUZZED
@given(st.one_of(ANYTHING, CONFIGS))
def test_any_value_as_a_configuration(values: Any) -> None:
    if isinstance(values, Mapping):
        tried(load_config, values)


@FUZZED
@given(
    NAMES,
    st.one_of(st.text(max_size=20), YAML, LEAVES.filter(lambda v: not _endless(v)).map(str)),
)
def test_any_override(key: str, value: str) -> None:
    tried(load_config, None, [f"{key}={value}"])
    tried(load_config, None, [key + value])


def _endless(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 10**4000


@FUZZED
@given(SPACES)
def test_any_search_space(values: dict[Any, Any]) -> None:
    space = tried(load_space, values, "here", [])
    if space is None:
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(3):
        drawn = space.suggest(study.ask(), DEFAULTS)
        tried(load_config, nest(drawn))
        assert space.represent({**DEFAULTS, **drawn}) == drawn
    again = load_space(space.document(), "again", [])
    assert again.parameters == space.parameters


@FUZZED
@given(STUDIES)
def test_any_study(values: dict[str, Any]) -> None:
    path = Path("mine.yaml")
    path.write_text(dump_yaml(values) if values else "{}", encoding="utf-8")
    plan = tried(make_plan, str(path))
    if plan is not None:
        again = plan_from(plan.name, plan.document())
        assert again.definition() == plan.definition()
        assert again.resolved() == plan.resolved()
        tried(plan.config, {}, 0, None)


@FUZZED
@given(st.text(max_size=300))
def test_any_name_of_a_study_or_space(name: str) -> None:
    tried(find_study, name)
    tried(load_study, name)
    tried(find_space, name, Path("mine.yaml"))
    tried(load_space, name, "here", [])


KERNELS = st.one_of(
    ANYTHING,
    st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=4),
)
SPECS = st.one_of(
    ANYTHING,
    st.sampled_from(known_filters()),
    st.text(max_size=10).map(lambda text: f"{text}:f"),
    st.fixed_dictionaries(
        {"kernel": KERNELS},
        optional={"normalize": st.one_of(st.sampled_from(["none", "max", "clip"]), ANYTHING)},
    ),
)
PICTURE = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)


@FUZZED
@given(SPECS)
def test_any_filter(spec: Any) -> None:
    result = tried(apply_filter, spec, PICTURE)
    if result is not None:
        assert result.shape[:2] == (7, 9)
        assert result.dtype in (np.uint8, np.float32)
        assert np.isfinite(result).all()
