"""The table of objectives: how values are found, written and bounded."""

from types import SimpleNamespace
from typing import Any

import pytest

from clapp.config import load_config
from clapp.errors import UserError
from clapp.front.objectives import (
    CONSTANT_LOSS,
    OBJECTIVES,
    ZERO,
    Objective,
    amount,
    decibels,
    exact_costs,
    exact_names,
    measured_costs,
    objective,
    positive,
    register_objective,
    results,
    scaled,
    short,
    worst_values,
)


@pytest.fixture
def steps() -> Any:
    """An objective as somebody outside of the package adds it: one entry."""
    entry = Objective("steps", "steps to 0.005", after=lambda result: result.iterations)
    yield register_objective(entry)
    OBJECTIVES.remove("steps")


def test_every_built_in_objective_can_be_found() -> None:
    config = load_config()
    assert exact_costs(config) == {
        "params": 2505.0,
        "flops": 230311936.0,
        "memory": 4.0 * (16 * 224**2 + 8 * 222**2),
        "weight_bytes": 2336.0 + 4 * (2505 - 2336),
        "operators": 9.0,
    }
    assert exact_costs(config, ["loss", "flops"]) == {"flops": 230311936.0}
    measured = measured_costs(config, ["loss", "params", "latency", "memory"])
    assert list(measured) == ["latency"]
    assert exact_names(["loss", "flops", "latency"]) == ["flops"]


def test_one_entry_is_an_objective(steps: Objective) -> None:
    result: Any = SimpleNamespace(loss=0.25, iterations=300)
    assert results(result, ["loss", "params", "steps"]) == {"loss": 0.25, "steps": 300.0}
    assert (steps.title, amount("steps", 300)) == ("steps to 0.005", "steps to 0.005 300")
    with pytest.raises(UserError, match="objective 'steps' is registered already"):
        register_objective(Objective("steps", "other", after=lambda _: 0.0))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_value_that_is_no_number_is_refused(steps: Objective, value: float) -> None:
    result: Any = SimpleNamespace(iterations=value)
    with pytest.raises(UserError, match=rf"'{steps.name}': {value} is not a finite"):
        results(result, ["steps"])


def test_an_entry_says_how_its_value_is_found() -> None:
    with pytest.raises(UserError, match="'idle': give `before` or `after`"):
        register_objective(Objective("idle", "idle"))
    with pytest.raises(UserError, match="'late': only `before` can be exact"):
        register_objective(Objective("late", "late", exact=True, after=lambda _: 0.0))
    assert not {"idle", "late"} & {*OBJECTIVES}


def test_values_in_words() -> None:
    assert amount("loss", 0.004731) == "loss 0.004731 (23.3 dB)"
    assert amount("params", 2505) == "2,505 parameters"
    assert amount("flops", 230_311_936) == "230M FLOPs"
    assert amount("latency", 1.25) == "latency 1.25 ms"
    assert amount("elsewhere", 2.0) == "elsewhere 2"  # a plug-in's that is not loaded here
    assert [short(v) for v in (0.00001234, 1e-9, 12345678, 123456, 0)] == [
        "0.00001234",
        "1e-09",
        "1.235e+07",
        "123,456",
        "0",
    ]
    assert [scaled(v) for v in (999, 1000, 2.5e9)] == ["999", "1k", "2.5G"]
    assert (objective("latency").heading, objective("flops").title) == (
        "latency (ms)",
        "FLOPs at 224x224",
    )


def test_zero_has_a_logarithm_and_nothing_else_is_changed() -> None:
    assert [positive(v) for v in (0.0, 1e-12, 2e-9, 0.5)] == [ZERO, ZERO, 2e-9, 0.5]
    assert decibels(0.0) == "90.0 dB"


def test_the_worst_loss_is_that_of_the_constant_prediction() -> None:
    found = [{"loss": 0.3, "params": 50.0, "steps": 7.0}, {"loss": 0.1, "params": 90.0, "steps": 9}]
    names = ["loss", "params", "steps"]
    recorded = {CONSTANT_LOSS: 0.248}
    assert worst_values(names, recorded, {}, found) == {"loss": 0.248, "params": 90, "steps": 9}
    limits = {"params": 4000.0, "loss": 0.01}
    assert worst_values(names[:2], recorded, limits, found) == {"loss": 0.248, "params": 4000}
    # A study of an older version did not record it.
    assert worst_values(["loss"], {}, {}, found) == {"loss": 0.3}
    assert worst_values(["loss", "params"], {}, {}, []) == {"loss": ZERO, "params": ZERO}
