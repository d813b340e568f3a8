"""What a picking rule chooses, and what is nearest where nothing satisfies it."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from clapp.errors import UserError
from clapp.front.outcomes import Candidate, front, settled
from clapp.front.pick.rules import KNEE, LOSSES, PSNR, Bound, Rule, parse
from clapp.training.losses import positive


class Finished(NamedTuple):
    """What a rule chooses from: the front, and every candidate of the study."""

    front: Sequence[Candidate]
    candidates: Sequence[Candidate]

    @classmethod
    def of(cls, found: Iterable[Candidate], names: Sequence[str]) -> "Finished":
        """The candidates by the losses that count, see `clapp.front.outcomes.settled`.

        Args:
            names: the objectives of the study.
        """
        candidates = [settled(candidate) for candidate in found]
        return cls(front(candidates, names), candidates)


def pick(text: str, found: Finished) -> Candidate:
    """The candidate that the rule `text` chooses.

    Raises:
        UserError: no such rule, no finished trial, or nothing satisfies the rule; the message lists
            the rules, or what is nearest for each bound, given the others.
    """
    rule = parse(text)
    if not found.front:
        raise UserError(
            "the study has no finished trial yet, so there is nothing to pick; "
            "`clapp-optimize --study NAME` goes on with it"
        )
    if rule.trial is not None:
        return _trial(rule.trial, found)
    for name in (*(bound.name for bound in rule.bounds), *([rule.goal] * (rule.goal != KNEE))):
        _check_known(name, rule, found.front[0])
    allowed = _within(rule.bounds, found.candidates)
    if not allowed:
        raise _nothing(rule, found.candidates)
    return best(rule, allowed, {candidate.trial for candidate in found.front})


def best(rule: Rule, allowed: Sequence[Candidate], on_front: set[int]) -> Candidate:
    """The one of `allowed` that the goal of a rule asks for; of equal ones, one of the front."""
    if rule.goal == KNEE:
        inside = [candidate for candidate in allowed if candidate.trial in on_front]
        return knee(inside or allowed)
    return min(
        allowed,
        key=lambda c: (value(c, rule.goal), c.trial not in on_front, *_ties(rule.goal)(c), c.trial),
    )


def knee(models: Sequence[Candidate]) -> Candidate:
    """The model that divides the loss of any other by more than it multiplies its cost.

    On log scales the front's slope there is one: any larger model costs more than its loss saves.
    It is the sum of logarithms that decides (the weighted-sum utility of Branke et al. 2004,
    "Finding Knees in Multi-objective Optimization"); params, FLOPs and the like measure one thing,
    so together they weigh as much as the loss. Unlike a distance from the ideal point scaled to the
    front, the choice does not depend on how far the front reaches towards networks too small to be
    of use. A loss of zero counts as `ZERO`, like everywhere: below it all are as good, and the
    smallest is chosen. Of equal products, the lower loss.
    """
    names = models[0].values
    logs = {name: [math.log(positive(c.values[name])) for c in models] for name in names}
    costs = len(logs) - ("loss" in logs)
    product = dict.fromkeys((c.trial for c in models), 0.0)
    for name, column in logs.items():
        weight = 1 if name == "loss" else 1 / costs
        for candidate, logarithm in zip(models, column, strict=True):
            product[candidate.trial] += weight * logarithm
    return min(models, key=lambda c: (round(product[c.trial], 12), *_ties("loss")(c)))


def value(candidate: Candidate, name: str) -> float:
    """What a candidate has of an objective; `psnr` is its loss in dB."""
    if name == PSNR:
        return -10 * math.log10(positive(candidate.loss))
    return candidate.shown()[name]


def _ties(goal: str) -> Callable[[Candidate], tuple[float, ...]]:
    if goal in LOSSES:
        return lambda c: (c.loss, c.params, c.flops)
    return lambda c: (c.params, c.flops, c.loss)


def _within(bounds: Iterable[Bound], candidates: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in candidates if all(bound.allows(value(c, bound.name)) for bound in bounds)]


def _check_known(name: str, rule: Rule, one: Candidate) -> None:
    known = one.shown()
    if name not in known and name != PSNR:
        raise UserError(
            f"--pick {rule.text}: the study does not measure {name}; it measures "
            f"{', '.join(known)} and psnr, the loss in dB; another has to be one of its objectives"
        )
    if name == PSNR and rule.goal == PSNR:
        raise UserError(f"--pick {rule.text}: min psnr is the worst model; write min loss")


def _trial(number: int, found: Finished) -> Candidate:
    for candidate in found.candidates:
        if candidate.trial == number:
            return candidate
    raise UserError(
        f"--pick trial={number}: trial {number} did not finish within the study's limits; "
        f"those that did: {_ranges([c.trial for c in found.candidates])}"
    )


def _nothing(rule: Rule, candidates: Sequence[Candidate]) -> UserError:
    """For each bound, the nearest value that there is within the others."""
    said = []
    for bound in rule.bounds:
        others = [one for one in rule.bounds if one is not bound]
        allowed = _within(others, candidates)
        if not allowed:
            continue
        ordered = sorted(allowed, key=lambda c: (value(c, bound.name), c.trial))
        nearest = ordered[-1] if bound.is_floor else ordered[0]
        given = f"with {' and '.join(one.text for one in others)} " if others else ""
        said.append(f"{given}the nearest is {bound.name} {_usable(bound, nearest)} "
                    f"(trial {nearest.trial})")  # fmt: skip
    if not said:  # no two of them go together with a third
        return UserError(
            f"--pick {rule.text}: no model satisfies it, nor all but one of its bounds; "
            "loosen one after the other"
        )
    return UserError(f"--pick {rule.text}: no model satisfies it; {'; '.join(said)}")


def _usable(bound: Bound, nearest: Candidate) -> str:
    """The value of the nearest model, rounded so that a bound of that number allows it."""
    found = value(nearest, bound.name)
    if found == int(found):
        return str(int(found))
    text = f"{found:.4g}"
    if Bound(bound.name, float(text), "").allows(found):
        return text
    step = 10.0 ** (math.floor(math.log10(abs(found))) - 3)  # one in the fourth digit
    return f"{float(text) + (-step if bound.is_floor else step):.4g}"


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers as a short text: 0-3, 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
