"""JSON schemas of the files users write, generated from the models that read them."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from clapp.config import Config, ModelConfig, Section, defaults
from clapp.filters.library import known_filters
from clapp.front.objectives import OBJECTIVES
from clapp.models.families import known_families, section
from clapp.study.plan.files import FROM, StudyFile
from clapp.study.plan.parameters import KINDS
from clapp.study.plan.space import refusal
from clapp.study.pruning.pruners import PRUNERS
from clapp.system.files import PACKAGE

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):[^#]*(?:#\s*(?P<comment>.*))?$")
_DURATION = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^(\d+(\.\d+)?[smhd])+$|^\d+(\.\d+)?$"},
        {"type": "null"},
    ]
}


def comments(path: Path = PACKAGE / "config" / "default.yaml") -> dict[str, str]:
    """The comments of the packaged defaults about each key, by its dotted path."""
    found, group = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := _LINE.match(line):
            group = group if match["indent"] else f"{match['key']}."
            key = group + match["key"] if match["indent"] else match["key"]
            found[key] = match["comment"] or ""
    return found


def configuration_keys() -> dict[str, Schema]:
    """The schema of every configuration key, by its dotted path, with default and meaning."""
    top = keys_of(Config)
    found: dict[str, Schema] = {}
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            found[name] = top[name]
        else:
            inner = _family_keys() if issubclass(kind, ModelConfig) else keys_of(kind)
            found |= {f"{name}.{key}": value for key, value in inner.items()}
    said = comments()
    for key, one in found.items():
        if key.endswith("target_filter"):
            one["anyOf"] = [*filter_spec()["anyOf"], {"type": "null"}]
        if key in said:
            place: Any = defaults()
            for part in key.split("."):
                place = place[part]
            one |= {"default": place, "description": said[key]}
    return found


def study_keys() -> dict[str, Schema]:
    """The schema of every key of a study except those of `config`, by its dotted path."""
    top = keys_of(StudyFile)
    budget = keys_of(StudyFile.model_fields["budget"].annotation)
    budget["timeout"] = {**budget["timeout"], **_DURATION}
    objective = _objective()
    top["objectives"]["items"] = objective
    top["objectives"]["default"] = StudyFile().objectives
    top["limits"]["propertyNames"] = objective
    top["pruner"] = {
        "description": top["pruner"].get("description", ""),
        "default": "front",
        **_pruner(),
    }
    top["filter"] = {"description": "The filter to learn: train_data.target_filter."} | (
        filter_spec()
    )
    top["parameter"] = keys_of(Config)["parameter"] | {
        "description": "Parameters of the filter that are inputs: {NAME: [LOW, HIGH]}."
    }
    del top["budget"]
    return top | {f"budget.{key}": value for key, value in budget.items()}


def configuration_schema() -> Schema:
    """The JSON schema of a configuration file."""
    return _document("A configuration of CLAPP", _mapping(_nested(configuration_keys())))


def study_schema() -> Schema:
    """The JSON schema of a study file."""
    keys = configuration_keys()
    laid_over = _mapping(_nested(keys) | keys)
    properties = _nested(study_keys())
    about = properties["search_space"]["description"]
    properties["search_space"] = {
        "anyOf": [{"type": "string"}, {"$ref": "#/$defs/space"}],
        "default": "filternet",
        "description": about,
    }
    properties["baselines"] |= {
        "additionalProperties": {"$ref": "#/$defs/configuration"},
        "properties": {
            FROM: {"type": "string", "description": "A study whose front is tried first."}
        },
    }
    properties["config"] = {
        "description": "Laid over the packaged defaults; nested or dotted keys.",
        "$ref": "#/$defs/configuration",
    }
    definitions = {"configuration": laid_over, "space": _space(), "parameter": _parameter()}
    return _document("A study of CLAPP", _mapping(properties) | {"$defs": definitions})


def space_schema() -> Schema:
    """The JSON schema of a search space."""
    definitions = {"parameter": _parameter()}
    return _document("A search space of CLAPP", _space() | {"$defs": definitions})


SCHEMAS: dict[str, Callable[[], Schema]] = {
    "config": configuration_schema,
    "study": study_schema,
    "space": space_schema,
}


def filter_spec() -> Schema:
    """The JSON schema of a filter: a name, `module:function`, a mapping, or a chain."""
    one = [
        {"enum": known_filters()},
        {"type": "string", "pattern": ":"},
        {"type": "object", "properties": {"name": {"enum": known_filters()}}},
    ]
    return {"anyOf": [*one, {"type": "array", "minItems": 1, "items": {"anyOf": one}}]}


def _document(title: str, schema: Schema) -> Schema:
    return {"$schema": DIALECT, "title": title, **schema}


def _mapping(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _nested(keys: Mapping[str, Schema]) -> dict[str, Schema]:
    nested: dict[str, Schema] = {}
    for key, one in keys.items():
        group, _, last = key.rpartition(".")
        if group:
            nested.setdefault(group, _mapping({}))["properties"][last] = one
        else:
            nested[key] = one
    return nested


def keys_of(model: Any) -> dict[str, Schema]:
    """The schemas of a model's keys, with their docstrings and without titles that repeat names."""
    properties: dict[str, Schema] = model.model_json_schema()["properties"]
    said = _docstrings(model)
    for key, one in properties.items():
        one.pop("title", None)
        if key in said:
            one["description"] = said[key]
    return properties


def _docstrings(model: type) -> dict[str, str]:
    """The docstring below each key of a model and its bases.

    Pydantic's `use_attribute_docstrings` would read them whenever a class is created, in every
    worker of a study, which takes time.
    """
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, Section) or kind is Section:
            continue
        try:
            source = textwrap.dedent(inspect.getsource(kind))
        except (OSError, TypeError):  # the class comes from no file
            continue
        (written,) = ast.parse(source).body
        for key, text in pairwise(written.body if isinstance(written, ast.ClassDef) else ()):
            match key, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    found[name] = inspect.cleandoc(words)
    return found


def _family_keys() -> dict[str, Schema]:
    """The keys of the section `model` of all families, since a space may choose the family."""
    found: dict[str, list[Schema]] = {}
    owners: dict[str, list[str]] = {}
    for name in known_families():
        for key, one in keys_of(section(name)).items():
            owners.setdefault(key, []).append(name)
            kinds = found.setdefault(key, [])
            if one not in kinds:
                kinds.append(one)
    every = len(known_families())
    for key, kinds in found.items():
        if len(owners[key]) < every:
            said = next((one["description"] for one in kinds if "description" in one), "")
            note = f"of the families {', '.join(owners[key])}"
            kinds[:] = [
                {**one, "description": f"{said} ({note})" if said else note} for one in kinds
            ]
    return {key: _either(kinds) for key, kinds in found.items()}


def _either(kinds: Iterable[Schema]) -> Schema:
    first, *others = kinds
    if not others:
        return first
    return {"description": first.get("description", ""), "anyOf": [first, *others]}


def _objective() -> Schema:
    return {
        "anyOf": [
            {"enum": list(OBJECTIVES)},
            {"type": "string", "pattern": "^(steps|seconds)_to_[0-9.e-]+$"},
            {"type": "object", "minProperties": 1, "maxProperties": 1},
        ]
    }


def _pruner() -> Schema:
    kinds = []
    for name, kind in PRUNERS.items():
        properties = keys_of(kind) | {"name": {"const": name}}
        kinds.append({**_mapping(properties), "required": ["name"]})
    return {"anyOf": [{"enum": list(PRUNERS)}, *kinds]}


def _space() -> Schema:
    """It refers to the definition `parameter` of the document it becomes a part of."""
    entries = {
        key: {"description": one.get("description", ""), "$ref": "#/$defs/parameter"}
        for key, one in configuration_keys().items()
        if refusal(key) is None
    }
    return {**_mapping(entries), "minProperties": 1}


def _parameter() -> Schema:
    kinds = [(kind.model_json_schema(), keys_of(kind)) for kind in KINDS.values()]
    return {
        "anyOf": [
            {**_mapping(properties), "required": schema["required"]} for schema, properties in kinds
        ]
    }
