"""The folder of one trained model: weights, configuration, curve, result and pictures."""

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from clapp import __version__
from clapp.config import Config, load_stored
from clapp.errors import ConfigError, UserError
from clapp.models.build import Network, build_model
from clapp.models.costs import cost
from clapp.models.fast_conv.layer import fast_convolutions
from clapp.models.published import model_folder
from clapp.system.files import atomic_path, dump_json, write_text
from clapp.system.strict_yaml import dump_yaml
from clapp.training.curve import curve_svg
from clapp.training.provenance import provenance

if TYPE_CHECKING:
    from clapp.training.trainer import TrainResult

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
CURVE = "curve.json"
CURVE_PICTURE = "curve.svg"
RESULT = "result.json"
FORMAT = 1
"""Format number of a trial folder; it rises when older versions would read a folder wrongly.

The metadata of the weights hold it, with the version of CLAPP that wrote them. Folders without it
are read as format 1.
"""
PREVIEW = "preview.png"


def save_trained(
    folder: Path, config: Config, result: "TrainResult", *, pictures: bool = True
) -> None:
    """Write the results of a training: weights, configuration, curve and result.

    The weights are written last, so a folder with weights is complete.

    Args:
        pictures: draw the curve and a preview as well; `draw_pictures` can do it later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder, config)
    write_text(folder / CURVE, dump_json([asdict(point) for point in result.curve]))
    write_text(folder / RESULT, dump_json(_result(config, result)))
    if pictures:
        from clapp.training.preview import write_preview

        _draw_curve(folder)
        # A training on the CPU has loaded the compiled convolutions already. torch would first
        # prepare its own for the size of the preview, which takes longer than all else here.
        loaded = result.device == "cpu"
        with fast_convolutions(result.model) if loaded else nullcontext():
            write_preview(folder / PREVIEW, result.model, config)
    save_weights(folder, result.model)


def draw_pictures(folder: Path) -> list[Path]:
    """Draw the curve and the preview of a saved model if they are missing.

    Raises:
        UserError: the folder holds no model, or the validation pictures cannot be read.
    """
    from clapp.training.preview import write_preview

    if not (folder / CURVE_PICTURE).is_file():
        _draw_curve(folder)
    if not (folder / PREVIEW).is_file():
        model, config = load_trained(folder)
        write_preview(folder / PREVIEW, model, config)
    return [path for path in (folder / PREVIEW, folder / CURVE_PICTURE) if path.is_file()]


def _draw_curve(folder: Path) -> None:
    try:
        curve = json.loads((folder / CURVE).read_text(encoding="utf-8"))
        points = [(point["step"], point["l2"]) for point in curve]
    except (OSError, ValueError, TypeError, KeyError):
        return  # there is no curve to draw
    finite = [(step, l2) for step, l2 in points if l2 is not None and math.isfinite(l2)]
    if finite:
        write_text(folder / CURVE_PICTURE, curve_svg(finite))


def save_weights(folder: Path, model: torch.nn.Module) -> None:
    """Write `model.safetensors`."""
    with atomic_path(folder / WEIGHTS) as path:
        values = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
        save_file(values, path, {"format": str(FORMAT), "clapp": __version__})


def save_config(folder: Path, config: Config) -> None:
    """Write `config.yaml`: every key, except that no access token is ever written down."""
    values = config.model_dump()
    for section in ("train_data", "valid_data", "test_data"):
        values[section]["token"] = None
    write_text(folder / CONFIG, dump_yaml(values))


def load(path: str | Path) -> Network:
    """The trained model in an export or trial folder, on the CPU and in eval mode.

    A name such as `sobel3:23` means the published model of that study with 23 parameters.

    It takes float32 (N, 3, H, W) in [0, 1] and returns (N, 1 or 3, H, W), not clamped; one with
    settings takes these by name: `model(x, sigma=1.2)`. Nothing is unpickled.

    Raises:
        UserError: the folder or a file of it is missing or broken, or no such model is published;
            the message names it, or lists what is published.
    """
    model, config = load_trained(path)
    if not config.parameter:
        return model
    from clapp.models.networks.adjustable import Adjustable

    return cast(Network, Adjustable(model, config.settings, str(path)).eval())


def load_trained(path: str | Path) -> tuple[Network, Config]:
    """The trained model in a folder, and the configuration it was trained with; see `load`.

    Raises:
        UserError: see `load`.
    """
    folder = model_folder(path)
    if not folder.is_dir():
        reason = "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{folder}: {reason}; an export or trial folder is expected; "
            "`clapp export STUDY` writes one"
        )
    config_file, weights = _present(folder / CONFIG), _present(folder / WEIGHTS)
    writer = _writer(weights)
    try:
        config = load_stored(config_file)
    except ConfigError as error:
        if writer in (None, __version__):
            raise
        raise ConfigError(f"{error}; CLAPP {writer} wrote it, this is {__version__}") from error
    with torch.device("meta"):  # built without initial values: the file has the weights
        model = build_model(config.model)
    _load_weights(model, weights)
    return model.eval(), config


def _writer(weights: Path) -> str | None:
    """The version of CLAPP that wrote the weights, or None where they do not say.

    Raises:
        UserError: the file is broken, or of a newer format than this version reads.
    """
    try:
        with safe_open(weights, "pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights}: cannot be read: {error}") from error
    written = metadata.get("format", "1")
    if not written.isdecimal():  # other programs write texts such as `pt`
        return None
    if int(written) > FORMAT:
        raise UserError(
            f"{weights.parent}: CLAPP {metadata.get('clapp', '(unknown)')} wrote it in format "
            f"{written}; this is CLAPP {__version__}, which reads formats up to {FORMAT}"
        )
    return metadata.get("clapp")


def read_result(folder: Path) -> dict[str, Any]:
    """The content of `result.json`.

    Raises:
        UserError: it is missing or broken.
    """
    path = _present(folder / RESULT)
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return result


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder with weights and a configuration."""
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def _present(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; an export or trial folder has {WEIGHTS} and {CONFIG}"
        )
    return path


def _load_weights(model: Network, path: Path) -> None:
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    expected, found = _shapes(model.state_dict()), _shapes(weights)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{path}: does not fit {CONFIG} beside it: {name} is "
                f"{found.get(name, 'missing')} here and {expected.get(name, 'absent')} there"
            )
    model.load_state_dict(weights, assign=True)


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    return {name: f"{value.dtype} {tuple(value.shape)}" for name, value in weights.items()}


def _result(config: Config, result: "TrainResult") -> dict[str, Any]:
    size = cost(config.model)
    return {
        "loss": result.loss,
        "ema": result.ema,
        "stop_reason": result.stop_reason,
        "iterations": result.iterations,
        "images": result.images,
        "seconds": result.seconds,
        "timings": result.timings,
        **(result.spread.facts() if result.spread is not None else {}),
        "params": size.params,
        "flops": size.flops,
        **provenance(config, result.device),
    }
