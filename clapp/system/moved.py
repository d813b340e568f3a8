"""Old import paths that still work: modules that moved, and names that moved down in a package.

For `import clapp.infer`, which has no file, the finder here creates a module that takes its names
from the modules they moved to, and warns. It imports them when a name is first used.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOT = "clapp"

MODULES = {
    "activations": "models.activations models.words",
    "adam": "training.optimisers.adam",
    "batches": "pool.batches",
    "cache": "pool.eviction",
    "card": "export.card",
    "cli": "commands.app",
    "console": "system.console",
    "convolution": "models.fast_conv.layer",
    "convolution_numba": "models.fast_conv.compiled",
    "costs": "models.costs models.measure images.synthetic",
    "curve": "training.curve",
    "dashboard": "study.dashboard.server",
    "device": "training.device",
    "evaluate": "inference.evaluate",
    "explain": "config.explain",
    "feeder": "pool.feeder",
    "files": "system.files system.strict_yaml",
    "filters_torch": "filters.on_device",
    "hypervolume": "front.hypervolume",
    "infer": "inference.picture",
    "initialise": "models.networks.initialise",
    "filters.code": "filters.custom",
    "filters.kernels": "filters.random_kernels filters.linear",
    "kernels": "filters.random_kernels filters.linear",
    "listing": "study.listing",
    "losses": "training.losses",
    "metrics": "inference.metrics",
    "model": "models.build models.networks.filternet models.families.filternet",
    "models.filternet": "models.build models.networks.filternet models.families.filternet",
    "models.initialise": "models.networks.initialise",
    "onnx_export": "export.onnx",
    "optimize": "commands.optimize",
    "pick": "front.pick",
    "preview": "training.preview",
    "process": "system.process",
    "progress": "system.progress",
    "provenance": "training.provenance",
    "repeat": "commands.repeat",
    "runner": "inference.runner",
    "schedule": "training.schedule",
    "single": "commands.train",
    "slots": "pool.store",
    "stopping": "training.stopping",
    "study.artifacts": "study.dashboard.artifacts",
    "study.crew": "study.running.crew",
    "study.dbfile": "study.storage.storage",
    "study.draw": "study.sampling.draw",
    "study.driver": "study.running.driver",
    "study.failures": "study.running.failures study.storage.storage",
    "study.features": "study.sampling.features",
    "study.files": "study.plan.files",
    "study.followed": "study.running.followed",
    "study.frontsampler": "study.sampling.front_trees",
    "study.graphs": "study.dashboard.graphs",
    "study.job": "study.running.job",
    "study.keep": "study.storage.keep",
    "study.ledger": "front.ledger",
    "study.live": "study.display.live",
    "study.liveness": "study.storage.liveness",
    "study.objective": "config.identity study.running.objective",
    "study.overview": "study.dashboard.overview",
    "study.parameters": "study.plan.parameters study.pruning.problem",
    "study.prepare": "study.plan.definition study.preparing.prepare",
    "study.proxy": "study.storage.signs study.storage.proxy study.storage.client",
    "study.pruners": "study.pruning.pruners",
    "study.recovery": "study.storage.retries study.running.recovery",
    "study.sampler": "system.seeding study.sampling.samplers",
    "study.screen": "study.display.screen",
    "study.snapshot": "study.display.snapshot",
    "study.space": "study.plan.space",
    "study.stop": "study.running.stop",
    "study.study_note": "study.dashboard.study_note",
    "study.trials": "front.trials front.record study.storage.retries",
    "study.watch": "study.pruning.decide study.running.watch",
    "study.words": "study.display.words",
    "study.worker": "study.running.worker",
    "tensors": "training.tensors",
    "textplot": "study.display.textplot",
    "trackers": "training.trackers",
    "trackers.event_files": "training.trackers.event_files",
    "trackers.weights_and_biases": "training.trackers.weights_and_biases",
    "trialfiles": "training.folder",
    "validation": "pool.validation",
    "words": "models.words",
}
"""Old module -> the modules its names moved to; of several with a name the first one counts."""

NAMES = {
    "export": {"folder": "CARD FILES ONNX ExportResult export_folder export_pick"},
    "filters": {
        "base": "EPSILON LUMA FilterFunction FilterSpec Picture Plane luma",
        "edges": "sobel_3 sobel_canny_5",
        "library": "Filter apply_filter known_filters resolve",
        "random_kernels": "random2_51_15 random_41",
    },
    "front": {
        "outcomes": "REFERENCE Candidate beats candidates counted counts front front_of "
        "reference_among reference_of",
        "tables": "front_document front_table print_front write_front",
    },
    "pool": {"pool": "LIMIT Pool"},
    "study.plan": {
        "definition": "CHANGEABLE first_difference",
        "plan": "ENGINE Plan make_plan plan_from",
    },
    "study.storage": {
        "redaction": "redact without_secrets",
        "storage": "BUSY_SECONDS GRACE_SECONDS HEARTBEAT_SECONDS default_url "
        "open_storage storage_errors storage_lost",
    },
    "training": {
        "result": "Point Progress Report TrainResult",
        "trainer": "Trainer check train",
    },
}
"""Old module that is now a package -> module in it -> the names that moved to that module."""


class Finder:
    """Finds the modules of `MODULES`. The last on `sys.meta_path`: asked only for missing ones."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        """The import specification of a module that moved; None for any other name."""
        top, _, old = name.partition(".")
        if top != ROOT or old not in MODULES:
            return None
        homes = _absolute(MODULES[old].split())
        return ModuleSpec(name, _Loader(homes), is_package=_has_modules(old))  # type: ignore[arg-type]


class _Loader:
    """Creates the replacement of a module that moved."""

    def __init__(self, homes: Sequence[str]) -> None:
        self._homes = homes

    def create_module(self, _spec: ModuleSpec) -> None:
        """Let Python create the module."""

    def exec_module(self, module: ModuleType) -> None:
        homes, old = self._homes, module.__name__
        _warn(f"{old} has moved: import from {' or '.join(homes)}")
        module.__doc__ = f"Moved to {', '.join(homes)}."
        module.__getattr__ = lambda name: _look_up(old, homes, name)  # type: ignore[method-assign]
        module.__dir__ = lambda: sorted(_public(homes))  # type: ignore[method-assign]


def install() -> None:
    """Make modules that moved importable by their old names; further calls do nothing."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


def moved_names(package: str) -> Callable[[str], Any]:
    """A `__getattr__` for a package that used to be a module: it finds names that moved down."""
    rows = NAMES[package.removeprefix(f"{ROOT}.")]
    homes = {name: f"{package}.{home}" for home, names in rows.items() for name in names.split()}

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        _warn(f"{package}.{name} has moved: import it from {homes[name]}")
        return getattr(import_module(homes[name]), name)

    return __getattr__


def _look_up(old: str, homes: Sequence[str], name: str) -> Any:
    if not name.startswith("__"):
        for home in homes:
            module = import_module(home)
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {old!r} has no attribute {name!r}; it moved to {homes}")


def _public(homes: Sequence[str]) -> set[str]:
    return {name for home in homes for name in dir(import_module(home)) if name[:1] != "_"}


def _absolute(homes: Sequence[str]) -> list[str]:
    return [f"{ROOT}.{home}" for home in homes]


def _has_modules(old: str) -> bool:
    return any(other.startswith(f"{old}.") for other in MODULES)


def _warn(text: str) -> None:
    """Warn at the line that imports; Python skips the frames of its import system."""
    warnings.warn(text, DeprecationWarning, stacklevel=3)
