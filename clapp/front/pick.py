"""Picking rules: from a front to the one model to use.

A rule is a function and one `@_rule` line; `--help` and error messages list the registry.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from clapp.errors import UserError
from clapp.training.losses import positive

if TYPE_CHECKING:
    from clapp.front.outcomes import Candidate

_SUFFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_NUMBER = r"(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)\s*([kMG]?)"


class Finished(NamedTuple):
    """The candidates that a rule chooses from: the front, and all candidates of the study."""

    front: Sequence["Candidate"]
    candidates: Sequence["Candidate"]


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    example: str
    meaning: str
    choose: "Choose"


Choose = Callable[[re.Match[str], Finished], "Candidate"]
C = TypeVar("C", bound=Choose)
_rules: list[_Rule] = []


def _rule(pattern: str, example: str, meaning: str) -> Callable[[C], C]:
    def register(choose: C) -> C:
        _rules.append(_Rule(re.compile(pattern), example, meaning, choose))
        return choose

    return register


def pick(text: str, found: Finished) -> "Candidate":
    """The candidate that the rule `text` chooses.

    Raises:
        UserError: no such rule, no finished trial, or no model satisfies the rule; the message
            lists the rules, or the nearest value.
    """
    rule, match = _find(text)
    if not found.front:
        raise UserError(
            "the study has no finished trial yet, so there is nothing to pick; "
            "`clapp-optimize --study NAME` goes on with it"
        )
    return rule.choose(match, found)


def meaning(text: str) -> str:
    """What the rule `text` chooses, in words.

    Raises:
        UserError: no such rule.
    """
    return _find(text)[0].meaning


def rules() -> list[tuple[str, str]]:
    """Every rule, by example, and what it chooses."""
    return [(rule.example, rule.meaning) for rule in _rules]


def describe_rules() -> str:
    """Every rule and what it chooses, for `--help`."""
    return "; ".join(f"{example}: {chosen}" for example, chosen in rules())


def folder_name(text: str) -> str:
    """The rule `text` as the name of a folder: `params<=500` -> `params-le-500`."""
    name = re.sub(r"\s+", "", text).replace("<=", "-le-").replace("=", "-")
    return re.sub(r"[^A-Za-z0-9.+-]", "-", name)


def _find(text: str) -> tuple[_Rule, re.Match[str]]:
    for rule in _rules:
        match = rule.pattern.fullmatch(text.strip())
        if match:
            return rule, match
    known = ", ".join(rule.example for rule in _rules)
    raise UserError(f"--pick {text}: no such rule; known, by example: {known}")


@_rule("min-loss", "min-loss", "the lowest loss")
def _min_loss(_: re.Match[str], found: Finished) -> "Candidate":
    return min(found.front, key=_by_loss)


@_rule("min-loss-int8", "min-loss-int8", "the lowest loss in int8")
def _min_loss_int8(_: re.Match[str], found: Finished) -> "Candidate":
    return _least(found, "min-loss-int8", "loss_int8")


@_rule("min-loss-16x8", "min-loss-16x8", "the lowest loss in 16x8")
def _min_loss_16x8(_: re.Match[str], found: Finished) -> "Candidate":
    return _least(found, "min-loss-16x8", "loss_16x8")


def _least(found: Finished, rule: str, name: str) -> "Candidate":
    if name not in found.front[0].values:
        raise UserError(
            f"--pick {rule}: the study does not measure it; add {name} to its objectives"
        )
    return min(found.front, key=lambda c: (c.values[name], *_by_loss(c)))


@_rule("knee", "knee", "the best compromise: the lowest product of loss and cost")
def _knee(_: re.Match[str], found: Finished) -> "Candidate":
    """The model that divides the loss of any other by more than it multiplies its cost.

    On log scales the slope of the front is -1 there: any larger model costs more than its loss
    saves. The rule minimises a sum of logarithms (the weighted-sum utility of Branke et al. 2004,
    "Finding Knees in Multi-objective Optimization"). All costs (params, FLOPs, ...) together weigh
    as much as the loss. Unlike the distance from an ideal point scaled to the front, the choice
    does not depend on how far the front reaches towards uselessly small networks. A loss below
    `ZERO` counts as `ZERO`, so that of such models the smallest is chosen. Of equal products the
    lower loss wins.
    """
    names = found.front[0].values
    logs = {name: [math.log(positive(c.values[name])) for c in found.front] for name in names}
    costs = len(logs) - ("loss" in logs)
    product = dict.fromkeys((c.trial for c in found.front), 0.0)
    for name, column in logs.items():
        weight = 1 if name == "loss" else 1 / costs
        for candidate, value in zip(found.front, column, strict=True):
            product[candidate.trial] += weight * value
    return min(found.front, key=lambda c: (round(product[c.trial], 12), *_by_loss(c)))


@_rule(r"trial\s*=\s*(\d+)", "trial=42", "that trial, on the front or not")
def _trial(match: re.Match[str], found: Finished) -> "Candidate":
    number = int(match[1])
    for candidate in found.candidates:
        if candidate.trial == number:
            return candidate
    raise UserError(
        f"--pick trial={number}: trial {number} did not finish within the study's limits; "
        f"those that did: {_ranges([c.trial for c in found.candidates])}"
    )


@_rule(rf"params\s*<=\s*{_NUMBER}", '"params<=500"', "the lowest loss within that many parameters")
def _params(match: re.Match[str], found: Finished) -> "Candidate":
    return _within("params", match, found.front, _by_loss)


@_rule(rf"flops\s*<=\s*{_NUMBER}", '"flops<=2M"', "the lowest loss within that many FLOPs")
def _flops(match: re.Match[str], found: Finished) -> "Candidate":
    return _within("flops", match, found.front, _by_loss)


@_rule(rf"loss\s*<=\s*{_NUMBER}", '"loss<=0.002"', "the fewest parameters within that loss")
def _loss(match: re.Match[str], found: Finished) -> "Candidate":
    return _within("loss", match, found.front, lambda c: (c.params, c.flops, c.loss))


def _within(
    name: str,
    match: re.Match[str],
    front: Sequence["Candidate"],
    order: Callable[["Candidate"], tuple[float, ...]],
) -> "Candidate":
    limit = float(match[1]) * _SUFFIXES[match[2]]
    allowed = [c for c in front if getattr(c, name) <= limit]
    if not allowed:
        nearest = min(front, key=lambda c: float(getattr(c, name)))
        raise UserError(
            f"--pick {match[0]}: no model of the front satisfies it; the nearest is "
            f"{name} {getattr(nearest, name)} (trial {nearest.trial})"
        )
    return min(allowed, key=order)


def _by_loss(candidate: "Candidate") -> tuple[float, ...]:
    return candidate.loss, candidate.params, candidate.flops


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers as a short text: 0-3, 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
