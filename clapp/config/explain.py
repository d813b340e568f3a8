"""A pydantic error as one line: file, dotted path, value, what is allowed, the key meant."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clapp.system.files import shown
from clapp.system.suggest import hint

_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
MOST = 5
"""This many errors are written out; of further ones only the keys are listed."""
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
    """One line for a `ValidationError` of `model`, with everything that is wrong.

    Args:
        layers: (origin, mapping) pairs, lowest first; the last one that holds the key is blamed.
    """
    stack = list(layers)
    places: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for problem in error.errors(include_url=False):
        places.setdefault(_keys(problem, model), []).append(problem)
    # A misspelt key often causes a second error, that the right key is missing: show it first.
    order = sorted(places, key=lambda keys: places[keys][0]["type"] != "extra_forbidden")
    texts = []
    origin = None
    for keys in order[:MOST]:
        path, where = ".".join(map(str, keys)), _origin(keys, stack)
        text = _describe(places[keys], model, keys)
        located = f"{path}: {text}" if path else text
        texts.append(located if where == origin else f"{where}: {located}")
        origin = where
    if order[MOST:]:
        texts.append(", ".join(".".join(map(str, keys)) for keys in order[MOST:]))
    return "; also ".join(texts)


def _keys(problem: ErrorDetails, model: type[BaseModel]) -> tuple[str | int, ...]:
    """The location without the tags pydantic adds for the members of a union."""
    keys: list[str | int] = []
    annotation: Any = model
    for part in problem["loc"]:
        section = _section(annotation)
        if section is not None:
            field = section.model_fields.get(str(part))
            annotation = field.annotation if field else None
        elif get_origin(annotation) is dict:
            annotation = None
        elif not isinstance(part, int):
            continue
        keys.append(part)
    return tuple(keys)


def _section(annotation: Any) -> type[BaseModel] | None:
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _describe(
    problems: Sequence[ErrorDetails], model: type[BaseModel], keys: tuple[str | int, ...]
) -> str:
    problem = problems[0]
    if problem["type"] == "extra_forbidden":
        return f"unknown key; {_known(model, keys)}"
    if problem["type"] == "missing":
        return "this key is required"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    allowed = " or ".join(dict.fromkeys(_allowed(p) for p in problems))
    return f"{shown(problem['input'])} is not allowed; {_meant(problem)}allowed: {allowed}"


def _known(model: type[BaseModel], keys: tuple[str | int, ...]) -> str:
    owner: type[BaseModel] | None = model
    for key in keys[:-1]:
        field = owner.model_fields.get(str(key)) if owner else None
        owner = _section(field.annotation) if field else None
    known = list(owner.model_fields) if owner else []
    return f"{hint(str(keys[-1]), known, _all_keys(model))}known: {', '.join(known)}"


def _all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of a model and its sections."""
    keys = []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        keys.append(f"{prefix}{name}")
        keys += _all_keys(section, f"{prefix}{name}.") if section else []
    return keys


def _allowed(problem: ErrorDetails) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words} {context[key]}"
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    return _KINDS.get(kind, str(problem["msg"]))


def _meant(problem: ErrorDetails) -> str:
    """A hint (`did you mean X?`) for a value that must be one of a few words, or ""."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    words = str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
    return hint(problem["input"], words)


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
