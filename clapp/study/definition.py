"""What a study is: the part of its file that may not change between runs, compared."""

from typing import Any

CHANGEABLE = ("description", "budget", "sampler", "pruner", "limits", "max_retry")
"""Keys of a study file that may change between runs of the same study."""


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """The path of the first key in which two definitions differ, or None.

    Keys that may change between runs are passed over.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if not path and key in CHANGEABLE:
                continue
            where = f"{path}.{key}" if path else key
            if key not in old or key not in new:
                return where
            found = first_difference(old[key], new[key], where)
            if found:
                return found
        return None
    return None if old == new else path
