"""What is kept of ended trials says the same as looking at all of them again."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from clapp.front.record import INTERRUPTED, RECORD, TrialRecord, attributes, record_of
from clapp.front.trials import SURPLUS, is_enqueued, is_trained, lost
from clapp.study.pruning.decide import Records
from clapp.study.pruning.history import History

NAMES, LIMITS, RETRIES = ["loss", "params"], {"params": 40.0}, 1
ENDS = (
    (TrialState.COMPLETE, {"loss": 0.5}),
    (TrialState.PRUNED, {"curve": [[100, 0.1, 0.7]]}),
    (TrialState.PRUNED, {"skipped": "duplicate"}),
    (TrialState.PRUNED, {"skipped": SURPLUS}),
    (TrialState.FAIL, {"failed": f"{INTERRUPTED}: stopped by the user"}),
    (TrialState.FAIL, {"failed": f"{INTERRUPTED}: its worker was killed (attempt 1 of 2)"}),
    (TrialState.FAIL, {"failed": "nan after 50 iterations"}),
    (TrialState.FAIL, {}),
)


def changed(trial: FrozenTrial, state: TrialState, **facts: Any) -> FrozenTrial:
    """As storages do it: another object with the same number."""
    other = copy(trial)
    other.state, other.values = state, None
    if state == TrialState.COMPLETE:
        other.values = [facts["loss"], float(record_of(trial).params or 0)]
    other.user_attrs = {RECORD: replace(record_of(trial), **facts).document()}
    return other


def begun(number: int, trials: Sequence[FrozenTrial], random: np.random.Generator) -> FrozenTrial:
    """A new trial: drawn, a baseline that waits, or a lost one that is tried again."""
    facts: dict[str, Any] = {"key": f"k{random.integers(12)}", "params": int(random.integers(60))}
    again = lost(trials, RETRIES)
    kind = random.choice(["drawn", "drawn", "baseline", "retry"])
    enqueued: dict[str, Any] = {"fixed_params": {"model.capacity": 2}}
    if kind == "baseline":
        facts["baseline"] = f"b{random.integers(4)}"
    elif kind == "retry" and again:
        facts |= {"retry_of": again[0].number, "attempt": 2}
    else:
        enqueued = {}
    state = TrialState.WAITING if enqueued and random.random() < 0.5 else TrialState.RUNNING
    made = create_trial(state=state, user_attrs=attributes(**facts), system_attrs=enqueued)
    made.number = number
    return made


def surplus(number: int, trials: Sequence[FrozenTrial], budget: int) -> bool:
    drawn = not is_enqueued(trials[number])
    before = [t for t in trials if t.number < number]
    after = [t for t in trials if t.number >= number and drawn and is_enqueued(t)]
    ahead = [t for t in before + after if is_trained(t) or not t.state.is_finished()]
    return len(ahead) + (len(lost(trials, RETRIES)) if drawn else 0) >= budget


def duplicates(number: int, record: TrialRecord, trials: Sequence[FrozenTrial]) -> list[int]:
    """Every trial that has what `record` has, and comes before it or is trained."""
    found = []
    for other in trials:
        known = record_of(other)
        purpose = [(r.retry_of, r.baseline) for r in (known, record)]
        same_purpose = purpose[0] == purpose[1] != (None, None) and other.number < number
        ahead = is_trained(other) or (other.state == TrialState.RUNNING and other.number < number)
        if other.number != number and (same_purpose or (known.key == record.key and ahead)):
            found.append(other.number)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_a_history_read_again_and_again_says_what_all_trials_say(seed: int) -> None:
    random = np.random.default_rng(seed)
    trials: list[FrozenTrial] = []
    history, records = History(), Records(NAMES, LIMITS)
    found, copies, full = 0, 0, 0
    for _ in range(150):
        unfinished = [t.number for t in trials if not t.state.is_finished()]
        if len(unfinished) < 4 or random.random() < 0.3:
            trials = [*trials, begun(len(trials), trials, random)]
        else:
            number = int(random.choice(unfinished))
            state, facts = ENDS[random.integers(len(ENDS))]
            if trials[number].state == TrialState.WAITING:
                state, facts = TrialState.RUNNING, {}
            trials = [*trials]
            trials[number] = changed(trials[number], state, **facts)
        history.read(trials)
        assert history.trained() == sum(map(is_trained, trials))
        again = [trial.number for trial in lost(trials, RETRIES)]
        assert sorted(trial.number for trial in history.lost(RETRIES)) == again
        found += len(again)
        for trial in history.open:
            if trial.state != TrialState.RUNNING:
                continue
            record = record_of(trial)
            for budget in (1, 10, 20, 30):
                over = history.is_surplus(trial.number, budget, RETRIES)
                assert over == surplus(trial.number, trials, budget)
                full += over
            others = duplicates(trial.number, record, trials)
            assert history.duplicate(trial.number, record) == min(others, default=None)
            copies += bool(others)
            beside = records.beside(trial.number, history, 0.9)
            assert beside == Records(NAMES, LIMITS).beside(trial.number, History(trials), 0.9)
    assert history.ended > 50
    assert found
    assert copies
    assert full
