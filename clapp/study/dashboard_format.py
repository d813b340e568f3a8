"""What optuna-dashboard reads from a storage: notes, graphs and files, in its own format.

The package has functions that write all this, but importing it costs every worker 150 MB, and to
add one note or graph they read those of all trials.
"""

import json
import mimetypes
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.artifacts import ArtifactMeta

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

PIECE = 2045
"""Characters in one attribute; a longer text is cut into pieces with numbers."""
_UPLOADED, _ATTACHED = "artifacts:", "dashboard:artifacts:"

Attributes = Mapping[str, Any]


def trial_note(trial_id: int, text: str) -> dict[str, Any]:
    """The attributes of the study that hold the first Markdown note of a trial."""
    owner = f"dashboard:{trial_id}:note"
    return {f"{owner}_ver": 1, **_pieces(f"{owner}_str:", text, {})}


def study_note(text: str, old: Attributes) -> dict[str, Any]:
    """The attributes of a study that replace its note; `old` are those it has."""
    version = old.get("dashboard:note_ver", 0) + 1
    return {"dashboard:note_ver": version, **_pieces("dashboard:note_str:", text, old)}


def read_study_note(attributes: Attributes) -> str:
    """The study's note; "" when it has none."""
    return _joined("dashboard:note_str:", attributes)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for a note."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def graph(name: str, figure: Mapping[str, Any], old: Attributes) -> dict[str, Any]:
    """The attributes of a study that hold a Plotly figure, `{"data": [...], "layout": {...}}`.

    Args:
        name: letters, digits, `-`, `_`, `.`; a figure of the same name is replaced.
        old: the attributes the study has.
    """
    text = json.dumps(figure, separators=(",", ":"))
    return _pieces(f"dashboard:plot_data:{name}:", text, old)


def _pieces(prefix: str, text: str, old: Attributes) -> dict[str, str]:
    """`text` in pieces; those that a longer text has left in `old` become empty."""
    count = max(-(-len(text) // PIECE), sum(key.startswith(prefix) for key in old))
    return {f"{prefix}{i}": text[i * PIECE : (i + 1) * PIECE] for i in range(count)}


def _joined(prefix: str, attributes: Attributes) -> str:
    count = sum(key.startswith(prefix) for key in attributes)
    return "".join(attributes[f"{prefix}{i}"] for i in range(count))


def upload(store: "ArtifactStore", path: Path) -> tuple[str, str]:
    """Put a file into a store; its id there, and what a storage keeps about it.

    The storage is to be told afterwards, so that it never names a file that is not there.
    """
    mimetype, encoding = mimetypes.guess_type(path.name)
    meta = ArtifactMeta(
        artifact_id=str(uuid.uuid4()),
        filename=path.name,
        mimetype=mimetype or "application/octet-stream",
        encoding=encoding,
    )
    with path.open("rb") as file:
        store.write(meta.artifact_id, file)
    return meta.artifact_id, json.dumps(asdict(meta))


def uploaded_key(artifact: str) -> str:
    """The attribute of a running trial that names one of its files."""
    return f"{_UPLOADED}{artifact}"


def attached_key(trial_id: int, artifact: str) -> str:
    """The attribute of the study that names a file of a trial, which may be finished."""
    return f"{_ATTACHED}{trial_id}:{artifact}"


def attached_names(trial_id: int, attributes: Attributes) -> set[str]:
    """Names of the files that a study's attributes add to a trial."""
    prefix = attached_key(trial_id, "")
    metas = (json.loads(text) for key, text in attributes.items() if key.startswith(prefix))
    return {meta["filename"] for meta in metas if meta is not None}


def artifact_path(study_id: int, trial_id: int, artifact: str) -> str:
    """Where the dashboard serves a file of a trial; for links in notes."""
    return f"/artifacts/{study_id}/{trial_id}/{artifact}"
