"""What a comparison of models writes: a table of pictures, a contact sheet, a page of both."""

import base64
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.inference.comparing.examples import draw_sheet
from clapp.inference.metrics import Edges, Metrics
from clapp.system.files import atomic_path, dump_json, write_text

if TYPE_CHECKING:
    from clapp.inference.evaluate import Comparison

TABLE, MEANS, SHEET, PAGE = "pictures.csv", "means.json", "worst.png", "index.html"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ccc; padding: .2em .8em; text-align: right }
th:first-child, td:first-child { text-align: left }
small { color: #666 } img { max-width: 100% }
</style>
<h1>{{ title }}</h1>
<p>{{ images }} pictures{{ ", %d left out" % skipped if skipped }}. Means, and their 95 % intervals
over pictures below them.</p>
<table><tr><th>model{% for name in measures %}<th>{{ name }}{% endfor %}</tr>
{% for model in models %}<tr><td>{{ model.name }}
{% for value, interval in model.cells %}<td>{{ value }}<br><small>{{ interval }}</small>
{% endfor %}</tr>{% endfor %}</table>
{% for line in differences %}<p>{{ line }}</p>{% endfor %}
<h2>The worst pictures</h2>
<p>Where models are farthest from the filter, at most 224 pixels. Differences: red where a model is
brighter than the filter, blue where it is darker.</p>
<img src="data:image/png;base64,{{ sheet }}" alt="picture, classical filter, models, differences">
<h2>All pictures</h2>
<table><tr>{% for name in columns %}<th>{{ name }}{% endfor %}</tr>
{% for row in rows %}<tr>{% for value in row %}<td>{{ value }}{% endfor %}</tr>
{% endfor %}</table></html>
"""


def write_comparison(folder: Path, found: "Comparison") -> list[Path]:
    """Write the table, the means, the sheet of the worst pictures and the page."""
    sheet = io.BytesIO()
    draw_sheet(found.worst, found.models).save(sheet, "PNG")
    with atomic_path(folder / SHEET) as path:
        path.write_bytes(sheet.getvalue())
    write_text(folder / TABLE, table(found))
    write_text(folder / MEANS, dump_json(found.document()))
    write_text(folder / PAGE, _page(found, sheet.getvalue()))
    return [folder / name for name in (TABLE, MEANS, SHEET, PAGE)]


def measures(found: "Comparison") -> list[str]:
    """The measures of a comparison, those of edges too where all targets are binary."""
    binary = all(one is not None for row in found.rows for one in row.edges)
    return [*Metrics._fields, *(Edges._fields if binary else ())]


def table(found: "Comparison") -> str:
    """CSV, a row for each picture and model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(found))
    writer.writerows(_rows(found))
    return text.getvalue()


def _columns(found: "Comparison") -> list[str]:
    return ["picture", "height", "width", "model", *measures(found)]


def _rows(found: "Comparison") -> list[list[Any]]:
    some = len(measures(found)) > len(Metrics._fields)
    rows: list[list[Any]] = []
    for row in found.rows:
        for name, metrics, edges in zip(found.models, row.metrics, row.edges, strict=True):
            more = edges if some and edges is not None else ()
            rows.append([row.picture, row.height, row.width, name, *metrics, *more])
    return rows


def differences(found: "Comparison") -> list[str]:
    """Whether each further model is better than the first, in words."""
    lines = []
    for number, name in enumerate(found.models):
        bounds = found.against_first(number)
        if bounds is None:
            continue
        low, high = bounds
        verdict = "no clear difference" if low <= 0 <= high else "better" if high < 0 else "worse"
        lines.append(
            f"{name}: L2 differs from that of {found.models[0]} by {low:+.3g} to {high:+.3g} "
            f"(95 % interval): {verdict}"
        )
    return lines


def _page(found: "Comparison", sheet: bytes) -> str:
    from jinja2 import Environment

    models = []
    for number, name in enumerate(found.models):
        means = found.of(number)
        values = means._asdict() | (means.edges._asdict() if means.edges else {})
        cells = [
            (f"{values[key]:.4g}", "{:.4g} to {:.4g}".format(*bounds) if bounds else "")
            for key in measures(found)
            for bounds in [means.intervals.get(key)]
        ]
        models.append({"name": name, "cells": cells})
    rows = sorted(_rows(found), key=lambda row: -row[4])
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(
        title=f"Models of {found.filter}",
        images=len(found.rows),
        skipped=found.skipped,
        measures=measures(found),
        models=models,
        differences=differences(found),
        sheet=base64.b64encode(sheet).decode("ascii"),
        columns=_columns(found),
        rows=[[f"{v:.4g}" if isinstance(v, float) else v for v in row] for row in rows],
    )
