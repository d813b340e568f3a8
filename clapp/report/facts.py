"""The details at the end of a report: reasons, ledger, provenance, configurations."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from clapp.config import flatten, nest
from clapp.errors import UserError
from clapp.report import words
from clapp.report.data import StudyData
from clapp.study.storage.keep import trial_folder
from clapp.system.strict_yaml import dump_yaml
from clapp.training.folder import read_result

_SEEDS = ("seed", "batch_seed")
_LABELS = {
    "workers": "workers",
    "total": "time of all workers",
    "stopped": "trials stopped early",
    "saved_seconds": "training saved by stopping early",
    "outcomes.to the end": "time in trials trained to the end",
    "outcomes.stopped early": "time in trials stopped early",
    "outcomes.audited": "time in trials that ran on to check early stopping",
    "outcomes.skipped": "time in skipped trials",
    "outcomes.failed": "time in failed trials",
}


def text(value: Any) -> str:
    """A value as users write it in files."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(part)}" for key, part in flatten(dict(value)).items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return words.short(value) if isinstance(value, float) else str(value)


def reasons(data: StudyData) -> list[tuple[str, int]]:
    """The reasons why trials were skipped or failed, most frequent first."""
    found = [f"{trial.outcome}: {trial.reason}" for trial in data.trials if trial.reason]
    return Counter(found).most_common(8)


def ledger(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ledger without the seconds by activity, which have their own figure."""
    rest = flatten({key: value for key, value in document.items() if key != "seconds"})
    return [(_label(k), _value(k, v)) for k, v in rest.items() if v is not None]


def _label(key: str) -> str:
    return _LABELS.get(key) or key.replace("_", " ").replace(".", ": ").replace("audit:", "check:")


def _value(key: str, value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) == 2:
        return f"{_value(key, value[0])} to {_value(key, value[1])}"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return text(value)
    if key.endswith(("share", "interval")):
        return f"{100 * value:.3g} %"
    if key in ("wall", "total") or key.endswith("seconds") or key.startswith("outcomes."):
        return words.duration(value)
    return words.short(value) if isinstance(value, float) else f"{value:,}"


def provenance(data: StudyData) -> list[tuple[str, str]]:
    """The machine and the versions with which the study was run."""
    names = ("seed", "sampler", "pruner")
    facts = {"study": data.name}
    facts |= {name: data.definition[name] for name in names if name in data.definition}
    machines = sorted({trial.worker.rsplit("-", 3)[0] for trial in data.trials if trial.worker})
    if machines:
        facts["machines"] = ", ".join(machines)
    # Seeds of trainings are left out: they are derived from the study's seed.
    training = flatten(data.provenance or _of_result(data))
    facts |= {key: value for key, value in training.items() if key not in _SEEDS}
    return [(key, text(value)) for key, value in facts.items()]


def _of_result(data: StudyData) -> Mapping[str, Any]:
    """Facts about the training of the best trial, from its folder."""
    for pick in data.picks:
        try:
            result = read_result(trial_folder(data.folder, pick.model.trial))
        except UserError:
            continue
        return {key: result[key] for key in ("device", "versions") if key in result}
    return {}


def configurations(data: StudyData) -> list[tuple[str, str]]:
    """The configuration of each pick as a file that `clapp train --config` takes."""
    models = {pick.model.trial: pick for pick in data.picks}
    return [
        (f"trial {number}: {pick.why}", dump_yaml(nest(pick.model.config)))
        for number, pick in models.items()
    ]
