"""What pages show of published results: tables, sections, an example: `python docs/published.py`.

With `--figures` the pictures of `results.md` too, see `figures.py`; `make figures` calls it so.
Everything is read from `results/reference`, and a test compares it with the pages.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from generate import plain, table

from clapp.front.objectives import scaled
from clapp.models.published import FRONT, REFERENCE
from clapp.report.published.publish import ORIGIN
from clapp.report.words import duration, plural
from clapp.training.losses import short
from clapp.training.losses.spread import between

DOCS = Path(__file__).parent
PUBLISHED = DOCS.parent / REFERENCE
IMAGES = "images/results"
EXAMPLE = "sobel3"
"""The study that examples and the first page show."""
_PICTURED = "Input, the Sobel filter of OpenCV, a network of "
LEVELS = (30, 35, 40, 45, 50)
"""Decibels on pictures that no search saw."""
NONE = "-"
CAN24 = {"params": 37_219, "flops": 3.7e9, "psnr": 36.0}
"""Chen, Xu, Koltun 2017, "Fast Image Processing with Fully-Convolutional Networks": CAN24 with
adaptive normalisation, the mean of ten operators; FLOPs at 224x224."""
Row = Mapping[str, Any]


def studies(folder: Path = PUBLISHED) -> list[dict[str, Any]]:
    """The published studies by name: `front.json`, and `origin.json` as `origin`."""
    found = []
    for path in sorted(folder.glob(f"*/{FRONT}")):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["origin"] = json.loads((path.parent / ORIGIN).read_text(encoding="utf-8"))
        found.append(document)
    return found


def smallest(front: Sequence[Row], level: float) -> Row | None:
    """The model of the fewest parameters, then FLOPs, with that many dB on test pictures."""
    reaching = [row for row in front if row["test_psnr"] >= level]
    return min(reaching, key=lambda row: (row["params"], row["flops"]), default=None)


def best(front: Sequence[Row]) -> Row:
    """The most accurate model on test pictures."""
    return max(front, key=lambda row: row["test_psnr"])


def filters_table(found: Sequence[Row]) -> str:
    """The smallest network of each study at each of `LEVELS`, beside the filter's own FLOPs."""
    if not found:
        return "No study is published yet.\n"
    headings = ("study", "its own FLOPs", *(f"{level} dB" for level in LEVELS), "most accurate")
    rows = []
    for one in found:
        own = one["filter_flops"]
        cells = [_sized(smallest(one["front"], level)) for level in LEVELS]
        top = best(one["front"])
        link = f"[{one['study']}](results.md#{_anchor(one['study'])})"
        ends = "" if own is None else scaled(own), f"{top['params']:,}: {top['test_psnr']:.1f} dB"
        rows.append((link, ends[0], *cells, ends[1]))
    cells = [_sized(CAN24) if CAN24["psnr"] >= level else NONE for level in LEVELS]
    name = "CAN24, mean of ten filters (Chen et al. 2017)"
    rows.append((name, "", *cells, f"{CAN24['params']:,}: {CAN24['psnr']:.1f} dB"))
    return table(headings, rows)


def _sized(row: Row | None) -> str:
    return NONE if row is None else f"{row['params']:,} ({scaled(row['flops'])})"


def _anchor(study: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", study.lower())


def results_sections(found: Sequence[Row]) -> str:
    """A section for each published study."""
    if not found:
        return "No study is published yet.\n"
    return "\n".join(map(_section, found))


def _section(one: Row) -> str:
    study, origin = one["study"], one["origin"]
    shown = steps(one["front"])
    machine = origin["machine"]
    cores = f", {machine['cores']} cores" if machine["cores"] else ""
    workers = plural(origin["workers"], "worker") if origin["workers"] else "workers not recorded"
    versions = ", ".join(f"{name} {text}" for name, text in (origin["versions"] or {}).items())
    text = (
        f"### {study}\n\n{plain(one['description'] or 'No description')}.\n\n"
        f"![Input, classical filter, network of {drawn(one['front'])['params']} parameters, "
        f"difference]({IMAGES}/{study}.png)\n\n{_members(shown)}\n"
        f"`{origin['command']}`: {duration(origin['seconds'])}, {workers}, "
        f"{origin['trials']['complete']:,} trainings to the end and {origin['trials']['pruned']:,} "
        f"stopped early, on {' and '.join(machine['processor']) or 'an unknown processor'}{cores}. "
        f"{len(one['front'])} models on the front; {versions}.\n\n"
    )
    return text + f"![Loss against parameters, and while training]({IMAGES}/{study}-loss.png)\n"


def steps(front: Sequence[Row]) -> list[Row]:
    """The members of a front, sorted by size, whose validation loss no smaller one reaches."""
    found: list[Row] = []
    for row in sorted(front, key=lambda row: (row["params"], row["loss"])):
        if not found or row["loss"] < found[-1]["loss"]:
            found.append(row)
    return found


def drawn(front: Sequence[Row]) -> Row:
    """The model that is drawn: the smallest with 40 dB on test pictures, or the most accurate."""
    return smallest(front, 40) or best(front)


def _members(front: Sequence[Row]) -> str:
    headings = ("model", "FLOPs", "validation L2", "test L2", "95 % of it", "test PSNR", "seed")
    return table(
        headings,
        (
            (
                f"`{row['model']}`",
                scaled(row["flops"]),
                short(row["loss"]),
                short(row["test_loss"]),
                _interval(row),
                f"{row['test_psnr']:.1f} dB",
                str(row["seed"]),
            )
            for row in front
        ),
    )


def _interval(row: Row) -> str:
    low, high = row["test_low"], row["test_high"]
    return between(None if low is None or high is None else (low, high))


def filled(page: str, text: str) -> str:
    """A page with `text` between its lines `<!-- published -->` and `<!-- end -->`."""
    parts = re.split(r"(?<=<!-- published -->\n)(?s:.*?)(?=<!-- end -->)", page)
    if len(parts) != 2:
        raise ValueError("one pair of <!-- published --> and <!-- end --> is expected")
    return f"{parts[0]}\n{text}\n{parts[1]}"


def exemplified(page: str, found: Sequence[Row], images: str) -> str:
    """A page whose examples name a published model of `EXAMPLE`, and whose picture shows it.

    Args:
        images: the folder of the pictures, as seen from the page.
    """
    known = [one for one in found if one["study"] == EXAMPLE]
    if not known:
        return page
    row = drawn(known[0]["front"])
    page = re.sub(rf"\b{EXAMPLE}:\d[\d-]*", f"{EXAMPLE}:{row['model']}", page)
    words = f"{_PICTURED}{row['params']:,} parameters, and their difference"
    image = f"![{words}]({images}/{EXAMPLE}.png)"
    return re.sub(rf"!\[{_PICTURED}[^\]]*\]\([^)]*\)", image, page)


def pages(found: Sequence[Row]) -> dict[Path, str]:
    """The pages as they should be."""
    from kernels import kernels_table

    texts = {
        "filters.md": filters_table(found),
        "results.md": results_sections(found),
        "experiments.md": kernels_table(found, PUBLISHED),
    }
    result = {
        DOCS / name: filled((DOCS / name).read_text(encoding="utf-8"), text)
        for name, text in texts.items()
    }
    for path in (DOCS / "results.md", DOCS / "index.md", DOCS.parent / "README.md"):
        images = IMAGES if path.parent == DOCS else f"docs/{IMAGES}"
        page = result.get(path) or path.read_text(encoding="utf-8")
        result[path] = exemplified(page, found, images)
    return result


def main(words: Sequence[str]) -> None:
    """Write the pages, and with `--figures` the pictures first."""
    found = studies()
    if "--figures" in words:
        from figures import write

        write(found, PUBLISHED, DOCS / IMAGES)
    for path, text in pages(found).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
