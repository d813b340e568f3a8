"""`clapp train --trial`: train a trial of a study again, from its record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapp.commands.train import train_to_folder
from clapp.config import Config, flatten, identity, load_config, nest
from clapp.errors import ConfigError, UserError
from clapp.front.outcomes import candidates, objectives
from clapp.front.pick.choose import Finished, pick
from clapp.front.record import TrialRecord, record_of
from clapp.study.plan.existing import load_existing
from clapp.study.storage.heritage import ancestor_of, inherited_weights
from clapp.system.process import prepare_process
from clapp.training.losses import loss_text
from clapp.training.provenance import provenance

if TYPE_CHECKING:
    from optuna import Study

SAME = 1e-6
"""Relative difference of losses allowed where versions, processor and pictures are the same."""
ELSEWHERE = 0.5
"""Relative difference allowed otherwise: roundings differ, and a training amplifies them.

Twice what was seen at most when 16 trials were repeated without AVX-512; see docs/robustness.md.
"""
_DECISIVE = ("versions", "device", "processor", "threads", "source")


@dataclass(frozen=True)
class Repetition:
    """A trial and its repetition.

    Attributes:
        path: the folder with the new model.
        original: the loss in the study.
        loss: the new one.
        difference: difference of both losses, relative to the original.
        differs: facts that have changed, such as `versions.torch`.
        tolerance: the difference allowed with these changes.
    """

    study: str
    trial: int
    path: str
    original: float
    loss: float
    difference: float
    differs: list[str]
    tolerance: float

    def document(self) -> dict[str, Any]:
        """The repetition as a JSON document."""
        return asdict(self) | {"within": self.within}

    @property
    def within(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance

    def describe(self) -> str:
        """The repetition in words."""
        where = f"not as it was: {', '.join(self.differs)}" if self.differs else "all as it was"
        return (
            f"{self.path}: trial {self.trial} of {self.study} again: "
            f"loss {loss_text(self.loss)}, it was {loss_text(self.original)}; "
            f"relative difference {self.difference:.2g} is "
            f"{'within' if self.within else 'beyond'} the tolerance of {self.tolerance:g} ({where})"
        )


def repeat(
    study: str,
    which: str,
    results: Path,
    storage: str | None,
    out: Path | None,
    overwrite: bool = False,
) -> Repetition:
    """Train a trial of a study again, into `out` or a folder named after it.

    Args:
        which: its number, or a picking rule.

    Raises:
        UserError: there is no such study or trial, or the trial was not trained, or its end cannot
            be reproduced.
    """
    loaded = load_existing(study, results, storage)
    trials = loaded.get_trials(deepcopy=False)
    number = _number(which, loaded)
    if not 0 <= number < len(trials):
        raise UserError(f"study {study} has no trial {number}; it has {len(trials)}, from 0 up")
    record = record_of(trials[number])
    recorded, original, until = record.provenance, record.loss, None
    if original is None and record.stopped is not None:
        until, original = record.stopped["step"], float(record.stopped["l2"])
    if recorded is None or original is None:
        reason = record.skipped and f"skipped: {record.skipped}"
        reason = reason or (record.failed and f"failed: {record.failed}")
        state = trials[number].state.name.lower()
        raise UserError(f"trial {number} of study {study} was never trained: {reason or state}")
    config = configuration_of(number, record)
    prepare_process(threads=recorded["threads"])
    folder = out or Path(config.train.output_dir) / f"{loaded.study_name}-{number:05d}"
    weights = inherited_weights(config, ancestor_of(record, trials))
    result = train_to_folder(config, folder, until=until, overwrite=overwrite, weights=weights)
    differs = _differs(recorded, provenance(config, result["device"]))
    return Repetition(
        study=loaded.study_name,
        trial=number,
        path=str(folder),
        original=original,
        loss=result["loss"],
        difference=abs(result["loss"] - original) / original if original else abs(result["loss"]),
        differs=differs,
        tolerance=ELSEWHERE if differs else SAME,
    )


def _number(which: str, study: "Study") -> int:
    """The trial that a number or a picking rule stands for.

    Raises:
        UserError: it is neither, or the rule picks nothing.
    """
    if which.isdecimal():
        return int(which)
    return pick(which, Finished.of(candidates(study), objectives(study))).trial


def configuration_of(number: int, record: TrialRecord) -> Config:
    """The configuration of a trained trial, as far as it went.

    Raises:
        ConfigError: this version of CLAPP cannot read the configuration.
    """
    differs, origin = record.config or {}, record.provenance or {}
    config = load_config(nest(differs))
    if identity(config) != record.key:
        commit = origin["commit"] or origin["versions"]["clapp"]
        raise ConfigError(
            f"trial {number}: configurations mean something else since; use CLAPP at {commit}"
        )
    changes = {**differs, "train.max_seconds": None}
    if record.stop_reason == "time":  # a time limit would stop it at another step
        if config.num_resolutions > 1:
            raise UserError(
                f"trial {number}: its time limit ended it in the midst of "
                f"{config.num_resolutions} resolutions, which cannot be repeated"
            )
        most = record.iterations or 1
        changes["train.max_iterations"] = most
        changes["train.min_iterations"] = min(config.train.min_iterations, most)
    return load_config(nest(changes))


def _differs(before: Mapping[str, Any], now: dict[str, Any]) -> list[str]:
    """Dotted names of facts that affect the last digits of a result and have changed."""
    old, new = (flatten({name: one[name] for name in _DECISIVE}) for one in (before, now))
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
