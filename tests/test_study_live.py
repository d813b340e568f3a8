"""What a person sees: the live display and the plain lines."""

import io
import time
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from clapp.front.objectives import CONSTANT_LOSS
from clapp.front.outcomes import Candidate
from clapp.study.display import live
from clapp.study.display.live import PlainView
from clapp.study.display.screen import Screen
from clapp.study.display.snapshot import Snapshot, Watcher
from clapp.study.display.words import clock, describe


def candidate(trial: int, loss: float, params: int, baseline: str | None = None) -> Candidate:
    values = {"loss": loss, "params": params, "flops": params * 1000}
    return Candidate(trial, values, params, params * 1000, loss, {}, baseline)


def snapshot(**changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "study": "sobel3",
        "total": 60,
        "trained": 20,
        "trained_before": 10,
        "counts": {"complete": 18, "pruned": 2, "skipped": 3, "failed": 1, "running": 2},
        "front": [candidate(4, 0.004, 50), candidate(7, 0.001, 200)],
        "reference": candidate(0, 0.002, 2505, "reference"),
        "elapsed": 120.0,
        "seconds_left": None,
        "workers": ["worker 0: trial 24: step 300"],
    }
    return Snapshot(**(values | changes))


def finished(state: TrialState, **attributes: Any) -> FrozenTrial:
    values = [0.1] if state == TrialState.COMPLETE else None
    trial = optuna.trial.create_trial(state=state, values=values, user_attrs=attributes)
    trial.number = 5
    return trial


def test_rate_and_time_left() -> None:
    assert snapshot().per_minute == 5
    assert snapshot().remaining == 40 * 12
    assert snapshot(seconds_left=30.0).remaining == 30
    assert snapshot(trained=10).remaining is None
    assert snapshot().beating() == 1
    assert snapshot(reference=None).beating() is None


def shown(width: int, height: int, encoding: str = "utf-8", **changes: Any) -> list[str]:
    """The lines of the display on a terminal of that size."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height)
    screen = Screen("sobel3")
    models = [candidate(n, 10 ** (-1 - n / 8), 9 + n * n) for n in range(30)]
    screen.show(snapshot(**({"front": models, "candidates": models} | changes)))
    screen.notes.append("trial 5: failed: nan after 3 iterations")
    console.print(screen)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


SIZES = [(40, 24), (72, 24), (80, 24), (119, 30), (160, 24), (160, 50), (300, 90), (80, 8), (12, 5)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("volumes", [[], [1.0], [0.5 * n for n in range(20)]])
def test_the_display_fits_every_terminal(width: int, height: int, volumes: list[float]) -> None:
    many = [f"worker {n}: trial {n}: step 300, loss 0.00123 (29.1 dB)" for n in range(9)]
    lines = shown(width, height, volumes=volumes, workers=many)
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 12)  # what says how things stand is never cut


def test_the_display_shows_progress_counts_front_and_workers() -> None:
    text = "\n".join(shown(80, 24, volumes=[1.0, 2.5]))
    for part in (
        "20 of 60 trials, 8:00 left; running for 2:00",
        "18 complete, 2 pruned, 3 skipped, 1 failed, 2 running, 5.0 trials a minute",
        "beat the reference",
        "hypervolume 2.50 ▁█",
        "loss by params: ● front",
        "worker 0: trial 24: step 300",
        "trial 5: failed: nan after 3 iterations",
        "Ctrl-C stops",
    ):
        assert part in text


def test_plots_stand_beside_the_table_where_there_is_room_else_below() -> None:
    for width in (80, 160):
        assert any(
            "loss  parameters" in line and "loss by params" in line for line in shown(width, 24)
        )
    narrow = shown(40, 24)
    heading = next(n for n, line in enumerate(narrow) if "loss  parameters" in line)
    assert narrow.index("loss by params: ● front ◆ reference") > heading


def test_a_tall_terminal_shows_how_the_hypervolume_grew() -> None:
    volumes = [0.5 * n for n in range(20)]
    assert any("hypervolume by trials" in line for line in shown(160, 50, volumes=volumes))
    assert not any("hypervolume by trials" in line for line in shown(160, 24, volumes=volumes))


def test_a_long_front_is_cut_to_both_ends_and_what_fits_between() -> None:
    lines = shown(80, 16)
    rows = [int(line.split()[0]) for line in lines if line[:5].strip().isdigit()]
    assert rows[0] == 0
    assert rows[-1] == 29
    assert rows == sorted(rows)
    assert f"... and {30 - len(rows)} more models" in "\n".join(lines)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    lines = shown(160, 50, encoding="ascii", volumes=[0.5 * n for n in range(20)])
    text = "\n".join(lines)
    assert text.isascii()
    assert "o front R reference" in text
    assert "hypervolume 9.50 _" in text


def test_before_the_first_look_the_display_says_that_it_starts() -> None:
    console = Console(file=io.StringIO(), width=80, height=24)
    console.print(Screen("sobel3"))
    assert "sobel3: starting" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_display_says_what_it_has_long_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80, height=24)
    screen = Screen("sobel3")
    screen.do("waiting for the storage")
    console.print(screen)
    assert "storage" not in console.file.getvalue()  # type: ignore[attr-defined]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 5)
    console.print(screen)
    assert "waiting for the storage, 5 s" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("trial", "text"),
    [
        (
            finished(TrialState.COMPLETE, loss=0.1, params=53, flops=1000, seconds=4.25),
            "trial 5: loss 0.1 (10.0 dB), 53 parameters, 1k FLOPs, 4.2 s",
        ),
        (
            finished(TrialState.PRUNED, skipped="duplicate", duplicate_of=2),
            "trial 5: skipped: duplicate of trial 2",
        ),
        (
            finished(TrialState.FAIL, failed="nan after 3 iterations", baseline="reference"),
            "trial 5 (reference): failed: nan after 3 iterations",
        ),
        (finished(TrialState.FAIL), "trial 5: failed: its worker was lost"),
    ],
)
def test_a_trial_in_one_line(trial: FrozenTrial, text: str) -> None:
    assert describe(trial) == text


def test_plain_lines_tell_of_the_front_only_when_it_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainView()
    done = (finished(TrialState.FAIL, failed="x"),)
    for changes in ({}, {"finished": done}, {"finished": done}):
        view.update(snapshot(**changes))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["trial 5", "front", "trial 5"]
    assert lines[1] == (
        "front: 2 models, lowest loss 0.001 (30.0 dB) with 200 parameters, 1 beat the reference; "
        "20 of 60 trials, 8:00 left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (65.4, "1:05"), (600, "10:00"), (3723, "1:02:03"), (100_000, "27:46:40")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_plain_lines_tell_of_progress_when_nothing_else_happens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.5)
    with PlainView() as view:
        view.update(snapshot())
        with view.doing("waiting for the storage"):
            text, deadline = "", time.monotonic() + 30
            while "waiting for" not in text and time.monotonic() < deadline:
                time.sleep(0.05)
                text += capsys.readouterr().out
    lines = (text + capsys.readouterr().out).splitlines()
    said = "20 of 60 trials, 8:00 left; worker 0: trial 24: step 300"
    assert set(lines) <= {said, f"{said}; waiting for the storage"}
    assert lines[-1].endswith("waiting for the storage")


@pytest.mark.parametrize(
    ("terminal", "variables", "plain"),
    [
        (True, {"TERM": "xterm"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "CI": "false"}, False),
        (True, {"TERM": "xterm", "CI": "true"}, True),
        (True, {"TERM": "dumb"}, True),
        (True, {}, True),
        (False, {"TERM": "xterm"}, True),
    ],
)
def test_who_gets_plain_lines(
    terminal: bool, variables: dict[str, str], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert isinstance(live.make_view("x"), PlainView) == plain


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_watcher_takes_in_what_finished_since_its_last_look() -> None:
    study = optuna.create_study(study_name="edges", directions=["minimize"] * 2)
    study.set_metric_names(["loss", "params"])
    study.set_user_attr(CONSTANT_LOSS, 0.1)

    def add(loss: float, params: int) -> None:
        facts = {"loss": loss, "params": params, "flops": params, "config": {}}
        study.add_trial(optuna.trial.create_trial(values=[loss, params], user_attrs=facts))

    add(0.01, 1000)
    watcher = Watcher(study, 10)
    first = watcher.look(0, None)
    assert (first.finished, first.trained, first.trained_before) == ([], 1, 1)
    assert first.volumes == [0]  # the only one is its own worst point
    add(0.01, 100)
    assert watcher.look(0, None, again=False).trained == 1
    second = watcher.look(0, None)
    assert [trial.number for trial in second.finished] == [1]
    assert [one.trial for one in second.front] == [1]
    assert second.volumes == pytest.approx([0, 1])  # a factor of ten in each
    add(0.1, 10_000)
    third = watcher.look(0, None)
    assert third.counts["complete"] == 3
    assert third.volumes == pytest.approx([1, 2, 2])  # larger than all before: a new scale
    add(0.001, 1000)
    assert watcher.look(0, None).volumes == pytest.approx([1, 2, 2, 3])
    assert watcher.look(0, None).finished == []
