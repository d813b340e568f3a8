"""What the default sampler proposes, on losses made up from the architecture."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from clapp.config import Config, differences, identity
from clapp.front.record import RECORD, TrialRecord, record_of
from clapp.models.costs import cost
from clapp.models.neighbours import neighbours
from clapp.study.plan.plan import Plan, make_plan
from clapp.study.sampling.credit import kind
from clapp.study.sampling.evolution import ANYWHERE, WAYS, Candidate, Evolution
from clapp.study.sampling.listed import BORDER
from clapp.study.sampling.mutation import MUTATIONS
from clapp.study.sampling.parents import Parents
from clapp.study.storage.heritage import configuration

KERNEL = kind("block 0: 5x5")


def made_up_loss(config: Config) -> float:
    """Large networks with large kernels and mirrored borders are best."""
    high, wide = (sum(block.kernel[side] for block in config.model.blocks) for side in (0, 1))
    border = 1.0 if config.model.padding == "reflect" else 3.0
    return border / (high * wide * cost(config.model).params)


def finished(number: int, one: Candidate, loss: float) -> FrozenTrial:
    """The trial that a proposal becomes."""
    params, flops = cost(one.config.model)
    record = TrialRecord(
        config=differences(one.config),
        key=identity(one.config),
        params=params,
        flops=flops,
        loss=loss,
        parent=one.parent,
        move=one.move,
    )
    trial = create_trial(
        state=TrialState.COMPLETE,
        params=one.drawn,
        distributions=one.distributions,
        values=[loss, params, flops],
        user_attrs={RECORD: record.document()},
    )
    trial.number = trial._trial_id = number
    return trial


def search(count: int, seed: int = 0) -> tuple[Plan, list[FrozenTrial], list[Candidate]]:
    """Finished trials of the study sobel3, and what was proposed for them."""
    plan = make_plan("sobel3")
    sampler = Evolution(plan, seed)
    trials: list[FrozenTrial] = []
    proposals: list[Candidate] = []
    for number in range(count):
        proposals.append(sampler.propose(trials))
        trials.append(finished(number, proposals[-1], made_up_loss(proposals[-1].config)))
    return plan, trials, proposals


@pytest.fixture(scope="module")
def searched() -> tuple[Plan, list[FrozenTrial], list[Candidate]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return search(160)


def test_all_are_new_and_within_the_limits(searched: Any) -> None:
    plan, trials, _ = searched
    keys = [record_of(trial).key for trial in trials]
    assert len(set(keys)) == len(keys)
    assert max(record_of(trial).params or 0 for trial in trials) <= plan.limits["params"]


def test_a_listed_change_is_what_its_name_says(searched: Any) -> None:
    _, trials, proposals = searched
    listed = [one for one in proposals if one.move and one.move not in MUTATIONS]
    assert len(listed) > 30
    larger = smaller = borders = 0
    for one in listed:
        before = configuration(record_of(trials[one.parent]))
        if one.move.startswith("border: "):
            change: dict[str, Any] = {"padding": one.drawn[BORDER]}
            borders += 1
        else:
            change = {near.words: near.change for near in neighbours(before.model)}[one.move]
        wanted = before.model.model_dump() | change
        assert one.config.model.canonical() == type(before.model)(**wanted).canonical(), one.move
        params = cost(before.model).params
        larger += one.params > params
        smaller += one.params < params
    assert min(larger, smaller, borders) > 0


def children(trials: list[FrozenTrial], parent: int) -> int:
    """How many of 60 proposals are children of one trial."""
    sampler = Evolution(replace(make_plan("sobel3"), constant_loss=0.02), 5)
    return sum(sampler.propose(trials).parent == parent for _ in range(60))


def two_forms(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates of one form and of another, smallest first."""
    monkeypatch.setattr("clapp.study.sampling.evolution.STARTUP", 0)
    monkeypatch.setattr("clapp.study.sampling.parents.FORM", ("model.bias",))
    drawn = sorted(search(20)[2], key=lambda one: one.params)
    best = [one for one in drawn if one.drawn["model.bias"]]
    return best, [one for one in drawn if not one.drawn["model.bias"]]


def test_a_network_of_another_form_has_children_though_it_is_beaten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best, others = two_forms(monkeypatch)
    other = others[-1]
    trials = [finished(number, one, loss=0.001) for number, one in enumerate(best)]
    trials.append(finished(len(trials), other, loss=0.005))
    assert other.params > best[0].params
    assert children(trials, len(best)) >= 2
    monkeypatch.setattr("clapp.study.sampling.evolution.OTHER_FORM", 0)
    assert children(trials, len(best)) == 0


def test_a_network_on_the_front_shrinks_and_one_off_it_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best, drawn = two_forms(monkeypatch)
    others = [one for one in drawn if one.params > best[0].params]
    trials = [finished(number, one, loss=0.001) for number, one in enumerate(best)]
    trials += [finished(len(best) + n, one, 0.005 + n / 1000) for n, one in enumerate(others)]

    def larger(share: float) -> float:
        """The share of larger networks among the children by a listed change."""
        monkeypatch.setattr("clapp.study.sampling.evolution.OTHER_FORM", share)
        sampler = Evolution(replace(make_plan("sobel3"), constant_loss=0.02), 5)
        found = [sampler.propose(trials) for _ in range(80)]
        listed = [one for one in found if one.move is not None and one.move not in MUTATIONS]
        parents = {one.parent for one in listed}
        assert parents == {len(best)} if share else max(parents) < len(best)
        sizes = [(one.params, record_of(trials[one.parent or 0]).params or 0) for one in listed]
        return sum(now > before for now, before in sizes) / len(sizes)

    assert larger(0) < 0.4
    assert larger(1) > 0.6


def test_a_form_with_many_children_gives_way_to_others() -> None:
    parents = Parents(replace(make_plan("sobel3"), constant_loss=0.02))
    proposals = search(1)[2]
    trials = []
    for number, end in enumerate(("none", "relu", "clip")):
        one = proposals[0]._replace(drawn=proposals[0].drawn | {"model.output_activation": end})
        trials.append(finished(number, one, 0.001 * (number + 1)))
        parents.add(trials[-1], (50.0, 1e6), 0.001 * (number + 1))

    def second() -> int:
        random = np.random.default_rng(0)
        drawn = [parents.of_another_form(random) for _ in range(300)]
        assert {one.trial.number for one in drawn if one} == {1, 2}  # not that of the lowest loss
        return sum(one is not None and one.trial.number == 1 for one in drawn)

    before = second()
    assert before > 150
    for _ in range(100):
        parents.add_child(1, 0.0)
    assert second() < before / 3


def test_one_good_large_network_is_not_the_only_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a hand-made baseline is, before any small network is better than predicting the mean."""
    drawn = sorted(search(24)[2], key=lambda one: cost(one.config.model).flops)
    losses = [0.0199 - 0.0002 * number for number in range(len(drawn) - 1)]
    trials = [finished(number, drawn[number], loss) for number, loss in enumerate(losses)]
    large = replace(record_of(finished(0, drawn[-1], 0.002)), params=2505, flops=230_000_000)
    trials.append(finished(len(trials), drawn[-1], 0.002))
    trials[-1].user_attrs[RECORD] = large.document()
    assert 1 <= children(trials, len(losses)) <= 15
    monkeypatch.setattr("clapp.study.sampling.parents.FEWEST", 1)
    assert children(trials, len(losses)) >= 40


def test_a_parent_is_left_alone_when_its_children_bring_nothing() -> None:
    drawn = sorted(search(60)[2], key=lambda one: one.params)
    first, best, others = drawn[0], drawn[5], drawn[6:]
    trials = [finished(0, first, 0.01), finished(1, best, 0.0001)]
    counts = []
    for parent in (None, 1):
        failures = [one._replace(parent=parent, move="drawn") for one in others]
        losses = [finished(2 + number, one, 0.019) for number, one in enumerate(failures)]
        counts.append(children(trials + losses, 1))
    assert counts[0] > 15
    assert counts[1] < counts[0] / 2


def test_ways_and_changes_that_bring_nothing_are_tried_less() -> None:
    """Fifty children by one change improve the front; those by another and random networks never
    do."""
    drawn = sorted(search(170)[2], key=lambda one: one.params)

    def proposed(good: str, bad: str) -> tuple[int, int]:
        """How many of 100 proposals are random, and how many are a kernel of another size."""
        trials = [finished(0, drawn[0], 0.01)]
        for parent, one in enumerate(drawn[1:51]):
            child = one._replace(parent=parent, move=good)
            trials.append(finished(parent + 1, child, 0.01 * 0.9 ** (parent + 1)))
        for number, one in enumerate(drawn[51:], start=51):
            parent, move = (50, bad) if number < 100 else (None, None)
            trials.append(finished(number, one._replace(parent=parent, move=move), 0.0199))
        sampler = Evolution(replace(make_plan("sobel3"), constant_loss=0.02), 5)
        moves = [sampler.propose(trials).move for _ in range(100)]
        return moves.count(None), sum(move is not None and kind(move) == KERNEL for move in moves)

    random, kernels = proposed("block 0: 5x5", "block 0: depthwise")
    assert random < 100 * WAYS[ANYWHERE] / 2
    assert kernels > 2 * proposed("block 0: depthwise", "block 0: 5x5")[1]


def test_nothing_is_proposed_that_a_smaller_exact_network_beats() -> None:
    plan = make_plan("sobel3")
    sampler, trials = Evolution(plan, 1), []
    exact = None
    for number in range(80):
        one = sampler.propose(trials)
        params, flops = cost(one.config.model)
        if exact is not None:
            assert params < exact[0] or flops < exact[1]
        loss = made_up_loss(one.config)
        if number == 40:
            exact, loss = (params, flops), 1e-7
        trials.append(finished(number, one, loss))
    assert exact is not None


def test_what_a_trial_adds_to_the_front() -> None:
    plan = make_plan("sobel3")
    parents = Parents(plan)
    trial = finished(0, search(1)[2][0], 0.01)
    gains = [
        parents.add(trial, (10.0, 1e6), 0.01),
        parents.add(trial, (20.0, 1e6), 0.01),  # dominated
        parents.add(trial, (10.0, 1e6), 0.01),  # the same again
        parents.add(trial, (10.0, 1e5), 0.001),  # ten times better in two objectives
    ]
    # Up to half an order of magnitude beyond the worst values: a unit of volume is a factor of ten.
    half = math.log10(2)
    assert gains == pytest.approx([half**3, 0, 0, half * (1 + half) ** 2 - half**3])


def test_the_same_seed_proposes_the_same(searched: Any) -> None:
    again = search(40)[2]
    assert [one.drawn for one in again] == [one.drawn for one in searched[2][:40]]
    assert [one.drawn for one in search(10, seed=1)[2]] != [one.drawn for one in again[:10]]
