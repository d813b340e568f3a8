"""Write recorded learning curves to one Parquet file, and read them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from clapp.errors import UserError
from clapp.system.files import PACKAGE, atomic_path

DEFAULT = PACKAGE / "replay" / "sobel3.parquet"
_ABOUT = b"clapp"
_SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("parent", pa.int32()),
        ("config", pa.string()),
        ("params", pa.int32()),
        ("flops", pa.int64()),
        ("loss", pa.float64()),
        ("stop_reason", pa.string()),
        ("cpu_seconds", pa.float32()),
        ("steps", pa.list_(pa.int32())),
        ("seconds", pa.list_(pa.float32())),
        ("train_loss", pa.list_(pa.float32())),
        ("l2", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class Table:
    """Configurations trained to the end.

    Attributes:
        study: the study file, as a document, from whose space and settings they were drawn.
        mean: L2 of predicting the mean of the validation targets.
        configs: N mappings of dotted key -> value, the keys that were drawn.
        sizes: (N, 2), parameters and FLOPs.
        steps: (S,), optimiser steps of the validations that all have.
        l2: (N, S), validation L2 there; infinite after a divergence.
        seconds: (N,), CPU time of the whole training on the machine that recorded it.
    """

    study: dict[str, Any]
    mean: float
    configs: list[dict[str, Any]]
    sizes: NDArray[np.float64]
    steps: NDArray[np.int64]
    l2: NDArray[np.float64]
    seconds: NDArray[np.float64]


def write(rows: Iterable[dict[str, Any]], study: dict[str, Any], mean: float, path: Path) -> int:
    """Write the recorder's rows in the order of their numbers; of equal configurations, the first.

    Returns:
        How many were written.
    """
    unique: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["number"]):
        config = json.dumps(row["config"], sort_keys=True)
        unique.setdefault(config, {"parent": None} | row | {"config": config})
    flat = list(unique.values())
    table = pa.Table.from_pylist(flat, schema=_SCHEMA)
    about = json.dumps({"study": study, "mean": mean})
    with atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata({_ABOUT: about}),
            temporary,
            compression="zstd",
            compression_level=19,
        )
    return len(flat)


def read(path: Path = DEFAULT) -> Table:
    """Read a file of `write`.

    Raises:
        UserError: the file does not exist, or has another content.
    """
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[_ABOUT])
        rows = table.select(_SCHEMA.names).to_pylist()
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a file of recorded curves: {error}") from error
    if not rows:
        raise UserError(f"{path}: there are no recorded curves in it")
    last = max(row["steps"][-1] for row in rows)
    # Steps of Levenberg-Marquardt count as twenty, so its validations come at 60, 100, 160, ...
    whole = [set(row["steps"]) for row in rows if row["steps"][-1] == last]
    steps = sorted(set.intersection(*whole))
    return Table(
        study=about["study"],
        mean=about["mean"],
        configs=[json.loads(row["config"]) for row in rows],
        sizes=np.array([[row["params"], row["flops"]] for row in rows], float),
        steps=np.array(steps),
        l2=np.array([_at(row, steps) for row in rows]),
        seconds=np.array([_whole(row, last) for row in rows], float),
    )


def _at(row: dict[str, Any], steps: list[int]) -> list[float]:
    """The losses at these steps; infinite from a divergence on."""
    known = {step: l2 for step, l2 in zip(row["steps"], row["l2"], strict=True) if l2 == l2}
    return [known.get(step, np.inf) for step in steps]


def _whole(row: dict[str, Any], last: int) -> float:
    """The estimated time of a training that diverged, had it gone on to the end."""
    return float(row["cpu_seconds"] * last / row["steps"][-1])
