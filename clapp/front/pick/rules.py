"""The grammar of picking rules: text in, bounds and a goal out.

    RULE  = trial=N | PART, PART, ...      bounds in any number, at most one goal
    BOUND = NAME<=NUMBER | psnr>=NUMBER    such as params<=500, flops<=2M, loss<=1e-4
    GOAL  = knee | min NAME                such as min loss; min-loss is the same

Without a goal, bounds of costs mean `min loss`, and a bound of the loss alone means `min params`.
"""

import re
from dataclasses import dataclass

from clapp.errors import UserError
from clapp.front.objectives import objective

KNEE, PSNR = "knee", "psnr"
LOSSES = ("loss", "loss_int8", "loss_16x8", PSNR)
"""What is bounded where fidelity is asked for; everything else is a cost."""
_SUFFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_NUMBER = re.compile(r"(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)\s*([kMG]?)", re.ASCII)
_TRIAL = re.compile(r"trial\s*=\s*(\d{1,9})", re.ASCII)
_BOUND = re.compile(r"([A-Za-z][\w.-]*)\s*(<=|>=|==|=|<|>)\s*(.*)", re.ASCII)
_GOAL = re.compile(r"min[\s-]+([A-Za-z][\w.-]*)", re.ASCII)
EXAMPLES = {
    "knee": "the best compromise: the lowest product of loss and cost",
    "min-loss": "the lowest loss",
    '"params<=500"': "the lowest loss within that many parameters",
    '"flops<=2M"': "the lowest loss within that many FLOPs",
    '"loss<=0.002"': "the fewest parameters within that loss",
    '"psnr>=40"': "the fewest parameters at a loss of that many dB",
    '"loss<=1e-4, min flops"': "bounds, and what is to be lowest within them",
    "trial=42": "that trial, on the front or not",
}


@dataclass(frozen=True)
class Bound:
    """The largest value allowed of an objective, or the smallest of `psnr`."""

    name: str
    limit: float
    text: str

    @property
    def is_floor(self) -> bool:
        """Whether higher is better."""
        return self.name == PSNR

    def allows(self, value: float) -> bool:
        """Whether a value is within it."""
        return value >= self.limit if self.is_floor else value <= self.limit


@dataclass(frozen=True)
class Rule:
    """A rule as parsed.

    Attributes:
        text: as given, which errors repeat.
        goal: `knee`, or the objective that is to be lowest.
        trial: the trial asked for; bounds and goal then mean nothing.
    """

    text: str
    bounds: tuple[Bound, ...] = ()
    goal: str = "loss"
    trial: int | None = None


def parse(text: str) -> Rule:
    """The rule that a text stands for.

    Raises:
        UserError: it is none; the message says what is wrong with it, or lists the rules.
    """
    shown = text.strip()
    match = _TRIAL.fullmatch(shown)
    if match:
        return Rule(shown, trial=int(match[1]))
    bounds: list[Bound] = []
    goals: list[str] = []
    for part in shown.split(","):
        part = part.strip()
        goal = KNEE if part == KNEE else _goal(part)
        if goal is not None:
            goals.append(goal)
        else:
            bounds.append(_bound(part, shown))
    if len(goals) > 1:
        raise UserError(f"--pick {shown}: one goal is allowed, not {len(goals)}")
    names = [bound.name for bound in bounds]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--pick {shown}: {twice} is bounded twice; write it once")
    return Rule(shown, tuple(bounds), goals[0] if goals else _default_goal(names))


def _default_goal(bounded: list[str]) -> str:
    return "params" if bounded and all(name in LOSSES for name in bounded) else "loss"


def _goal(part: str) -> str | None:
    match = _GOAL.fullmatch(part)
    if match is None:
        return None
    return match[1].replace("loss-", "loss_")  # min-loss-int8


def _bound(part: str, shown: str) -> Bound:
    match = _BOUND.fullmatch(part)
    if match is None:
        raise _unknown(part, shown)
    name, sign, written = match.groups()
    if name == "trial":
        raise UserError(f"--pick {shown}: trial=N stands alone, with a whole number")
    right = ">=" if name == PSNR else "<="
    if sign != right:
        raise UserError(
            f"--pick {shown}: {name}{sign} is not allowed; allowed: {name}{right}NUMBER"
        )
    number = _NUMBER.fullmatch(written)
    if number is None:
        raise UserError(
            f"--pick {shown}: {written!r} is not a number above zero; allowed: such as 500, 1e-4 "
            "or 2M"
        )
    return Bound(name, float(number[1]) * _SUFFIXES[number[2]], f"{name}{right}{written}")


def _unknown(part: str, shown: str) -> UserError:
    which = "" if part == shown else f" {part!r} in it:"
    return UserError(
        f"--pick {shown}:{which} no such rule; known, by example: {', '.join(EXAMPLES)}"
    )


def meaning(text: str) -> str:
    """What the rule `text` chooses, in words.

    Raises:
        UserError: no such rule.
    """
    rule = parse(text)
    if rule.trial is not None:
        return EXAMPLES["trial=42"]
    if rule.goal == KNEE:
        goal = EXAMPLES[KNEE]
    elif rule.goal in ("params", "flops"):
        goal = f"the fewest {objective(rule.goal).label}"
    else:
        goal = f"the lowest {objective(rule.goal).label}"
    bounds = " and ".join(bound.text for bound in rule.bounds)
    return f"{goal} with {bounds}" if bounds else goal


def rules() -> list[tuple[str, str]]:
    """Every kind of rule, by example, and what it chooses."""
    return list(EXAMPLES.items())


def describe_rules() -> str:
    """Every kind of rule and what it chooses, for `--help`."""
    return "; ".join(f"{example}: {words}" for example, words in rules())


def folder_name(text: str) -> str:
    """The rule `text` as the name of a folder: `params<=500` -> `params-le-500`."""
    name = re.sub(r"\s+", "", re.sub(r"\bmin\s+", "min-", text.strip()))
    name = name.replace("<=", "-le-").replace(">=", "-ge-").replace("=", "-").replace(",", "_")
    return re.sub(r"[^A-Za-z0-9.+_-]", "-", name)
