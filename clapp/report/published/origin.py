"""The origin of published results: the command that searches again, versions, machine, seconds."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from socket import gethostname
from typing import TYPE_CHECKING, Any

from clapp.config import Layer, flatten
from clapp.errors import ClappError
from clapp.front.outcomes import counts
from clapp.front.record import record_of
from clapp.models.published import REFERENCE
from clapp.study.plan.definition import DEFINITION, ELAPSED
from clapp.study.plan.plan import make_plan
from clapp.system.process import cores

if TYPE_CHECKING:
    from optuna import Study

_WORDS = ("description", "plugins")
"""Keys of a study that change no result."""


def origin(study: "Study", front: Sequence[int], workers: int | None) -> dict[str, Any]:
    """What `origin.json` says of a study.

    Args:
        front: the numbers of its trials on the front.
        workers: processes that trained at once; None: not known.
    """
    definition = study.user_attrs[DEFINITION]
    trials = study.get_trials(deepcopy=False)
    records = [record_of(trials[number]) for number in front]
    known = [dict(one.provenance) for one in records if one.provenance]
    began = [one.started for one in map(record_of, trials) if one.started is not None]
    return {
        "study": study.study_name,
        "command": command_of(study.study_name, definition, workers),
        "seed": definition["seed"],
        "budget": definition["budget"],
        "trials": counts(study),
        "seconds": study.user_attrs.get(ELAPSED),
        "workers": workers,
        "date": datetime.fromtimestamp(min(began), UTC).date().isoformat() if began else None,
        "versions": known[-1]["versions"] if known else None,
        "commits": _distinct(known, "commit"),
        "machine": _machine(known),
        "pictures": known[-1]["source"] if known else None,
    }


def _machine(known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The machines of the front's trainings, without their names."""
    here = _distinct(known, "host") == [gethostname()]
    keys = {
        "processor": "processor",
        "device": "device",
        "threads": "threads",
        "system": "platform",
    }
    found = {name: _distinct(known, key) for name, key in keys.items()}
    return found | {"cores": cores() if here else None}


def _distinct(known: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    return sorted({one[key] for one in known if one.get(key) is not None})


def command_of(name: str, definition: Mapping[str, Any], workers: int | None = None) -> str:
    """The command that searches as a study of this `definition` was searched.

    It names the packaged study with options where these lead to the same definition, and otherwise
    the study file among the published results.
    """
    words = ["python", "optimize.py", "--study"]
    options = _options(name, definition)
    words += [f"{REFERENCE}/{name}/{name}.yaml"] if options is None else [name, *options]
    return shlex.join([*words, *(["--workers", str(workers)] if workers is not None else [])])


def _options(name: str, definition: Mapping[str, Any]) -> list[str] | None:
    """The options that make a packaged study one of this `definition`; None: there are none."""
    try:
        shipped = _document(make_plan(name).definition())
        changes, sets = _changes(shipped, definition), _sets(shipped, definition)
        layers = [Layer(option, layer) for option, (_, layer) in changes.items()]
        again = _document(make_plan(name, sets, layers).definition())
    except ClappError:  # no such study, or no such option
        return None
    if _without_words(again) != _without_words(definition):
        return None
    options = [word for option, (text, _) in changes.items() for word in (option, text)]
    return options + [word for text in sets for word in ("--set", text)]


def _changes(
    shipped: Mapping[str, Any], definition: Mapping[str, Any]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Option -> its text and the keys of a study file that it stands for, where these differ."""
    budget, before = definition["budget"], shipped["budget"]
    changes: dict[str, tuple[str, dict[str, Any]]] = {}
    if budget["trials"] != before["trials"]:
        changes["--trials"] = str(budget["trials"]), {"budget": {"trials": budget["trials"]}}
    timeout = budget["timeout"]
    if timeout != before["timeout"] and timeout is not None:
        changes["--timeout"] = time_text(timeout), {"budget": {"timeout": timeout}}
    if definition["seed"] != shipped["seed"]:
        changes["--seed"] = str(definition["seed"]), {"seed": definition["seed"]}
    return changes


def _sets(shipped: Mapping[str, Any], definition: Mapping[str, Any]) -> list[str]:
    before, now = flatten(shipped["config"]), flatten(definition["config"])
    return [f"{key}={json.dumps(v)}" for key, v in now.items() if before.get(key, ...) != v]


def time_text(seconds: float) -> str:
    """A duration as the option `--timeout` takes it: 5m, 90s."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


def _document(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition as a storage returns it."""
    document: dict[str, Any] = json.loads(json.dumps(definition))
    return document


def _without_words(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in _WORDS}
