"""The note and the graphs of a study, read back as the dashboard reads them."""

import json
import time
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from clapp.front.record import NOTED
from clapp.study.dashboard import overview
from clapp.study.dashboard.artifacts import open_artifacts
from clapp.study.dashboard.graphs import CURVE_POINTS, CURVES
from clapp.study.dashboard.overview import Overview
from clapp.study.dashboard.study_note import MARK
from clapp.study.dashboard.trial_files import TrialFiles
from clapp.study.plan.existing import where

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

DEFINITION = {
    "description": "Edges of photographs.",
    "search_space": {"model.capacity": {}, "model.norm": {}},
    "config": {"train_data": {"target_filter": "sobel_canny_5"}},
    "limits": {"params": 5000.0, "loss": None},
}


def complete(loss: float, params: int, **attributes: object) -> FrozenTrial:
    known = {"config": {}, "loss": loss, "params": params, "flops": params * 1000}
    curve = [[100, 1.0, loss * 10], [200, 2.0, loss]]
    return create_trial(
        values=[loss, params, params * 1000],
        user_attrs={**known, "curve": curve, **attributes},
    )


def new_study(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(study_name="edges", directions=["minimize"] * 3)
    study.set_metric_names(["loss", "params", "flops"])
    study.set_user_attr("definition", DEFINITION)
    study.add_trials(trials)
    return study


@pytest.fixture
def study() -> optuna.Study:
    return new_study(
        complete(0.004, 2505, baseline="reference"),
        complete(0.002, 300, config={"model.capacity": 4}),
        complete(0.001, 900, config={"model.num_layers": 2}),
        complete(0.003, 400),
        create_trial(state=TrialState.PRUNED, user_attrs={"skipped": "duplicate"}),
    )


def graphs(study: optuna.Study) -> dict[str, go.Figure]:
    """The graphs, of which Plotly accepts every property."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    found = get_plotly_graph_objects(attributes)
    return {name: go.Figure(json.loads(text)) for name, text in found.items()}


def test_graphs_show_front_hypervolume_and_curves(study: optuna.Study) -> None:
    Overview(study).refresh()
    figures = graphs(study)
    assert set(figures) == {"front", "hypervolume", "curves"}
    trained, front, reference = figures["front"].data
    assert (trained.x, trained.y) == ((400,), (0.003,))
    assert (front.x, front.y) == ((300, 900), (0.002, 0.001))
    assert (reference.x, reference.y) == ((2505,), (0.004,))
    assert "trial 1" in front.text[0]
    assert "4 blocks of 4 channels" in front.text[0].replace("<br>", " ")
    (line,) = figures["hypervolume"].data
    assert line.x[-1] == 4
    assert list(line.y) == sorted(line.y)
    small, large = figures["curves"].data
    assert (small.name, large.name) == ("300 (trial 1)", "900 (trial 2)")
    assert (large.x, large.y) == ((100, 200), (0.01, 0.001))
    assert large.text == ("0.01 (20.0 dB)", "0.001 (30.0 dB)")
    assert large.hovertemplate.startswith("%{text} after %{x}")


def test_graphs_stay_small_however_large_the_study() -> None:
    curve = [[step, 0.0, 1 / step] for step in range(1, 1001)]
    study = new_study(*(complete(0.1 / n, n, curve=curve) for n in range(1, 41)))
    Overview(study).refresh()
    curves = graphs(study)["curves"].data
    assert len(curves) == CURVES
    assert [curves[0].name, curves[-1].name] == ["1 (trial 0)", "40 (trial 39)"]
    for one in curves:
        assert len(one.x) == CURVE_POINTS
        assert (one.x[0], one.x[-1]) == (1, 1000)


def test_the_note_says_what_is_searched_and_what_to_look_at(study: optuna.Study) -> None:
    Overview(study).refresh()
    note = get_note(study)
    for text in (
        "# edges\n\nEdges of photographs.\n",
        "stand in for the filter `sobel_canny_5`",
        "| limits | parameters at most 5,000 |",
        "| searched: 2 keys | `model.capacity`, `model.norm` |",
        "| trials | 4 complete, 1 skipped |",
        "| front | 2 models, hypervolume ",
        "| reference | loss 0.004 (24.0 dB), 2,505 parameters, 2.5M FLOPs; beaten by 2 of the ",
        "| `min-loss` | [2](/dashboard/studies/0/trials?numbers=2) | 0.001 (30.0 dB) | 900 |",
        "| `loss<=0.004004` | [1](/dashboard/studies/0/trials?numbers=1) | 0.002 (27.0 dB) | 300 |",
        "clapp export edges --pick knee",
    ):
        assert text in note


def test_a_note_keeps_what_a_person_wrote(study: optuna.Study) -> None:
    Overview(study).refresh()
    save_note(study, get_note(study) + "\n\nTry trial 3 on the robot.")
    study.add_trial(complete(0.0005, 200))
    Overview(study).refresh()
    assert "5 complete" in get_note(study)
    assert get_note(study).endswith(f"{MARK}\n\nTry trial 3 on the robot.")
    save_note(study, "All mine.")
    Overview(study).refresh()
    assert get_note(study) == "All mine."


def test_the_commands_of_the_note_find_the_study(study: optuna.Study) -> None:
    Overview(study, where=where(Path("/my results"), "postgresql://me:secret@db/x")).refresh()
    assert (
        "`clapp export edges --pick knee --results '/my results' "
        "--storage 'postgresql://me:***@db/x'` writes"
    ) in get_note(study)


def test_nothing_is_written_when_nothing_changed(study: optuna.Study) -> None:
    Overview(study).refresh()
    before = study._storage.get_study_system_attrs(study._study_id)
    Overview(study).refresh()
    assert study._storage.get_study_system_attrs(study._study_id) == before


def test_a_new_study_has_a_note_and_no_graphs() -> None:
    study = new_study()
    Overview(study).refresh()
    assert "| trials | none |" in get_note(study)
    assert "Worth a look" not in get_note(study)
    assert graphs(study) == {}


def test_trained_trials_get_a_note_once(study: optuna.Study, tmp_path: Path) -> None:
    shown = Overview(study, TrialFiles(study, tmp_path, open_artifacts(None, tmp_path)))
    shown.refresh()
    assert study.user_attrs[NOTED] == [0, 1, 2, 3]  # the skipped one has nothing to show
    trial = optuna.Trial(study, 1)
    note = get_note(trial)
    assert "4 blocks of 4 channels, 3x3, GELU, " in note.replace("  \n", " ")
    assert "| loss | parameters | FLOPs | iterations | training | ended by |" in note
    assert "| 0.002 (27.0 dB) | 300 | 300,000 |" in note
    assert "```yaml\nmodel:\n  capacity: 4\n```" in note
    assert "![" not in note  # its files are on another machine
    save_note(trial, "Mine.")
    study.add_trial(complete(0.0005, 200))
    shown.refresh()
    assert get_note(trial) == "Mine."
    assert study.user_attrs[NOTED] == [0, 1, 2, 3, 5]


def test_a_thread_keeps_the_pages_up_to_date(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "INTERVAL", 0.05)
    monkeypatch.setattr(overview, "SHARE", 1.0)

    def wait_for(words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in get_note(study) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert words in get_note(study)

    with Overview(study).kept_up_to_date():
        wait_for("4 complete")
        study.add_trial(complete(0.0005, 200))
        wait_for("5 complete")


def test_a_failure_does_not_end_the_run(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the database is\nbusy")

    monkeypatch.setattr(overview, "_standing", broken)
    Overview(study).refresh()
    assert get_note(study) == ""
