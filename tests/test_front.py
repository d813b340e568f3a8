import csv
import json

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from clapp.errors import UserError
from clapp.front.outcomes import (
    Candidate,
    beats,
    candidates,
    counts,
    front,
    front_of,
    reference_of,
)
from clapp.front.tables import front_document, print_front, write_front

# set_metric_names is experimental in Optuna.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

OBJECTIVES = ["loss", "params", "flops"]


def complete(loss: float, params: int, flops: int, **attributes: object) -> FrozenTrial:
    known = {"config": {}, "loss": loss, "params": params, "flops": flops}
    return create_trial(values=[loss, params, flops], user_attrs={**known, **attributes})


def new_study(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(study_name="edges", directions=["minimize"] * 3)
    study.set_metric_names(OBJECTIVES)
    study.set_user_attr("definition", {"limits": {"params": 2505, "loss": 0.01, "latency": 5}})
    study.add_trials(trials)
    return study


@pytest.fixture
def study() -> optuna.Study:
    return new_study(
        complete(0.004, 2505, 230_000, baseline="reference"),
        complete(0.002, 300, 30_000, config={"model.capacity": 4}),
        complete(0.001, 900, 90_000, config={"model.stem": None, "train.learning_rate": 0.01}),
        complete(0.002, 300, 30_000, config={"model.capacity": 5}),  # the same values again
        complete(0.003, 300, 30_000),  # dominated by one objective
        complete(0.009, 20, 5_000),
        complete(0.0001, 2506, 1_000),
        create_trial(state=TrialState.PRUNED),
        create_trial(state=TrialState.PRUNED, user_attrs={"skipped": "duplicate"}),
        create_trial(state=TrialState.PRUNED, user_attrs={"skipped": "limit: params"}),
        create_trial(state=TrialState.FAIL, user_attrs={"failed": "nan after 3 iterations"}),
        create_trial(state=TrialState.FAIL, user_attrs={"failed": "interrupted: by the user"}),
        create_trial(state=TrialState.WAITING),
        create_trial(state=TrialState.RUNNING),
    )


def test_front_keeps_the_earliest_of_equal_points_sorted_by_params(study):
    assert [c.trial for c in front_of(study)] == [5, 1, 2]


def test_infeasible_and_unfinished_trials_are_no_candidates(study):
    assert [c.trial for c in candidates(study)] == [0, 1, 2, 3, 4, 5]


def test_a_limit_that_was_lowered_or_raised_later_holds_for_the_trials_before(study):
    study.set_user_attr("definition", {"limits": {"params": 300, "loss": None}})
    assert [c.trial for c in candidates(study)] == [1, 3, 4, 5]
    assert [c.trial for c in front_of(study)] == [5, 1]
    study.set_user_attr("definition", {"limits": {}})
    assert [c.trial for c in front_of(study)] == [5, 1, 2, 6]


def test_an_older_version_stored_only_by_how_much_a_latency_was_too_high():
    slow = complete(0.001, 10, 1_000)
    slow.system_attrs["constraints:latency"] = 0.5
    fast = complete(0.002, 10, 1_000)
    fast.system_attrs["constraints:latency"] = -0.5
    assert [c.trial for c in candidates(new_study(slow, fast))] == [1]


def test_front_equals_pairwise_dominance():
    import random

    draw = random.Random(7)
    for names in (["loss"], ["loss", "params"], [*OBJECTIVES], [*OBJECTIVES, "latency"]):
        found = [
            Candidate(i, {n: float(draw.randint(0, 6)) for n in names}, i % 3, 1, 0.0, {})
            for i in range(60)
        ]
        points = [tuple(c.values.values()) for c in found]
        expected = {
            i
            for i, p in enumerate(points)
            if p not in points[:i]
            and not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)
        }
        assert {c.trial for c in front(found, names)} == expected


def test_counts_tell_skipped_from_pruned(study):
    assert counts(study) == {
        "complete": 7,
        "pruned": 1,
        "skipped": 2,
        "failed": 1,
        "running": 1,
    }


def test_document(study):
    document = front_document(study)
    assert list(document) == ["study", "counts", "front"]
    assert document["study"] == "edges"
    assert document["front"][1] == {
        "trial": 1,
        "loss": 0.002,
        "params": 300,
        "flops": 30_000,
        "config": {"model.capacity": 4},
    }


def test_other_objectives_are_in_the_document():
    study = optuna.create_study(directions=["minimize"] * 2)
    study.set_metric_names(["loss", "latency"])
    attributes = {"config": {}, "loss": 0.1, "params": 7, "flops": 8}
    study.add_trial(create_trial(values=[0.1, 1.5], user_attrs=attributes))
    assert front_document(study)["front"] == [
        {"trial": 0, "loss": 0.1, "params": 7, "flops": 8, "latency": 1.5, "config": {}}
    ]


def test_reference(study):
    found = reference_of(study)
    assert found is not None
    assert found.trial == 0
    assert reference_of(new_study(complete(0.1, 1, 1))) is None


def test_written_files(study, tmp_path):
    write_front(tmp_path, study)
    assert json.loads((tmp_path / "front.json").read_text()) == front_document(study)
    with (tmp_path / "front.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["5", "1", "2"]
    assert rows[1]["model.capacity"] == "4"
    assert rows[2]["model.stem"] == "null"
    assert rows[2]["model.capacity"] == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["front.csv", "front.json"]


def test_empty_study(tmp_path, capsys):
    study = new_study()
    write_front(tmp_path, study)
    assert (tmp_path / "front.csv").read_text() == "loss,params,flops\n"
    print_front(study)
    assert "no front" in capsys.readouterr().out


def test_printed_front(study, capsys):
    print_front(study)
    out = capsys.readouterr().out
    assert "7 complete, 1 pruned, 2 skipped, 1 failed, 1 running" in out
    assert out.count("beats the reference") == 2  # the smallest one has more loss
    assert "reference (trial 0): loss 0.004 (24.0 dB), 2,505 parameters, 230k FLOPs" in out


def test_beats_needs_one_strict_improvement():
    one = Candidate(0, {}, 10, 10, 0.1, {})
    assert not beats(one, one)
    assert beats(Candidate(1, {}, 9, 10, 0.1, {}), one)
    assert not beats(Candidate(1, {}, 9, 11, 0.1, {}), one)


def test_a_study_of_somebody_else():
    with pytest.raises(UserError, match="not made by CLAPP"):
        candidates(optuna.create_study())
