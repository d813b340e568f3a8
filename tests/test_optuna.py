"""What CLAPP uses of Optuna beyond its public interface: two names, and whether they still hold.

A newer Optuna that changes one of them fails here with a word, instead of somewhere in a search.
"""

import json
import re
from pathlib import Path

import optuna
import optuna_dashboard
import pytest
from optuna.trial import TrialState, create_trial

import clapp
from clapp.study.storage.storage import CONSTRAINTS, storage_of, trial_id

PRIVATE = re.compile(r"optuna[\w.]*\._\w+|optuna_dashboard\._\w+|\b(?:trial|study|storage)\._\w+")
KNOWN = {"study._storage"}


def test_nothing_else_that_is_private_is_used() -> None:
    found = {
        match[0]
        for path in Path(clapp.__file__).parent.rglob("*.py")
        for match in PRIVATE.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == KNOWN, "use Optuna's public functions, or say here why that cannot be"


def test_a_study_still_gives_its_storage(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'x.db'}", study_name="edges")
    trial = study.ask()
    storage = storage_of(study)
    assert isinstance(storage, optuna.storages.BaseStorage), (
        "Optuna's Study has no _storage any more: change clapp.study.storage.storage.storage_of"
    )
    assert storage.get_trial(trial_id(study, 0)).number == trial.number


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_constraints_are_still_read_from_their_attribute() -> None:
    study = optuna.create_study(directions=["minimize"] * 2)
    for violation in (-0.5, 0.5):
        attributes = {CONSTRAINTS: [violation]}
        study.add_trial(create_trial(values=[1.0 - violation, 1], system_attrs=attributes))
    over = study.trials[1]
    assert list(over.constraints.values()) == [0.5], (
        f"Optuna reads violations elsewhere than from {CONSTRAINTS!r}: see storage.CONSTRAINTS"
    )
    assert [trial.number for trial in study.best_trials] == [0]
    assert over.state == TrialState.COMPLETE

    application = optuna_dashboard.wsgi(storage_of(study))
    answer = b"".join(
        application(
            {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/0", "wsgi.errors": None},
            lambda *_: None,
        )
    )
    shown = [trial["constraints"] for trial in json.loads(answer)["trials"]]
    assert shown == [[-0.5], [0.5]], (
        f"the dashboard reads violations elsewhere than from {CONSTRAINTS!r}"
    )
