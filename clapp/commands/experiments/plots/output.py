"""What experiments write beside their trainings, and what they print: pages, pictures, tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clapp.commands.experiments.plots.bands import Distribution, losses_of, seconds_of
from clapp.commands.experiments.repeat import Group, repeats_from
from clapp.commands.experiments.runs import Outcome
from clapp.front.objectives import loss_text
from clapp.system.intervals import Interval

if TYPE_CHECKING:
    from clapp.commands.experiments.ablate import Ablation, Effect
    from clapp.commands.experiments.front import Front

Table = list[list[str]]


def write_group(group: Group, outcomes: Sequence[Outcome]) -> list[str]:
    """Write the page and the three plots of a configuration's repetitions; returns their names."""
    from clapp.commands.experiments.plots import figures, pictures

    losses, seconds = losses_of("loss", outcomes), seconds_of("seconds", outcomes)
    name, folder = group.name, group.folder
    count = f"{len(outcomes)} trainings of {name}"
    pictures.draw_curves(folder / "curves.png", f"Losses of {count}", outcomes)
    pictures.draw_distributions(folder / "losses.png", f"Final losses of {count}", [losses], "L2")
    pictures.draw_distributions(folder / "seconds.png", f"Seconds of {count}", [seconds], "seconds")
    figures.write_page(
        folder / "repeats.html",
        name,
        repeats_from(outcomes, 0, group.ancestor is not None).describe(),
        [
            figures.curves_figure(outcomes),
            figures.distribution_figure([losses], "Final losses", "validation L2"),
            figures.distribution_figure([seconds], "Seconds", "seconds"),
        ],
        _runs(outcomes),
    )
    return ["repeats.json", "repeats.html", "curves.png", "losses.png", "seconds.png"]


def _runs(outcomes: Sequence[Outcome]) -> Table:
    head = ["seed", "loss", "seconds", "iterations", "ended by"]
    return [head] + [
        [
            str(one.seed),
            "diverged" if one.loss is None else loss_text(one.loss),
            f"{one.seconds:.1f}",
            str(one.iterations),
            one.stop_reason,
        ]
        for one in outcomes
    ]


def write_front_plots(front: "Front", study: str, folder: Path) -> list[str]:
    """Write the page and the three plots of a repeated front; returns their names."""
    from clapp.commands.experiments.plots import figures, pictures

    losses: list[Distribution] = []
    seconds: list[Distribution] = []
    for member in front.members:
        name = f"{member.candidate.params} parameters (trial {member.trial})"
        losses.append(losses_of(name, member.outcomes))
        seconds.append(seconds_of(name, member.outcomes))
    heading = f"The front of {study} over seeds"
    pictures.draw_front(folder / "front.png", heading, front)
    pictures.draw_distributions(folder / "losses.png", f"Final losses: {study}", losses, "L2")
    pictures.draw_distributions(folder / "seconds.png", f"Seconds: {study}", seconds, "seconds")
    figures.write_page(
        folder / "front.html",
        heading,
        "The mean over seeds, its 95 % interval, and the chance to be on the front.",
        [
            figures.front_figure(front),
            figures.distribution_figure(losses, "Final losses", "validation L2"),
            figures.distribution_figure(seconds, "Seconds", "seconds"),
        ],
        front_rows(front),
    )
    return ["front.html", "front.png", "losses.png", "seconds.png"]


def front_rows(front: "Front") -> Table:
    """The members of a repeated front as rows under a head."""
    rows = [["trial", "parameters", "loss in the search", "mean over seeds", "on the front", ""]]
    for one in front.members:
        chance = front.chances.get(one.trial)
        rows.append(
            [
                str(one.trial),
                f"{one.candidate.params:,}",
                loss_text(one.candidate.loss),
                one.repeats.describe(),
                "" if chance is None else f"{100 * chance:.0f} %",
                "given up" if one.repeats.stopped else "",
            ]
        )
    return rows


def write_ablation(ablation: "Ablation") -> list[str]:
    """Write the page and the plot of an ablation; returns their names."""
    from clapp.commands.experiments.plots import figures, pictures

    heading = f"What each trick of {ablation.name} is worth"
    pictures.draw_effects(ablation.folder / "effects.png", heading, ablation)
    figures.write_page(
        ablation.folder / "ablation.html",
        heading,
        f"As it is: {ablation.base.describe()}, {ablation.params:,} parameters.",
        [figures.effects_figure(ablation)],
        effect_rows(ablation),
    )
    return ["ablation.json", "ablation.html", "effects.png"]


def effect_rows(ablation: "Ablation") -> Table:
    """The effects of an ablation as rows under a head."""
    head = ["trick", "in use", "parameters with it, without", "loss with it, without", "worth"]
    return [head] + [_effect(ablation, effect) for effect in ablation.effects]


def _effect(ablation: "Ablation", effect: "Effect") -> list[str]:
    params = [f"{ablation.params:,}", f"{effect.variant.params:,}"]
    losses = [_mean(ablation.base.interval), _mean(effect.repeats.interval)]
    if not effect.variant.on:
        params.reverse()
        losses.reverse()
    return [
        effect.variant.trick.name,
        "yes" if effect.variant.on else "no",
        ", ".join(params),
        ", ".join(losses),
        worth_text(effect.worth),
    ]


def _mean(found: Interval | None) -> str:
    return "diverged" if found is None else f"{found.mean:.3g}"


def worth_text(worth: Interval | None) -> str:
    """A ratio with its interval: "1.8 [1.4, 2.3]"."""
    if worth is None:
        return "unknown"
    ends = f" [{_two(worth.low)}, {_two(worth.high)}]" if worth.size > 1 else ""
    return f"{_two(worth.mean)}{ends}"


def _two(ratio: float) -> str:
    """A ratio in two digits, a large one as a whole number."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
