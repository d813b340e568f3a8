"""`clapp ablate`: what each trick of a model is worth, from the same seeds with and without it."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.commands.experiments.crew import train_all
from clapp.commands.experiments.repeat import LOGS, Group, group_of
from clapp.commands.experiments.targets import Target
from clapp.commands.experiments.tricks import TRICKS, Variant, variant
from clapp.errors import UserError
from clapp.front.objectives import positive
from clapp.front.repeats import Repeats
from clapp.models.costs import cost
from clapp.system.files import dump_json, write_text
from clapp.system.intervals import Interval, paired_ratio

if TYPE_CHECKING:
    from clapp.commands.experiments.runs import Train

ABLATION = "ablation.json"
BASE = "as-it-is"


@dataclass(frozen=True)
class Effect:
    """What a trick is worth.

    Attributes:
        worth: the loss without the trick over the loss with it, from the same seeds: above 1 the
            trick helps. None: no seed had a loss with both.
        repeats: of the variant.
    """

    variant: Variant
    worth: Interval | None
    repeats: Repeats

    @property
    def clear(self) -> bool:
        """Whether the interval says on which side of 1 the worth lies."""
        return self.worth is not None and not self.worth.low <= 1 <= self.worth.high

    def document(self) -> dict[str, Any]:
        """The effect as JSON documents show it."""
        worth, ends = self.worth, None
        if worth is not None and worth.size > 1:
            ends = [worth.low, worth.high]
        repeats = self.repeats.document()
        del repeats["stopped"]
        return {
            "trick": self.variant.trick.name,
            "meaning": self.variant.trick.meaning,
            "in_use": self.variant.on,
            "changes": dict(self.variant.changes),
            "params": self.variant.params,
            "worth": worth and worth.mean,
            "interval": ends,
            "pairs": worth.size if worth else 0,
            "variant": repeats,
        }


@dataclass(frozen=True)
class Ablation:
    """The effects of the tricks of a model, the greatest first.

    Attributes:
        base: the repetitions of the model as it is.
        left_out: tricks that could not be toggled, with the reason.
    """

    name: str
    folder: Path
    params: int
    base: Repeats
    effects: Sequence[Effect]
    left_out: dict[str, str]

    def document(self) -> dict[str, Any]:
        """What `clapp ablate --json` prints."""
        base = self.base.document()
        del base["stopped"]
        return {
            "path": str(self.folder),
            "name": self.name,
            "params": self.params,
            "base": base,
            "effects": [effect.document() for effect in self.effects],
            "left_out": self.left_out,
        }


def ablate(
    target: Target,
    folder: Path,
    seeds: Sequence[int],
    processes: int | None,
    only: Sequence[str] = (),
    train: "Train | None" = None,
) -> Ablation:
    """Train a model as it is and with each trick toggled, from the same seeds.

    Args:
        folder: one folder for each variant is made in it; finished trainings are not repeated.
        only: names of the tricks; empty: all.
        train: used instead of `clapp.training.trainer.train`.

    Raises:
        UserError: an unknown trick, or none can be toggled; or see `train_runs`.
    """
    tricks = [TRICKS.find(name) for name in only] or [*TRICKS.values()]
    inherits = target.ancestor is not None
    variants: list[Variant] = []
    left_out: dict[str, str] = {}
    for trick in tricks:
        found = variant(trick, target.config, inherits)
        if isinstance(found, str):
            left_out[trick.name] = found
        else:
            variants.append(found)
    if not variants:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UserError(f"{target.name}: no trick can be toggled: {why}")
    base = group_of(target, folder / BASE)
    groups = [_group(target, folder, one) for one in variants]
    _train([base, *groups], seeds, processes, folder, train)
    before = _repeats(base, seeds)
    effects = [
        _effect(one, before, _repeats(g, seeds)) for one, g in zip(variants, groups, strict=True)
    ]
    effects.sort(key=lambda effect: -(effect.worth.mean if effect.worth else 0.0))
    params = cost(target.config.model).params
    result = Ablation(target.name, folder, params, before, effects, left_out)
    write_text(folder / ABLATION, dump_json(result.document()) + "\n")
    return result


def _group(target: Target, folder: Path, one: Variant) -> Group:
    slug = one.trick.name
    name = f"{target.name} {'without' if one.on else 'with'} {one.trick.name}"
    ancestor = target.ancestor if one.inherits else None
    return Group(name, folder / slug, one.config, ancestor, target.plugins)


def _train(
    groups: Sequence[Group],
    seeds: Sequence[int],
    processes: int | None,
    folder: Path,
    train: "Train | None",
) -> None:
    """Train every group from every seed, seed by seed, so that what is there is always paired."""
    runs = [group.run(seed) for seed in seeds for group in groups]
    with ExitStack() as stack:
        for group in groups:  # what cannot be written, or is another experiment, is said first
            stack.enter_context(group.opened())
        train_all(runs, groups[0].config, processes, folder / LOGS, train)


def _repeats(group: Group, seeds: Sequence[int]) -> Repeats:
    found = group.outcomes(seeds)
    return Repeats(0, [one.seed for one in found], [one.loss for one in found])


def _effect(one: Variant, base: Repeats, other: Repeats) -> Effect:
    pairs = [
        (positive(a), positive(b))
        for a, b in zip(base.losses, other.losses, strict=True)
        if a is not None and b is not None
    ]
    if not pairs:
        return Effect(one, None, other)
    base_losses, other_losses = zip(*pairs, strict=True)
    worth = (
        paired_ratio(other_losses, base_losses)
        if one.on
        else paired_ratio(base_losses, other_losses)
    )
    return Effect(one, worth, other)
