"""The front of a study as a document, as files and as a table in a terminal."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.front.objectives import objective
from clapp.front.optimism import Both, FrontTest
from clapp.front.outcomes import (
    ALWAYS,
    Candidate,
    beats,
    counts,
    front_of,
    objectives,
    reference_of,
)
from clapp.front.repeats import front_chances
from clapp.system.console import plain_console, plain_table
from clapp.system.files import dump_json, write_text
from clapp.training.losses import loss_text

if TYPE_CHECKING:
    from optuna import Study
    from rich.table import Table


def front_document(study: "Study", tested: FrontTest | None = None) -> dict[str, Any]:
    """`clapp front --json`: the study's name, its counts and its front.

    A member that was repeated has `repeats`, with `on_front`, its chance to be on the front.

    Args:
        tested: losses on both sets, and what follows from them.
    """
    known = tested.models if tested is not None else {}
    found, rows = front_of(study), []
    chances = front_chances(found, objectives(study))
    for candidate in found:
        row = candidate.document()
        config = row.pop("config")
        if candidate.trial in known:
            row |= known[candidate.trial].document()
        if "repeats" in row:
            row["repeats"]["on_front"] = chances.get(candidate.trial)
        rows.append(row | {"config": config})
    document: dict[str, Any] = {"study": study.study_name, "counts": counts(study), "front": rows}
    if tested is not None:
        found_optimism = tested.optimism
        document["optimism"] = found_optimism.document() if found_optimism is not None else None
    return document


def write_front(folder: Path, study: "Study") -> None:
    """Write `front.json` and `front.csv` (a column per configuration key) into `folder`."""
    document = front_document(study)
    write_text(folder / "front.json", dump_json(document) + "\n")
    write_text(folder / "front.csv", front_csv(document["front"]))


def front_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The front of a document as CSV: its numbers, then a column per configuration key."""
    keys = sorted({key for row in rows for key in row["config"]})
    names = [name for row in rows for name in row if name not in ("config", "repeats")]
    numbers = list(dict.fromkeys(names)) or list(ALWAYS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*numbers, *keys])
    for row in rows:
        config = [row["config"].get(key, "") for key in keys]
        writer.writerow([row.get(key, "") for key in numbers] + [_cell(value) for value in config])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Null is written as such: an empty cell means that the key has its default."""
    return value if isinstance(value, str | int | float) else json.dumps(value)


def front_table(
    found: Sequence[Candidate],
    reference: Candidate | None,
    *,
    short: bool = False,
    tested: Mapping[int, Both] | None = None,
) -> "Table":
    """`found` as a table; models at least as good as `reference` in loss, params and FLOPs are
    marked, with a star where the table shall be `short`.

    Args:
        tested: losses on both sets, by trial; the test loss then stands beside the validation loss.
    """

    table = plain_table()
    table.add_column("trial", justify="right")
    columns = _columns(found, {} if short else tested or {}, short)
    for heading in columns:
        table.add_column(heading, justify="right")
    table.add_column("", no_wrap=True)
    for number, one in enumerate(found):
        remark = _remark(one, reference, "*" if short else "beats the reference")
        table.add_row(str(one.trial), *(cells[number] for cells in columns.values()), remark)
    return table


def _columns(
    found: Sequence[Candidate], tested: Mapping[int, Both], short: bool
) -> dict[str, list[str]]:
    """Heading -> a cell for each model."""
    columns: dict[str, list[str]] = {}
    for name in found[0].shown() if found else ALWAYS:
        columns[objective(name).heading] = [one.cells()[name] for one in found]
        if name == "loss" and not short:
            columns |= _beside_the_loss(found, tested)
    if not short and any(one.repeats is not None for one in found):
        columns |= _seeds(found)
    return columns


def _seeds(found: Sequence[Candidate]) -> dict[str, list[str]]:
    """The columns of repetitions."""
    chances = front_chances(found, [*found[0].values])
    words = [one.repeats.describe() if one.repeats is not None else "" for one in found]
    shares = [chances.get(one.trial) for one in found]
    return {
        "mean over seeds [95 %]": words,
        "on the front": ["" if share is None else f"{100 * share:.0f} %" for share in shares],
    }


def _beside_the_loss(
    found: Sequence[Candidate], tested: Mapping[int, Both]
) -> dict[str, list[str]]:
    columns = {}
    bounds = [one.spread.bounds if one.spread is not None else "" for one in found]
    if any(bounds):
        columns["95 %"] = bounds
    if tested:
        both = [tested.get(one.trial) for one in found]
        columns["test loss"] = [loss_text(one.test.mean) if one else "" for one in both]
        columns["95 % of test"] = [one.test.bounds if one else "" for one in both]
        columns["test/valid"] = [f"{one.ratio:.2f}" if one else "" for one in both]
    return columns


def _remark(one: Candidate, reference: Candidate | None, better: str) -> str:
    if one.baseline is not None:
        return one.baseline
    return better if reference is not None and beats(one, reference) else ""


def print_front(study: "Study", tested: FrontTest | None = None) -> None:
    """Print the front as a table on stdout, with the counts and the reference.

    Args:
        tested: losses on both sets, and what follows from them.
    """
    console = plain_console()
    found, reference = front_of(study), reference_of(study)
    summary = ", ".join(f"{number} {word}" for word, number in counts(study).items() if number)
    console.print(f"{study.study_name}: {summary or 'no trials yet'}")
    if not found:
        console.print("No finished trial yet, so there is no front.")
        return
    known = tested.models if tested is not None else {}
    console.print(front_table(found, reference, tested=known))
    if reference is not None and reference not in found:
        console.print(f"reference (trial {reference.trial}): {reference.figures()}")
    for line in _sets(found, known):
        console.print(line)
    if tested is not None:
        for line in ([tested.optimism.words()] if tested.optimism else []) + tested.notes:
            console.print(line)


def _sets(found: Sequence[Candidate], tested: Mapping[int, Both]) -> list[str]:
    """What the losses are means over."""
    lines = []
    counted = {one.spread.counted: None for one in found if one.spread is not None}
    if counted:
        lines.append(f"loss: over {' or '.join(counted)} for validation; intervals over pictures")
    counted = {one.test.counted: None for one in tested.values()}
    if counted:
        lines.append(f"test loss: over {' or '.join(counted)} that no training and no choice saw")
    return lines
