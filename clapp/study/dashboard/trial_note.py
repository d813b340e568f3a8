"""The note of a trial in the dashboard: its network in words, its figures, its pictures."""

import textwrap
from collections.abc import Iterable, Sequence

from clapp.config import load_config, nest
from clapp.front.objectives import loss_text, objective
from clapp.front.record import TrialRecord
from clapp.models.words import in_words
from clapp.system.strict_yaml import dump_yaml


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def trial_note(record: TrialRecord, files: dict[str, str]) -> str:
    """The Markdown of a trained trial.

    Args:
        files: file name -> its address; pictures are shown, others are linked.
    """
    config = nest(record.config or {})
    # The dashboard does not break lines that are wider than its window.
    words = "  \n".join(textwrap.wrap(in_words(load_config(config)), 80))
    cells = dict(_cells(record))
    shown = [f"![{name}]({at})" for name, at in files.items() if name.endswith((".png", ".svg"))]
    linked = [f"[{name}]({at})" for name, at in files.items() if f"![{name}]({at})" not in shown]
    keys = f"Differences from the defaults:\n\n```yaml\n{dump_yaml(config)}```"
    table = markdown_table(list(cells), [list(cells.values())])
    parts = [f"**{words}**", table, *shown, ", ".join(linked), keys]
    return "\n\n".join(part for part in parts if part)


def _cells(record: TrialRecord) -> Iterable[tuple[str, str]]:
    if record.loss is not None:
        yield "loss", loss_text(record.loss)
    elif record.stopped is not None:
        yield "loss when stopped", loss_text(record.stopped["l2"])
    if record.params is not None:
        yield "parameters", f"{record.params:,}"
    if record.flops is not None:
        yield "FLOPs", f"{record.flops:,}"
    for name, value in (record.others or {}).items():
        one = objective(name)
        yield one.label, f"{one.format(value)} {one.unit}".strip()
    yield "iterations", f"{record.iterations or 0:,}"
    yield "training", f"{record.seconds or 0:.1f} s"
    yield "ended by", record.stop_reason or "the pruner"
