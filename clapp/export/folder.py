"""Export the model that a rule picks from a study to a folder that does not need CLAPP."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp import __version__
from clapp.errors import UserError
from clapp.export.card import Figures, Origin, Proof, write_card
from clapp.export.formats import FORMATS, ONNX, Bundle, Difference, Written
from clapp.export.options import Options, check_options, check_target
from clapp.export.writers import compare, write_format
from clapp.filters.base import as_unit
from clapp.front.objectives import amount, loss_text
from clapp.front.outcomes import candidates, front, objectives, reference_of
from clapp.front.pick import Finished, folder_name, meaning, pick
from clapp.inference.metrics import edges, mean, mean_edges, measure
from clapp.inference.runner import as_batch
from clapp.models.targets.profile import find_target
from clapp.pool.validation import validation_set
from clapp.study.plan.existing import load_existing
from clapp.study.storage.keep import trial_folder
from clapp.system.files import write_text
from clapp.system.progress import tell
from clapp.training.folder import (
    CONFIG,
    PREVIEW,
    WEIGHTS,
    load_trained,
    read_result,
    save_config,
    save_weights,
)
from clapp.training.int8.loss import loss_of
from clapp.training.preview import predict, write_preview

if TYPE_CHECKING:
    from optuna import Study

CARD = "card.md"
FILES = (CARD, CONFIG, ONNX, WEIGHTS, PREVIEW)


class ExportResult(NamedTuple):
    """An exported model.

    Attributes:
        path: its folder.
        loss: mean L2 over the validation set.
        files: the names of the files in it.
        parity: the largest difference found between ONNX Runtime and PyTorch.
    """

    path: Path
    trial: int
    params: int
    flops: int
    loss: float
    files: tuple[str, ...]
    parity: float

    def document(self) -> dict[str, Any]:
        """What `clapp export --json` prints."""
        values = self._asdict()
        del values["parity"]
        return values | {"path": str(self.path)}

    def figures(self) -> str:
        """The model in one line, such as "loss 0.004 (24.0 dB), 300 parameters, 8M FLOPs"."""
        return ", ".join(amount(name, getattr(self, name)) for name in ("loss", "params", "flops"))


def export_pick(
    study: str,
    rule: str,
    results: Path,
    storage: str | None = None,
    out: Path | None = None,
    options: Options | None = None,
) -> ExportResult:
    """Export the model that `rule` picks from a study.

    Args:
        study: its name, or the path of its file.
        rule: see `clapp.front.pick.describe_rules`.
        results: the folder that holds a folder for each study.
        storage: the URL of the study's storage; None: SQLite in the study's folder.
        out: the folder to write; None: `export/RULE` in the study's folder. An export that is
            there is replaced.
        options: formats beside ONNX, and how they are written.

    Raises:
        UserError: no such study, rule or trial; nothing satisfies the rule; the trial's files are
            missing or broken; `out` cannot be written or holds something else.
        ParityError: ONNX Runtime does not reproduce the model; nothing is written.
    """
    tell("reading the study")
    loaded = load_existing(study, results, storage)
    folder = results / loaded.study_name
    origin = _origin(loaded, rule)
    out = folder / "export" / folder_name(rule) if out is None else out
    return export_folder(trial_folder(folder, origin.chosen.trial), origin, out, options)


def _origin(study: "Study", rule: str) -> Origin:
    found = candidates(study)
    chosen = pick(rule, Finished(front(found, objectives(study)), found))
    return Origin(study.study_name, rule, meaning(rule), chosen, reference_of(study))


def export_folder(
    source: Path, origin: Origin, out: Path, options: Options | None = None
) -> ExportResult:
    """Export the model in the trial folder `source` to `out`, whole or not at all.

    Raises:
        UserError, ParityError: see `export_pick`.
    """
    options = options or Options()
    if options.target is not None:
        wanted = (*options.formats, *find_target(options.target).formats)
        options = replace(options, formats=tuple(dict.fromkeys(wanted)))
    for name in options.formats:
        FORMATS.find(name)
    chosen = origin.chosen
    model, config = load_trained(source)
    check_options(options, model.min_size)
    training = read_result(source)
    images, targets = validation_set(config.valid_data, config.target_filter)
    tell(f"running trial {chosen.trial} on {len(images)} validation pictures")
    outputs = predict(model, images)  # (N, S, S) or (N, S, S, 3)
    pairs = list(zip(outputs, as_unit(targets), strict=True))
    metrics = mean([measure(*pair) for pair in pairs])
    with _replacing(out) as folder:
        save_weights(folder, model)
        save_config(folder, config)
        properties = {
            "filter": json.dumps(config.target_filter),
            "params": str(chosen.params),
            "loss": str(metrics.l2),
            "clapp": __version__,
        }
        proof = _proof(images, model.min_size, options.size)
        bundle = Bundle(folder, model, config, options, proof, properties)
        if options.target is not None:
            check_target(options, bundle.graph)
        written, differences = _write_formats(bundle)
        write_preview(folder / PREVIEW, model, config)
        sizes = [picture.shape[2:] for picture in proof]
        proven = Proof([(h, w) for h, w in sizes], differences)
        found = mean_edges([edges(*pair) for pair in pairs])
        figures = Figures(metrics, len(images), model.min_size, training, found)
        write_text(folder / CARD, write_card(config, origin, figures, written, proven, options))
    files = (*FILES, *(name for name in written.files if name not in FILES))
    onnx = differences[0].values
    assert not isinstance(onnx, str)  # a model that cannot be run is not exported
    return ExportResult(
        out, chosen.trial, chosen.params, chosen.flops, chosen.loss, files, max(onnx)
    )


def _write_formats(bundle: Bundle) -> tuple[Written, list[Difference]]:
    """Write ONNX and the other requested formats."""
    files: dict[str, str] = {}
    facts: dict[str, str] = {}
    differences: list[Difference] = []
    for name in dict.fromkeys(("onnx", *bundle.options.formats)):
        tell(f"writing the format {name} and comparing it with PyTorch")
        written, found = write_format(name, bundle)
        files |= written.files
        facts |= written.facts
        differences += found
    if bundle.options.target is not None:
        more, found = _of_target(bundle, bundle.options.target)
        facts, differences = more | facts, [*differences, *found]
    return Written(files, facts), differences


def _of_target(bundle: Bundle, name: str) -> tuple[dict[str, str], list[Difference]]:
    """What the card says of the target: what was rewritten for it, and with which loss."""
    steps = bundle.fitted
    said = f"{name}: {find_target(name).description}"
    exact = [what for what in steps.exact if what not in steps.lossy]
    if exact:
        said += f" Written by other operators without loss: {', '.join(exact)}."
    if not steps.lossy:
        return {"target": said}, []
    said += f" Written by straight pieces, nearly the same: {', '.join(steps.lossy)}."
    loss = loss_of(bundle.config, steps.graph, steps.state, None)
    found = compare(bundle, f"as written for {name}", bundle.expected, rewritten=False)
    return {"target": said, f"loss as written for {name}": loss_text(loss)}, [found]


def _proof(
    images: NDArray[np.uint8], least: int, size: tuple[int, int] | None
) -> list[NDArray[np.float32]]:
    """Crops of validation pictures with even, odd and unequal sides: float32 (1, 3, H, W) each.

    Args:
        least: the smallest side that the model accepts.
        size: the only size that the files accept; None: any.
    """
    if size is not None:
        return [as_batch(_of_size(image, *size)) for image in images[:3]]
    side = images.shape[1]
    sizes = [(side, side), (side * 2 // 3 | 1, side // 2 | 1), (side // 3, side - 1 | 1)]
    pieces = []
    for number, (height, width) in enumerate(sizes):
        image = images[number % len(images)]
        pieces.append(as_batch(_of_size(image, max(height, least), max(width, least))))
    return pieces


def _of_size(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The top left corner of the picture, which is mirrored as often as needed."""
    more = [max(0, height - image.shape[0]), max(0, width - image.shape[1])]
    padded = np.pad(image, ((0, more[0]), (0, more[1]), (0, 0)), mode="symmetric")
    return padded[:height, :width]


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out` that becomes `out` on success and vanishes otherwise.

    Raises:
        UserError: `out` cannot be written, or is something other than an export.
    """
    out = out.absolute()
    if out.exists() and not _replaceable(out):
        raise UserError(f"{out}: is there already and is no export; choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error
    try:
        (workshop / "new").mkdir()  # the temporary folder is readable by its owner only
        yield workshop / "new"
        if out.exists():
            out.rename(workshop / "old")
        (workshop / "new").rename(out)
    finally:
        shutil.rmtree(workshop)


def _replaceable(out: Path) -> bool:
    return out.is_dir() and (
        ((out / ONNX).is_file() and (out / CARD).is_file()) or not any(out.iterdir())
    )
