"""The same plots as PNG pictures: matplotlib, without a display."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clapp.commands.experiments.plots.bands import COLOURS, KINDS, Distribution, band_of, curve_of
from clapp.commands.experiments.runs import Outcome
from clapp.system.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from clapp.commands.experiments.ablate import Ablation
    from clapp.commands.experiments.front import Front

_DOTS = 130  # a inch


def draw_curves(path: Path, heading: str, outcomes: Sequence[Outcome]) -> None:
    """See `figures.curves_figure`."""
    with _drawn(path, heading, "iterations", "loss", (8, 5)) as axes:
        axes.set_yscale("log")
        for (key, name), colour in zip(KINDS.items(), COLOURS, strict=False):
            for one in outcomes:
                axes.plot(*curve_of(one, key), color=colour, linewidth=0.6, alpha=0.35)
            band = band_of(outcomes, key)
            if band is None:
                continue
            axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
            label = f"{name}: mean and 95 % interval"
            axes.plot(band.steps, band.mean, color=colour, linewidth=2.2, label=label)
        axes.legend()


def draw_distributions(path: Path, heading: str, found: Sequence[Distribution], axis: str) -> None:
    """See `figures.distribution_figure`; on a log scale."""
    shown = [one for one in found if one.values][::-1]
    with _drawn(path, heading, axis, "", (8, 1.4 + 0.6 * len(shown))) as axes:
        axes.set_xscale("log")
        if shown:
            names = [one.name for one in shown]
            axes.boxplot(
                [one.values for one in shown],
                orientation="horizontal",
                tick_labels=names,
                widths=0.5,
            )
        for place, one in enumerate(shown, start=1):
            axes.scatter(one.values, [place] * len(one.values), s=16, alpha=0.6, color=COLOURS[0])


def draw_front(path: Path, heading: str, front: "Front") -> None:
    """See `figures.front_figure`."""
    members = [one for one in front.members if one.repeats.interval is not None]
    intervals = [one.repeats.interval for one in members if one.repeats.interval is not None]
    with _drawn(path, heading, "parameters", "loss (validation L2)", (8, 5)) as axes:
        axes.set_xscale("log")
        axes.set_yscale("log")
        places = [one.candidate.params for one in members]
        for place, one, found in zip(places, members, intervals, strict=True):
            ends = [max(found.low, 1e-3 * found.mean), min(found.high, 1e3 * found.mean)]
            faint = 0.25 + 0.75 * front.chances.get(one.trial, 0.0)
            axes.plot([place, place], ends, color=COLOURS[0], alpha=faint)
            axes.scatter([place], [found.mean], color=COLOURS[0], alpha=faint, s=40)
        axes.scatter(
            [one.candidate.params for one in front.members],
            [one.candidate.loss for one in front.members],
            facecolors="none",
            edgecolors=COLOURS[1],
            label="in the search",
        )
        axes.scatter([], [], color=COLOURS[0], label="mean over seeds, fainter: less likely on it")
        axes.legend()


def draw_effects(path: Path, heading: str, ablation: "Ablation") -> None:
    """See `figures.effects_figure`."""
    effects = [one for one in ablation.effects if one.worth is not None][::-1]
    axis = "loss without it / loss with it, from the same seeds"
    with _drawn(path, heading, axis, "", (8, 1.4 + 0.45 * len(effects))) as axes:
        axes.set_xscale("log")
        axes.axvline(1, color=COLOURS[7], linestyle=":")
        for place, one in enumerate(effects):
            assert one.worth is not None
            worth, colour = one.worth, COLOURS[0] if one.clear else COLOURS[7]
            ends = [max(worth.low, 1e-3 * worth.mean), min(worth.high, 1e3 * worth.mean)]
            axes.plot(ends, [place, place], color=colour)
            axes.scatter([worth.mean], [place], color=colour, s=40)
        axes.set_yticks(range(len(effects)), [one.variant.trick.name for one in effects])


@contextmanager
def _drawn(path: Path, heading: str, x: str, y: str, size: tuple[float, float]) -> Iterator["Axes"]:
    """Axes to draw on, saved at the end of the block."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever a user's settings say
    axes = figure.add_subplot()
    axes.set(title=heading, xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    yield axes
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
