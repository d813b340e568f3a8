"""`baselines: {from: ...}`: a study that begins with the front of another one."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from clapp.config import Config, load_config
from clapp.errors import ConfigError, UserError
from clapp.front.outcomes import front_of
from clapp.front.record import RECORD, attributes, record_of
from clapp.models.build import build_model
from clapp.study.plan.definition import LOCKS
from clapp.study.plan.existing import load_existing
from clapp.study.plan.files import load_study
from clapp.study.plan.plan import make_plan
from clapp.study.preparing.prepare import create_study
from clapp.study.preparing.transfer import transfers
from clapp.study.sampling.evolution import Evolution
from clapp.study.storage.heritage import ancestor_of, inherited_weights, packed
from clapp.study.storage.retries import enqueue_again, fail
from clapp.study.storage.storage import default_url, open_storage

pytestmark = pytest.mark.filterwarnings("ignore:.*set_metric_names is experimental")
SPACE = {
    "model.capacity": {"type": "int", "low": 1, "high": 6},
    "model.padding": {"type": "categorical", "choices": ["zero", "reflect"]},
    "model.activation": {"type": "categorical", "choices": ["relu", "gelu"], "per_layer": True},
    "train.learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
}
FIXED = {"model.num_layers": 1, "model.norm": "none", "model.rezero": False, "model.reskip": False}


def net(**changes: Any) -> dict[str, Any]:
    """Dotted keys of a network that the space has."""
    keys = {f"model.{key}": value for key, value in changes.items()}
    return {**FIXED, "model.padding": "reflect", "model.activation": ["relu"], **keys}


def weights_of(config: dict[str, Any]) -> str:
    torch.manual_seed(1)
    found = packed(
        build_model(load_config(None, [f"{k}={json.dumps(v)}" for k, v in config.items()]).model)
    )
    assert found is not None
    return found


def search(
    folder: Path, *trials: tuple[dict[str, Any], float], name: str = "edges", **facts: Any
) -> Path:
    """A searched study with these configurations and losses, of ever more parameters."""
    place = folder / "results" / name
    place.mkdir(parents=True)
    study = optuna.create_study(
        study_name=name, storage=open_storage(default_url(place)), directions=["minimize"] * 3
    )
    study.set_metric_names(["loss", "params", "flops"])
    for number, (config, loss) in enumerate(trials):
        size = 10 * (number + 1)
        record = attributes(
            config=config, loss=loss, params=size, flops=size, weights=weights_of(config), **facts
        )
        study.add_trial(optuna.create_trial(values=[loss, size, size], user_attrs=record))
    return place


def written(folder: Path, origin: Any, **more: Any) -> str:
    config = {**FIXED, "train_data.target_filter": "scharr"}
    document = {"search_space": SPACE, "config": config, "baselines": {"from": origin}, **more}
    path = folder / "corners.yaml"
    path.write_text(json.dumps(document))
    return str(path)


def begin(folder: Path, file: str) -> optuna.Study:
    place = folder / "results" / Path(file).stem
    place.mkdir(parents=True, exist_ok=True)
    plan = make_plan(file)
    return create_study(
        plan, open_storage(default_url(place)), place / LOCKS, results=folder / "results"
    )


def test_a_study_begins_with_the_front_of_another(tmp_path: Path, monkeypatch: Any) -> None:
    beaten = (net(capacity=2), 0.5)
    place = search(tmp_path, (net(capacity=1), 0.1), beaten, (net(capacity=3), 0.01))
    file = written(tmp_path, str(place))
    study = begin(tmp_path, file)
    waiting = study.get_trials(deepcopy=False)
    assert [trial.state for trial in waiting] == [TrialState.WAITING] * 2
    given = [trial.system_attrs["fixed_params"] for trial in waiting]
    assert [one["model.capacity"] for one in given] == [1, 3]
    assert {one["model.padding"] for one in given} == {"reflect"}
    assert {one["model.activation[0]"] for one in given} == {"relu"}
    first = record_of(waiting[0])
    assert first.ancestor is not None
    assert (first.ancestor["study"], first.ancestor["trial"]) == ("edges", 0)
    # Again, also when the other study is gone: it does not need it any more.
    monkeypatch.setattr("clapp.study.preparing.prepare.transfers", lambda *_: 1 / 0)
    assert len(begin(tmp_path, file).get_trials(deepcopy=False)) == 2
    for origin in ("edges", f"{default_url(place)}/edges"):
        assert len(transfers(make_plan(written(tmp_path, origin)), tmp_path / "results")) == 2


def test_trials_start_from_the_weights_of_the_other_study(tmp_path: Path) -> None:
    place = search(tmp_path, (net(capacity=2), 0.1))
    study = begin(tmp_path, written(tmp_path, str(place)))
    trials = study.get_trials(deepcopy=False)
    there = load_existing("edges", tmp_path / "results").get_trials()[0]
    config = load_config(None, [f"{k}={json.dumps(v)}" for k, v in net(capacity=2).items()])
    found = inherited_weights(config, ancestor_of(record_of(trials[0]), trials))
    assert found is not None
    taken = np.concatenate([value.flatten().numpy() for value in found.values()])
    stored = np.frombuffer(base64.b64decode(record_of(there).weights or ""), "<f4")
    np.testing.assert_array_equal(taken, stored)
    wider: Config = load_config(config.model_dump(), ["model.capacity=3"])
    grown = inherited_weights(wider, ancestor_of(record_of(trials[0]), trials))
    assert grown is not None
    build_model(wider.model).load_state_dict(dict(grown))


def test_who_does_not_inherit_gets_no_weights(tmp_path: Path) -> None:
    place = search(tmp_path, (net(capacity=2), 0.1))
    for more in ({"sampler": "tpe"}, {"config": {**FIXED, "train_data.target_filter": "sepia"}}):
        plan = make_plan(written(tmp_path, str(place), **more))
        (found,) = transfers(plan, tmp_path)
        assert found.ancestor["weights"] is None
        record = record_of(
            optuna.create_trial(value=0.0, user_attrs=attributes(ancestor=found.ancestor))
        )
        assert ancestor_of(record, []) is None


def test_a_killed_one_is_tried_again_from_the_same_weights(tmp_path: Path) -> None:
    study = begin(tmp_path, written(tmp_path, str(search(tmp_path, (net(capacity=2), 0.1)))))
    trial = study.ask()
    fail(study, study.get_trials()[trial.number], "interrupted: killed")
    assert enqueue_again(study, 2) == 1
    again = study.get_trials()[-1]
    assert record_of(again).ancestor == record_of(study.get_trials()[0]).ancestor
    assert again.user_attrs[RECORD]["retry_of"] == 0


def test_children_are_made_at_once(tmp_path: Path) -> None:
    file = written(
        tmp_path, str(search(tmp_path, (net(capacity=2), 0.01), (net(capacity=3), 0.001)))
    )
    study = begin(tmp_path, file)
    for number, loss in enumerate((0.01, 0.001)):
        trial = study.ask()
        config = net(capacity=2 + number)
        ancestor = record_of(study.get_trials()[trial.number]).ancestor
        for name in study.get_trials()[trial.number].system_attrs["fixed_params"]:
            kind = SPACE[name.partition("[")[0]]
            if "choices" in kind:
                trial.suggest_categorical(name, kind["choices"])
            elif kind["type"] == "int":
                trial.suggest_int(name, kind["low"], kind["high"])
            else:
                trial.suggest_float(name, kind["low"], kind["high"], log=True)
        facts = {"loss": loss, "params": 10 + number, "flops": 10, "config": config}
        record = attributes(ancestor=ancestor, weights=weights_of(config), **facts)[RECORD]
        trial.set_user_attr(RECORD, record)
        study.tell(trial, [loss, 10 + number, 10])
    sampler = Evolution(make_plan(file), 3)
    proposals = [sampler.propose(study.get_trials()) for _ in range(10)]
    assert any(one.parent is not None for one in proposals)


@pytest.mark.parametrize(
    ("trials", "word"),
    [
        (
            [(net(capacity=9), 0.1)],
            r"trial 0 of edges: model\.capacity 9 is outside of this study's "
            r"search space, which has 1 to 6",
        ),
        (
            [(net(capacity=2, padding="replicate"), 0.1)],
            r"model\.padding 'replicate' is outside .*'zero', 'reflect'",
        ),
        ([(net(capacity=2, activation=["abs"]), 0.1)], r"model\.activation\[0\] 'abs' is outside"),
        ([(net(capacity=2) | {"train.learning_rate": 0.9}, 0.1)], r"train\.learning_rate 0\.9 is"),
        (
            [(net(capacity=2, bias=False), 0.1)],
            r"model\.bias false is not what this study has, true",
        ),
        ([], "has no finished trial, so it has no front"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, trials: Any, word: str) -> None:
    plan = make_plan(written(tmp_path, str(search(tmp_path, *trials))))
    with pytest.raises(UserError, match=word) as raised:
        transfers(plan, tmp_path)
    assert str(raised.value).startswith("study corners: baselines.from: ")
    assert "\n" not in str(raised.value)


def test_a_baseline_there_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    place = search(tmp_path, (net(capacity=9), 0.1), baseline="reference")
    plan = make_plan(written(tmp_path, str(place)))
    with pytest.raises(UserError, match=r"no member of the front of .* fits"):
        transfers(plan, tmp_path)


@pytest.mark.parametrize(
    ("origin", "word"),
    [
        ("nowhere/at/all", "does not exist; a study's results folder is expected"),
        (".", "is a folder without a study"),
        ("nothing", "no study named 'nothing' in"),
        ("sqlite:////nowhere/study.db/edges", "no study named 'edges'"),
    ],
)
def test_what_is_no_study_is_named(
    tmp_path: Path, monkeypatch: Any, origin: str, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(written(tmp_path, origin))
    with pytest.raises(UserError, match=word) as raised:
        transfers(plan, tmp_path)
    assert str(raised.value).startswith("study corners: baselines.from: ")


@pytest.mark.parametrize("origin", [3, "", {"model.capacity": 2}, None])
def test_what_names_no_study(tmp_path: Path, origin: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"baselines: from: .* is not allowed; allowed: the results"
    ):
        load_study(written(tmp_path, origin))


def test_it_is_part_of_what_a_study_is(tmp_path: Path) -> None:
    place = search(tmp_path, (net(capacity=1), 0.1), (net(capacity=3), 0.01))
    begin(tmp_path, written(tmp_path, str(place)))
    search(tmp_path, (net(capacity=1), 0.1), name="others")
    with pytest.raises(UserError, match=r"baselines\.from is not what the study was started with"):
        begin(tmp_path, written(tmp_path, "others"))
    assert len(front_of(load_existing("edges", tmp_path / "results"))) == 2
