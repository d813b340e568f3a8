"""Export the model that a rule picks from a study to a folder that does not need CLAPP."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clapp import __version__
from clapp.config import Config, HeldBackConfig
from clapp.export.card import Figures, Origin, Proof, write_card
from clapp.export.formats import FORMATS, ONNX, Bundle, Difference, Written
from clapp.export.options import Options, check_options, check_target
from clapp.export.writers import compare, write_format
from clapp.front.objectives import amount, loss_text
from clapp.front.optimism import Both
from clapp.front.outcomes import candidates, objectives, reference_of
from clapp.front.pick.choose import Finished, pick
from clapp.front.pick.resampled import Stability, stability
from clapp.front.pick.rules import folder_name, meaning
from clapp.inference.heldout import Measured, measured, test_data_of, with_test_data
from clapp.inference.runner import as_batch
from clapp.models.build import Network
from clapp.models.targets.profile import find_target
from clapp.study.plan.definition import DEFINITION
from clapp.study.plan.existing import load_existing
from clapp.study.storage.keep import trial_folder
from clapp.system.files import replaced_folder, write_text
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
from clapp.training.preview import write_preview

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
        both: its loss on validation and test pictures as measured now, or before and elsewhere;
            None: never.
        stability: how often the rule chooses it when losses are resampled; None: not known.
        note: why the pictures could not be measured here.
    """

    path: Path
    trial: int
    params: int
    flops: int
    loss: float
    files: tuple[str, ...]
    parity: float
    both: Both | None = None
    stability: Stability | None = None
    note: str = ""

    def document(self) -> dict[str, Any]:
        """What `clapp export --json` prints."""
        names = ("trial", "params", "flops", "loss", "files")
        values = {"path": str(self.path)} | {name: getattr(self, name) for name in names}
        if self.both is not None:
            values |= self.both.validation.document() | self.both.document()
        if self.stability is not None:
            values["stability"] = self.stability.document()
        return values

    @property
    def trust(self) -> list[str]:
        """What is known of how far the loss can be trusted, a line each."""
        lines = []
        if self.both is not None:
            for name, one in (("validation", self.both.validation), ("test", self.both.test)):
                lines.append(f"{name} loss {loss_text(one.mean)}, over {one.words()}")
            lines.append(f"test loss over validation loss: {self.both.ratio:.2f}")
        if self.stability is not None:
            lines.append(self.stability.words())
        return [*lines, *([self.note] if self.note else [])]

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
        storage: the URL of the study's storage; None: the file in the study's folder.
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
    test_data = test_data_of(loaded.user_attrs.get(DEFINITION, {}))
    return export_folder(folder, origin, out, options, test_data)


def _origin(study: "Study", rule: str) -> Origin:
    found = Finished.of(candidates(study), objectives(study))
    chosen, stable = pick(rule, found), stability(rule, found)
    return Origin(study.study_name, rule, meaning(rule), chosen, reference_of(study), stable)


def export_folder(
    results: Path,
    origin: Origin,
    out: Path,
    options: Options | None = None,
    test_data: HeldBackConfig | None = None,
) -> ExportResult:
    """Export the chosen model of a study to `out`, whole or not at all.

    Args:
        results: the folder of the study's results.
        test_data: the test set of the study as it is now; None: that of the trial.

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
    source = trial_folder(results, chosen.trial)
    model, config = load_trained(source)
    config = with_test_data(config, test_data)
    check_options(options, model.min_size)
    training = read_result(source)
    found = measured(results, chosen.trial, model, config)
    with replaced_folder(out, "export", _is_export) as folder:
        save_weights(folder, model)
        save_config(folder, config)
        properties = {
            "filter": json.dumps(config.target_filter),
            "params": str(chosen.params),
            "loss": str(chosen.loss if found.metrics is None else found.metrics.l2),
            "clapp": __version__,
        }
        proof = _proof(found.images, model.min_size, options.size)
        bundle = Bundle(folder, model, config, options, proof, properties)
        if options.target is not None:
            check_target(options, bundle.graph)
        written, differences = _write_formats(bundle)
        preview = _write_preview(folder / PREVIEW, source, found, model, config)
        sizes = [picture.shape[2:] for picture in proof]
        proven = Proof([(h, w) for h, w in sizes], differences)
        figures = Figures(found, model.min_size, training, preview)
        write_text(folder / CARD, write_card(config, origin, figures, written, proven, options))
    always = FILES if preview else tuple(name for name in FILES if name != PREVIEW)
    files = (*always, *(name for name in written.files if name not in FILES))
    onnx = differences[0].values
    assert not isinstance(onnx, str)  # what cannot be run is not exported
    sizes_and_loss = (chosen.trial, chosen.params, chosen.flops, chosen.loss)
    trust = (found.both, origin.stability, found.note)
    return ExportResult(out, *sizes_and_loss, files, max(onnx), *trust)


def _write_preview(
    path: Path, source: Path, found: Measured, model: Network, config: Config
) -> bool:
    """Draw the preview, or take the one that was drawn elsewhere; whether there is one."""
    if found.metrics is not None:
        write_preview(path, model, config)
    elif (source / PREVIEW).is_file():
        shutil.copyfile(source / PREVIEW, path)
    return path.is_file()


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


def _is_export(folder: Path) -> bool:
    return (folder / ONNX).is_file() and (folder / CARD).is_file()
