"""`clapp studies`: what stands in a results folder, whatever else lies there."""

import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from clapp.commands.app import app
from clapp.errors import UserError
from clapp.front.objectives import CONSTANT_LOSS
from clapp.study.listing import ago, overviews
from clapp.study.plan.definition import DEFINITION, ELAPSED, LOCKS
from clapp.study.storage import liveness
from clapp.study.storage.storage import default_url, open_storage

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def make(results: Path, name: str, budget: int = 4, **changes: Any) -> Path:
    """A study of three trained models, a skipped trial and a failed one."""
    folder = results / name
    folder.mkdir(parents=True)
    storage = open_storage(changes.get("storage") or default_url(folder))
    study = optuna.create_study(
        storage=storage, study_name=changes.get("inside", name), directions=["minimize"] * 2
    )
    study.set_metric_names(["loss", "params"])
    limits = {"params": 1000}
    definition = {"budget": {"trials": budget, "timeout": changes.get("timeout")}, "limits": limits}
    study.set_user_attr(DEFINITION, definition)
    study.set_user_attr(ELAPSED, 100.0)
    study.set_user_attr(CONSTANT_LOSS, 0.1)
    for loss, params in ((0.01, 100), (0.001, 10), (0.05, 500)):
        facts = {"loss": loss, "params": params, "flops": params * 10, "config": {}}
        study.add_trial(create_trial(values=[loss, params], user_attrs=facts))
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"skipped": "duplicate"}))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"failed": "nan"}))
    return folder


def test_what_is_said_of_a_study(tmp_path: Path) -> None:
    make(tmp_path, "edges")
    (one,) = overviews(tmp_path).studies
    assert one.counts == {"complete": 3, "pruned": 0, "skipped": 1, "failed": 1, "running": 0}
    assert (one.study, one.total, one.state) == ("edges", 4, "interrupted")
    assert one.hypervolume == pytest.approx(4)  # a factor of 100 in each
    assert one.best is not None
    assert (one.best.trial, one.best.params) == (1, 10)
    assert one.active is not None
    assert datetime.now().astimezone() - one.active < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"budget": 3}, "finished"),
        ({"timeout": 100}, "finished"),
        ({"timeout": 101}, "interrupted"),
    ],
)
def test_a_spent_budget_finishes_a_study(
    changes: dict[str, Any], state: str, tmp_path: Path
) -> None:
    make(tmp_path, "edges", **changes)
    assert overviews(tmp_path).studies[0].state == state


def test_a_living_worker_makes_it_running(tmp_path: Path) -> None:
    locks = make(tmp_path, "edges", budget=3) / LOCKS
    with liveness.alive(locks, "host-1-0"):
        assert overviews(tmp_path).studies[0].state == "running"
    (locks / "host-1-1.alive").touch()  # of a worker that was killed
    assert overviews(tmp_path).studies[0].state == "finished"


def test_other_databases_are_named_and_left_as_they_are(tmp_path: Path) -> None:
    make(tmp_path, "edges")
    make(tmp_path, "old.20260101-120000", inside="old")
    (tmp_path / "empty").mkdir()
    corrupt, foreign, bare = (tmp_path / name / "study.db" for name in ("corrupt", "foreign", "x"))
    for path in (corrupt, foreign, bare):
        path.parent.mkdir()
    corrupt.write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 20)
    with sqlite3.connect(foreign) as connection:
        connection.execute("create table music (title text)")
    connection.close()
    optuna.create_study(storage=open_storage(f"sqlite:///{bare}"), study_name="x")
    before = foreign.read_bytes()
    found = overviews(tmp_path)
    assert [(one.study, one.state) for one in found.studies] == [
        ("edges", "interrupted"),
        ("old.20260101-120000", "set aside"),
    ]
    reasons = {Path(place).parent.name: reason for place, reason in found.left_out}
    assert reasons.keys() == {"corrupt", "foreign", "x"}
    assert reasons["foreign"].endswith("it is no database of Optuna, or it has no study yet")
    assert reasons["x"] == "CLAPP did not make it"
    assert foreign.read_bytes() == before


def test_studies_of_a_storage_are_listed_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    make(tmp_path / "results", "one", storage=url)
    make(tmp_path / "results", "two", storage=url, budget=3)
    optuna.create_study(storage=open_storage(url), study_name="alien")
    found = overviews(tmp_path / "nowhere", url)
    assert [(one.study, one.state) for one in found.studies] == [
        ("one", "interrupted"),
        ("two", "finished"),
    ]
    assert found.left_out == [("study alien in the storage", "CLAPP did not make it")]


def test_the_command(tmp_path: Path) -> None:
    make(tmp_path, "edges")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.db").write_text("nothing of the kind")
    run = CliRunner().invoke(app, ["studies", "--results", str(tmp_path), "--json"])
    assert run.exit_code == 0
    document = json.loads(run.stdout)
    (one,) = document["studies"]
    assert one["best"] == {"trial": 1, "loss": 0.001, "params": 10, "flops": 100}
    assert datetime.fromisoformat(one["active"]).tzinfo is not None
    assert document["left_out"][0]["place"] == str(tmp_path / "broken" / "study.db")
    table = CliRunner().invoke(app, ["studies", "--results", str(tmp_path)]).stdout
    for part in ("edges", "interrupted", "3 of 4", "1 skipped", "4.00", "10", "just now"):
        assert part in table


def test_no_studies_and_no_folder(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["studies", "--results", str(tmp_path)])
    assert run.stdout.startswith("There are no studies here")
    with pytest.raises(UserError, match="there is no such folder"):
        overviews(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (61, "1 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_ago(seconds: float, text: str) -> None:
    now = datetime(2026, 1, 2, 12)
    assert ago(now - timedelta(seconds=seconds), now) == text
