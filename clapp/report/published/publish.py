"""Publish a finished study: its front, its models, its learning curves and its origin.

A published study is a folder of small text files and weights, without pictures:

    front.json, front.csv   the front with losses on validation and test pictures, seeds, intervals
    models/NAME             weights and configuration of each model, see `clapp.models.published`
    curves.json             validation L2 of each model while it was trained: [[iteration, L2], ...]
    origin.json             command, versions, machine, seconds, trials
    STUDY.yaml              the study file, complete
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clapp.errors import UserError
from clapp.front.optimism import FrontTest
from clapp.front.outcomes import front_of
from clapp.front.outcomes import reference_of as reference_of_study
from clapp.front.record import record_of
from clapp.front.tables import front_csv, front_document
from clapp.inference.heldout import test_data_of, with_test_data
from clapp.models.published import FRONT, MODELS, REFERENCE, model_names
from clapp.report.classical import classical
from clapp.report.published.origin import origin
from clapp.report.tested import test_front
from clapp.study.listing import overview
from clapp.study.plan.definition import DEFINITION
from clapp.study.plan.existing import load_existing
from clapp.study.storage.keep import trial_folder
from clapp.study.storage.place import is_local
from clapp.system.files import dump_json, replaced_folder, write_text
from clapp.system.strict_yaml import dump_yaml
from clapp.training.folder import load_trained, read_result, save_config, save_weights
from clapp.training.losses import positive

if TYPE_CHECKING:
    from optuna import Study

    from clapp.config import Config

ORIGIN, CURVES = "origin.json", "curves.json"


class Published(NamedTuple):
    """A published study: its folder, the names of its models, and the bytes of its files."""

    path: Path
    models: list[str]
    bytes: int

    def words(self) -> str:
        """Such as "results/reference/sobel3: 35 models, 154 kB"."""
        return f"{self.path}: {len(self.models)} models, {self.bytes / 1e3:.0f} kB"

    def document(self) -> dict[str, Any]:
        """A study of `clapp publish --json`."""
        return self._asdict() | {"path": str(self.path)}


def publish(
    study: str, results: Path, storage: str | None = None, out: Path = Path(REFERENCE)
) -> Published:
    """Publish a finished study; what was published of it before is replaced.

    Its front and its reference are measured on the validation and the test pictures, unless that
    was done before.

    Args:
        study: its name, or the path of its file.
        results: the folder that holds a folder for each study.
        storage: the URL of its storage; None: the file in its folder.
        out: the folder to write its folder into.

    Raises:
        UserError: there is no such study, it is not finished, has no front, its models or pictures
            are missing, or `out` cannot be written.
    """
    loaded = load_existing(study, results, storage)
    name = loaded.study_name
    folder = results / name
    local = storage is None or is_local(storage)
    state = overview(loaded, folder, local=local).state
    if state != "finished":
        raise UserError(f"study {name} is {state}; a finished one is expected: search on")
    tested = test_front(loaded, folder)
    _check(loaded, tested)
    with replaced_folder(out / name, "published study", is_published) as place:
        models = _write(place, loaded, folder, tested)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return Published(out / name, models, size)


def is_published(folder: Path) -> bool:
    """Whether a folder holds a published study."""
    return (folder / FRONT).is_file() and (folder / ORIGIN).is_file()


def _check(study: "Study", tested: FrontTest) -> None:
    front = front_of(study)
    if not front:
        raise UserError(f"study {study.study_name}: has no front, as no trial is within its limits")
    missing = [str(one.trial) for one in front if one.trial not in tested.models]
    if missing:
        why = "; ".join(tested.notes) or "their files are missing"
        raise UserError(
            f"study {study.study_name}: trials {', '.join(missing)} of the front have no loss on "
            f"test pictures: {why}"
        )


def _write(place: Path, study: "Study", folder: Path, tested: FrontTest) -> list[str]:
    """Write all files, and return the names of the models."""
    document = front_document(study, tested)
    rows = document["front"]
    names = model_names(row["params"] for row in rows)
    trials, definition = study.get_trials(deepcopy=False), study.user_attrs[DEFINITION]
    test_data = test_data_of(definition)
    curves, config = {}, None
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        record = record_of(trials[row["trial"]])
        source = trial_folder(folder, row["trial"])
        (model, config), training = load_trained(source), read_result(source)
        config = with_test_data(config, test_data)
        save_weights(place / MODELS / name, model)
        save_config(place / MODELS / name, config)
        rows[number] = {
            "model": name,
            **{key: value for key, value in row.items() if key != "config"},
            "psnr": psnr(row["loss"]),
            "test_psnr": psnr(row["test_loss"]),
            "seed": config.train.seed,
            "optimizer": record.optimizer,
            **{key: training[key] for key in ("iterations", "images", "seconds", "device")},
            "config": row["config"],
        }
        curves[name] = [[step, l2] for step, _, l2 in record.curve or ()]
    assert config is not None
    document["front"] = rows
    document |= _about(study, config) | {"reference": _reference(study, tested)}
    write_text(place / FRONT, dump_json(document) + "\n")
    write_text(place / "front.csv", front_csv(rows))
    write_text(place / CURVES, _lines(curves))
    found = origin(study, [row["trial"] for row in rows], _workers(folder))
    write_text(place / ORIGIN, dump_json(found) + "\n")
    write_text(place / f"{study.study_name}.yaml", dump_yaml(dict(definition)))
    return names


def psnr(loss: float) -> float:
    """The peak signal-to-noise ratio of a mean squared error in dB, to two decimals.

    That of the mean error is never above the mean over pictures of each one's ratio.
    """
    return round(-10 * math.log10(positive(loss)), 2)


def _about(study: "Study", config: "Config") -> dict[str, Any]:
    spec, ranges = config.target_filter, config.parameter
    return {
        "description": study.user_attrs[DEFINITION].get("description", ""),
        "filter": spec,
        "filter_flops": classical(spec, ranges).flops,
    }


def _reference(study: "Study", tested: FrontTest) -> dict[str, Any] | None:
    """The hand-tuned reference of the study; None: it was not trained."""
    found = reference_of_study(study)
    if found is None or found.trial not in tested.models:
        return None
    both = tested.models[found.trial]
    document = found.document() | both.document() | {"test_psnr": psnr(both.test.mean)}
    del document["config"]
    return document


def _workers(folder: Path) -> int | None:
    """How many processes trained at once, from the ledger of the study."""
    try:
        found = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))["workers"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, int) else None


def _lines(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Curves as JSON, one in a line."""
    lines = [
        f"{json.dumps(name)}: {json.dumps([[step, float(f'{l2:.4g}')] for step, l2 in curve])}"
        for name, curve in curves.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"
