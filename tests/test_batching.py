"""Optuna's own contract for storages, and what gathering writes adds to it."""

from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from clapp.study.batching import BatchingStorage, set_study_system_attrs
from clapp.study.storage import open_storage


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def storage(url: str) -> BaseStorage:
    return open_storage(url)


class TestContract(StorageTestCase):
    # What is wrong shows at the next read, not at once: see below.
    test_set_trial_param = None
    test_set_trial_user_attr = None
    test_set_trial_system_attr = None
    # A process opens its own storage, by URL.
    test_pickle_storage = None


def running_trial(storage: BaseStorage) -> int:
    study = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "a")
    return storage.create_new_trial(study)


def test_a_read_finds_everything_written_and_the_last_value_of_each(
    storage: BaseStorage, url: str
) -> None:
    trial = running_trial(storage)
    other = RDBStorage(url)
    storage.set_trial_param(trial, "x", 0.25, FloatDistribution(0, 1))
    storage.set_trial_user_attr(trial, "a", 1)
    storage.set_trial_user_attr(trial, "a", {"b": [2]})
    storage.set_trial_system_attr(trial, "a", "s")
    assert other.get_trial(trial).user_attrs == {}  # it waits
    seen = storage.get_trial(trial)
    assert (seen.params, seen.user_attrs) == ({"x": 0.25}, {"a": {"b": [2]}})
    storage.set_trial_user_attr(trial, "a", 3)  # one that is in the database already
    storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    found = other.get_trial(trial)
    assert found.params == {"x": 0.25}
    assert found.distributions == {"x": FloatDistribution(0, 1)}
    assert found.user_attrs == {"a": 3}
    assert found.system_attrs == {"a": "s"}


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used")
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("kind", ["url", "postgres_url"])
def test_trials_are_read_as_optuna_reads_them(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(kind)
    study = optuna.create_study(storage=open_storage(url), directions=["minimize", "maximize"])
    for number in range(3):
        trial = study.ask()
        trial.suggest_categorical("c", [None, "a", 1.5])
        trial.suggest_int("i", 1, 9, log=True)
        trial.set_user_attr("text", {"b": [number, None, "\u00e4"]})
        trial.set_constraint("limit", -0.5)
        for step, value in enumerate([0.5, float("nan"), float("inf"), -float("inf")]):
            trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)
        if number:
            study.tell(trial, [float("inf"), -float("inf") if number == 1 else 0.1])
    ids = [trial._trial_id for trial in study.get_trials()]
    ours, theirs = open_storage(url), RDBStorage(url)
    expected = [theirs.get_trial(one) for one in ids]
    assert [trial.state.is_finished() for trial in expected] == [False, True, True]
    # As text, for NaN is not equal to itself.
    assert [repr(ours.get_trial(one)) for one in ids] == [repr(one) for one in expected]
    assert repr(ours.get_all_trials(study._study_id)) == repr(expected)
    with pytest.raises(KeyError, match="77"):
        ours.get_trial(77)


def test_a_finished_trial_is_not_changed(storage: BaseStorage) -> None:
    trial = running_trial(storage)
    storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    storage.set_trial_user_attr(trial, "a", 1)
    with pytest.raises(UpdateFinishedTrialError):
        storage.get_trial(trial)
    assert storage.get_trial(trial).user_attrs == {}  # and it is usable again


def test_a_trial_takes_few_transactions(storage: BaseStorage) -> None:
    assert isinstance(storage, BatchingStorage)
    commits = []
    sqlalchemy.event.listen(storage.engine, "commit", lambda _: commits.append(1))
    trial = running_trial(storage)
    commits.clear()
    for number in range(30):
        storage.set_trial_param(trial, f"p{number}", 0.5, FloatDistribution(0, 1))
        storage.set_trial_user_attr(trial, f"a{number}", number)
    storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    assert len(commits) == 2
    assert len(storage.get_trial(trial).params) == 30


@pytest.mark.parametrize("kind", ["ours", "cached", "other"])
def test_attributes_of_a_study_are_stored_together(url: str, kind: str) -> None:
    opened = RDBStorage(url) if kind == "other" else open_storage(url)
    study = optuna.create_study(storage=opened)
    storage = study._storage if kind == "cached" else opened
    commits = []
    sqlalchemy.event.listen(opened.engine, "commit", lambda _: commits.append(1))
    set_study_system_attrs(storage, study._study_id, {"a": 1, "b": "x"})
    set_study_system_attrs(storage, study._study_id, {"a": [2], "c": None})
    assert len(commits) == {"other": 4}.get(kind, 2)
    assert RDBStorage(url).get_study_system_attrs(study._study_id) == {
        "a": [2],
        "b": "x",
        "c": None,
    }
