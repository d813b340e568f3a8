"""Export a published model: ONNX and the other formats, with preview and card."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clapp.errors import UserError
from clapp.export.card import Origin
from clapp.export.folder import ExportResult, export_folder
from clapp.export.options import Options
from clapp.front.outcomes import REFERENCE, Candidate
from clapp.models.published import FRONT, model_folder, plain_name, published_name
from clapp.study.storage.keep import trial_folder
from clapp.system.files import dump_json, write_text
from clapp.training.folder import RESULT


def export_published(
    name: str, results: Path, out: Path | None = None, options: Options | None = None
) -> ExportResult:
    """Export a published model, see `clapp.export.folder.export_pick`.

    Args:
        name: such as `sobel3:23`.
        results: the folder that holds a folder for each study.
        out: the folder to write; None: `export/NAME` in the study's folder of results.

    Raises:
        UserError: no such model is published, its results are broken, or `out` cannot be written.
        ParityError: ONNX Runtime does not reproduce the model; nothing is written.
    """
    place = model_folder(name)
    study, model = published_name(name) or ("", "")
    front = place.parents[1] / FRONT
    try:
        document = json.loads(front.read_text(encoding="utf-8"))
        row = next(one for one in document["front"] if one["model"] == model)
        chosen, reference = _candidate(row), document["reference"]
        origin = Origin(
            study,
            name,
            "published by this name",
            chosen,
            None if reference is None else _candidate(reference, REFERENCE),
        )
        training = {key: row[key] for key in ("iterations", "images", "seconds", "device")}
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise UserError(f"{front}: has no model {model!r} that can be read: {error!r}") from error
    out = out or results / study / "export" / model
    with tempfile.TemporaryDirectory(prefix=f"{plain_name(name)}-") as temporary:
        trial = trial_folder(Path(temporary), chosen.trial)
        shutil.copytree(place, trial)
        write_text(trial / RESULT, dump_json(training))
        return export_folder(Path(temporary), origin, out, options)


def _candidate(row: Mapping[str, Any], baseline: str | None = None) -> Candidate:
    """A row of a published front as a candidate."""
    sizes = {"loss": row["loss"], "params": row["params"], "flops": row["flops"]}
    return Candidate(
        trial=row["trial"],
        values=sizes,
        params=row["params"],
        flops=row["flops"],
        loss=row["loss"],
        config=row.get("config", {}),
        baseline=baseline,
    )
