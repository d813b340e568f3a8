"""A pydantic error as one line: file, dotted path, value, what is allowed, the nearest key."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "dict_type": "a mapping",
    "model_type": "a section (a mapping of keys)",
    "list_type": "a list",
    "tuple_type": "a list",
}


def explain(
    error: ValidationError, model: type[BaseModel], layers: Iterable[tuple[str, Mapping[str, Any]]]
) -> str:
    """One line for a `ValidationError` of `model`.

    Args:
        layers: (origin, mapping) pairs, lowest first; the last one that holds the key is blamed.
    """
    problems = error.errors(include_url=False)
    # An unknown key is usually the cause of whatever else is wrong.
    unknown = [p for p in problems if p["type"] == "extra_forbidden"]
    first = (unknown or problems)[0]
    keys = _keys(first, model)
    same_place = [p for p in problems if _keys(p, model) == keys]
    others = len({_keys(p, model) for p in problems}) - 1
    path = ".".join(map(str, keys))
    text = _describe(first, same_place, model, keys)
    where = _origin(keys, list(layers))
    more = f" (and {others} more)" if others else ""
    return f"{where}: {path}: {text}{more}" if path else f"{where}: {text}{more}"


def _keys(problem: ErrorDetails, model: type[BaseModel]) -> tuple[str | int, ...]:
    """The location without the tags pydantic adds for the members of a union."""
    keys: list[str | int] = []
    current: type[BaseModel] | None = model
    for part in problem["loc"]:
        if current is not None:
            keys.append(part)
            field = current.model_fields.get(str(part))
            current = _section(field.annotation) if field else None
        elif isinstance(part, int):
            keys.append(part)
    return tuple(keys)


def _section(annotation: Any) -> type[BaseModel] | None:
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _describe(
    problem: ErrorDetails,
    same_place: Sequence[ErrorDetails],
    model: type[BaseModel],
    keys: tuple[str | int, ...],
) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key; {_known(model, keys)}"
    if problem["type"] == "missing":
        return "this key is required"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    allowed = " or ".join(dict.fromkeys(_allowed(p) for p in same_place))
    return f"{_shown(problem['input'])} is not allowed; allowed: {allowed}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known(model: type[BaseModel], keys: tuple[str | int, ...]) -> str:
    owner: type[BaseModel] | None = model
    for key in keys[:-1]:
        field = owner.model_fields.get(str(key)) if owner else None
        owner = _section(field.annotation) if field else None
    known = list(owner.model_fields) if owner else []
    nearest = get_close_matches(str(keys[-1]), known, n=1)
    return (f"did you mean {nearest[0]}? " if nearest else "") + f"known: {', '.join(known)}"


def _allowed(problem: ErrorDetails) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words} {context[key]}"
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    return _KINDS.get(kind, str(problem["msg"]))


def _origin(keys: tuple[str | int, ...], layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    for depth in range(len(keys), 0, -1):
        holders = [origin for origin, values in layers if _holds(values, keys[:depth])]
        if holders:
            return holders[-1]
    return layers[-1][0]


def _holds(values: Any, keys: tuple[str | int, ...]) -> bool:
    for key in keys:
        if isinstance(values, Mapping) and key in values:
            values = values[key]
        else:
            return False
    return True
