"""Provenance of a trained network: seeds, versions, data and machine, to repeat its training."""

import json
import platform
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clapp import __version__
from clapp.config import Config, DataConfig
from clapp.pool.eviction import digest
from clapp.system.files import PACKAGE

# Imported module -> the distributions that may provide it, the usual one first.
_PACKAGES = {
    "torch": ("torch",),
    "numpy": ("numpy",),
    "optuna": ("optuna",),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
}
_PROC = Path("/proc")


def provenance(config: Config, device: str) -> dict[str, Any]:
    """Seeds, versions, commit, device, pictures and machine of a training, as for JSON.

    Args:
        config: the configuration that was trained.
        device: the device it was trained on, as torch names it.
    """
    import torch

    return {
        "seed": config.train.seed,
        "batch_seed": config.train.batch_seed,
        "versions": versions(),
        "commit": commit(),
        "device": device,
        "processor": device_name(device),
        "threads": torch.get_num_threads(),
        "source": {"train": source(config.train_data), "validation": source(config.valid_data)},
        "host": socket.gethostname(),
        "platform": platform.platform(),
    }


def source(data: DataConfig) -> dict[str, str]:
    """The source of the pictures, its split, and a digest that changes when the pictures would."""
    keys = set(DataConfig.model_fields) - {"target_filter"}
    return {
        "name": data.name,
        "split": data.split,
        "digest": _source_digest(data.model_dump_json(include=keys)),
    }


@cache  # cached: listing a large folder takes seconds
def _source_digest(data: str) -> str:
    from clapp.images import open_source

    return digest(open_source(DataConfig(**json.loads(data), target_filter=None)).fingerprint())


@cache
def versions() -> dict[str, str]:
    """Versions of CLAPP, Python and the packages that can change a result."""
    packages = {names[0]: _version(module, names) for module, names in _PACKAGES.items()}
    return {"clapp": __version__, "python": platform.python_version(), **packages}


def _version(module: str, distributions: Sequence[str]) -> str:
    """The version of an imported module, and the name of its distribution unless it is the usual
    one."""
    usual = distributions[0]
    for name in distributions:
        try:
            return version(name) if name == usual else f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    # A package of the operating system, or one built by hand, may have no metadata.
    return str(getattr(import_module(module), "__version__", "unknown"))


@cache
def commit() -> str | None:
    """The commit of the clone that CLAPP runs from, with `-dirty` if files changed; None: no
    clone."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return processor()


@cache
def processor() -> str:
    """The processor's name."""
    try:
        lines = (_PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
