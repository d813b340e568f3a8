"""The definition of a study: the part that may not change between runs, and its comparison."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from clapp.config import defaults_of, flatten
from clapp.system.files import shown

DEFINITION, RESOLVED, ELAPSED = "definition", "resolved", "elapsed"
"""User attributes of a study."""
LOCKS = "locks"
"""Name of the folder for locks in a study's results."""
CHANGEABLE = ("plugins", "description", "budget", "sampler", "pruner", "limits", "max_retry")
"""Keys of a study file that may change between runs of the same study."""
BEFORE: dict[str, Any] = {"train.optimizer": "adam"}
"""Keys whose default is not what older versions, without the key, did -> what those did."""


class Change(NamedTuple):
    """How a definition differs from the one a study was started with.

    Attributes:
        where: a dotted key of the study file, or a filter's `module:function`.
        how: the old and the new value, in words.
        is_code: whether the code of a filter changed.
    """

    where: str
    how: str
    is_code: bool = False


def first_change(
    old: Mapping[str, Any],
    old_resolved: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    new_resolved: Mapping[str, Any],
) -> Change | None:
    """The first difference that makes it another study, or None; `growth` compares search spaces.

    Args:
        old, new: study files as resolved (`Plan.definition`).
        old_resolved, new_resolved: resolved values (`Plan.resolved`); None: an older version did
            not store them.
    """
    path = first_difference(_rest(old, old), _rest(new, old))
    if path is not None:
        return Change(path, "is not what the study was started with")
    config = started_with(old, old_resolved)
    packaged = flatten(defaults_of(new_resolved["config"].get("model.family")))
    for key, value in new_resolved["config"].items():
        if key in new["search_space"] and key not in old["search_space"]:
            continue  # the key is searched from now on
        before = config.get(key, BEFORE.get(key, packaged.get(key)))
        if before != value:
            return Change(
                f"config.{key}", f"is {shown(value)}; the study was started with {shown(before)}"
            )
    editions = (old_resolved or {}).get("editions", {})
    for section, edition in new_resolved["editions"].items():
        if editions.get(section, 1) != edition:
            return Change(
                f"config.{section}",
                "holds other pictures than the study was started with, as this version of CLAPP "
                "divides its packaged photographs anew",
            )
    codes = (old_resolved or {}).get("filter_code", {})
    for spec, code in new_resolved["filter_code"].items():
        if codes.get(spec, code) != code:
            return Change(spec, "is other code than the study was started with", is_code=True)
    return None


def _rest(definition: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that must not change; baselines that `old` lacks are left out, as they may be
    added."""
    kept = {k: v for k, v in definition.items() if k not in (*CHANGEABLE, "config", "search_space")}
    return (
        {"target": None}
        | kept
        | {"baselines": {k: v for k, v in definition["baselines"].items() if k in old["baselines"]}}
    )


def started_with(old: Mapping[str, Any], resolved: Mapping[str, Any] | None) -> dict[str, Any]:
    """The dotted configuration with which a study was started, as far as it is known."""
    if resolved is not None:
        return dict(resolved["config"])
    return flatten(old.get("config", {}))


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """The path of the first key in which two values differ, or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            where = f"{path}.{key}" if path else key
            if key not in old or key not in new:
                return where
            found = first_difference(old[key], new[key], where)
            if found:
                return found
        return None
    return None if old == new else path
