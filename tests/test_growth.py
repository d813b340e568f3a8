"""A study goes on with a larger search space: the same trials, in other distributions."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from clapp.errors import UserError
from clapp.front.record import record_of
from clapp.study.plan.definition import DEFINITION, LOCKS
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.preparing import growth as growing
from clapp.study.preparing.growth import growth
from clapp.study.preparing.prepare import create_study
from clapp.study.storage.storage import open_storage

INT = {"type": "int", "low": 1, "high": 4}
CHOICE = {"type": "categorical", "choices": ["abs", "gelu"]}
WHEN = CHOICE | {"when": {"model.norm": "group"}}


@pytest.mark.parametrize(
    ("old", "new", "words", "rewrites"),
    [
        (INT, INT, [], False),
        (INT, INT | {"high": 8}, ["k: high 4 -> 8"], False),
        (INT, INT | {"low": 0, "high": 8}, ["k: low 1 -> 0", "k: high 4 -> 8"], False),
        (CHOICE, CHOICE | {"choices": ["abs", "gelu", "relu"]}, ["k: choices relu too"], True),
        (CHOICE, CHOICE | {"choices": ["gelu", "abs"]}, [], True),
        (WHEN, CHOICE, ["k: applies more often"], True),
        (
            WHEN,
            CHOICE | {"when": {"model.norm": ["none", "group"]}},
            ["k: applies more often"],
            True,
        ),
        (None, INT, ["k is searched too"], True),
    ],
)
def test_extensions(old: Any, new: Any, words: list[str], rewrites: bool) -> None:
    assert growth({"k": old} if old else {}, {"k": new}) == (words, rewrites)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (INT, None, "search_space.k: it is searched no longer"),
        (INT, INT | {"high": 3}, "search_space.k.high: 4 became 3, which is narrower"),
        (INT, INT | {"low": 2}, "search_space.k.low: 1 became 2, which is narrower"),
        (INT, INT | {"type": "float"}, "search_space.k.type: 'int' became 'float'"),
        (INT, INT | {"log": True}, "search_space.k.log: null became true"),
        (INT, INT | {"step": 3}, "search_space.k.step: None became 3"),
        (CHOICE, CHOICE | {"choices": ["abs"]}, "search_space.k.choices: 'gelu' is no choice any"),
        (CHOICE, WHEN, "search_space.k.when.model.norm: this condition is new"),
        (WHEN, WHEN | {"when": {"model.norm": "none"}}, "it does not apply to 'group' any longer"),
    ],
)
def test_what_is_no_extension_is_refused_with_the_reason(old: Any, new: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        growth({"k": old}, {"k": new} if new else {})


BEFORE = """
search_space:
  model.capacity: {type: int, low: 1, high: 4}
  model.activation: {type: categorical, choices: [abs, gelu]}
config: {model: {num_layers: 2}}
baselines: {wide: {model.capacity: 3, model.num_layers: 1}}
"""
AFTER = """
search_space:
  model.capacity: {type: int, low: 1, high: 6}
  model.activation: {type: categorical, choices: [square, abs, gelu]}
  model.num_layers: {type: int, low: 1, high: 3}
config: {model: {num_layers: 3}}
baselines: {wide: {model.capacity: 3, model.num_layers: 1}, small: {model.capacity: 1}}
"""


class Bench:
    """A study `mine` in SQLite with three trials: the baseline, a drawn one and a skipped one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/study.db"
        study = self.create(BEFORE)
        plan = self.plan(BEFORE)
        for number in range(3):
            trial = study.ask()
            plan.space.suggest(trial, plan.base)
            trial.set_user_attr("loss", 0.1 * number)
            if number < 2:
                study.tell(trial, [0.1 * number, 1.0, 2.0])
            else:
                study.tell(trial, state=TrialState.PRUNED)

    @property
    def storage(self) -> BaseStorage:
        return open_storage(self.url)

    def plan(self, text: str) -> Plan:
        (self.folder / "mine.yaml").write_text(text)
        return make_plan(str(self.folder / "mine.yaml"))

    def create(self, text: str) -> optuna.Study:
        return create_study(self.plan(text), self.storage, self.folder / LOCKS)

    def names(self) -> list[str]:
        return optuna.get_all_study_names(self.storage)


def essence(study: optuna.Study) -> list[Any]:
    return [
        (t.number, t.state, t.values, t.user_attrs, t.intermediate_values, t.datetime_complete)
        for t in study.get_trials()
        if t.state != TrialState.WAITING
    ]


def test_a_study_grows_with_its_trials(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = optuna.load_study(study_name="mine", storage=bench.storage)
    trials, drawn = essence(before), before.trials[1].params
    grown = bench.create(AFTER)
    assert bench.names() == ["mine"]
    assert essence(grown) == trials
    assert grown.metric_names == ["loss", "params", "flops"]
    assert grown.user_attrs[DEFINITION] == bench.plan(AFTER).definition()
    baseline, other = grown.trials[0], grown.trials[1]
    assert baseline.params["model.num_layers"] == 1
    assert other.params == drawn | {"model.num_layers": 2}  # as the study had fixed it
    assert other.distributions["model.activation"] == CategoricalDistribution(
        ("square", "abs", "gelu")
    )
    assert other.distributions["model.num_layers"] == IntDistribution(1, 3)
    plan, trial = bench.plan(AFTER), grown.ask()  # the added baseline
    assert record_of(trial).baseline == "small"
    for _ in range(8):
        assert set(plan.space.suggest(grown.ask(), plan.base)) == set(plan.space.parameters)
    with pytest.raises(UserError, match=r"narrower; a search space may only grow: undo the change"):
        bench.create(AFTER.replace("high: 6", "high: 5"))
    with pytest.raises(UserError, match=r"trial \d+ was left behind; end it, and run it once more"):
        bench.create(AFTER.replace("[square,", "[square, relu,"))


def test_wider_ranges_need_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    monkeypatch.delattr(growing, "_redrawn")
    study = bench.create(BEFORE.replace("high: 4", "high: 9"))
    study.enqueue_trial({"model.capacity": 9, "model.activation": "abs"})
    trial = study.ask()
    plan = bench.plan(BEFORE.replace("high: 4", "high: 9"))
    assert plan.space.suggest(trial, plan.base)["model.capacity"] == 9


@pytest.mark.parametrize("killed_in", ["add_trial", "delete_study", "copy_study"])
def test_nothing_is_lost_when_a_growing_study_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    bench = Bench(tmp_path)
    trials = essence(optuna.load_study(study_name="mine", storage=bench.storage))

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study if killed_in == "add_trial" else optuna, killed_in, kill)
        with pytest.raises(KeyboardInterrupt):
            bench.create(AFTER)
    grown = bench.create(AFTER)
    assert essence(grown) == trials
    assert bench.names() == ["mine"]
    assert grown.trials[1].params["model.num_layers"] == 2
