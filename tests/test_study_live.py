"""What a person sees: the live display and the plain lines."""

import io
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from clapp.front import Candidate
from clapp.study.live import PlainView, Snapshot, clock, describe, render


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


def test_the_display_shows_progress_counts_front_and_workers() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(render(snapshot(), rows=20))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "20 of 60 trials, 8:00 left",
        "18 complete, 2 pruned, 3 skipped, 1 failed, 2 running, 5.0 trials a minute",
        "1 beat the reference",
        "0.001000",
        "worker 0: trial 24: step 300",
    ):
        assert part in text


def test_a_long_front_is_cut_to_the_screen() -> None:
    console = Console(file=io.StringIO(), width=120)
    front = [candidate(n, 1 / (n + 1), n + 1) for n in range(30)]
    console.print(render(snapshot(front=front), rows=8))
    assert "... and 22 larger models" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("trial", "text"),
    [
        (
            finished(TrialState.COMPLETE, loss=0.1, params=53, flops=1000, seconds=4.25),
            "trial 5: loss 0.1, params 53, flops 1000, 4.2 s",
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
        "front: 2 models, lowest loss 0.001000 with 200 parameters, 1 beat the reference; "
        "20 of 60 trials, 8:00 left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (600, "10:00"), (3723, "1:02:03")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
