"""`clapp config`: the packaged defaults, the meaning of keys, and schemas for editors."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from clapp.commands.options import AsJson
from clapp.commands.verbs import complete_key
from clapp.errors import UserError
from clapp.system.console import print_json, status


def config(
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="What a key means and may be.", autocompletion=complete_key
        ),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(metavar="config|study|space", help="A JSON schema for editors, of one file."),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Import it first, as `plugins` of a study does."),
    ] = None,
    json: AsJson = False,
) -> None:
    """The packaged defaults; or what one key means; or the JSON schema of a file."""
    if explain is not None and schema is not None:
        raise UserError("--explain and --schema: give one of them")
    with status("reading the configuration"):
        _load(plugin or [])
        document, text = _answer(explain, schema)
    if json or schema is not None:
        print_json(document)
    else:
        typer.echo(text)


def _load(plugins: list[str]) -> None:
    from pathlib import Path

    from clapp.filters.custom import load_plugin, look_in

    look_in(Path.cwd())
    for name in plugins:
        try:
            load_plugin(name)
        except ValueError as error:
            raise UserError(f"--plugin {name}: {error}") from error


def _answer(explain: str | None, schema: str | None) -> tuple[Any, str]:
    from clapp.commands.setup.schemas import SCHEMAS
    from clapp.config import defaults
    from clapp.system.files import PACKAGE
    from clapp.system.suggest import hint

    if schema is not None:
        if schema not in SCHEMAS:
            raise UserError(
                f"--schema {schema}: {hint(schema, SCHEMAS)}allowed: {', '.join(SCHEMAS)}"
            )
        return SCHEMAS[schema](), ""
    if explain is not None:
        found = explained(explain)
        return found, "\n".join(_paragraph(one) for one in found)
    return defaults(), (PACKAGE / "config" / "default.yaml").read_text(encoding="utf-8").rstrip()


def explained(key: str) -> list[dict[str, Any]]:
    """The facts about a key, given by its dotted path, its last part, or its section.

    Raises:
        UserError: no file has such a key.
    """
    from clapp.commands.setup.schemas import configuration_keys, study_keys
    from clapp.system.suggest import hint

    files = {"configuration": configuration_keys(), "study": study_keys()}
    everything = [(file, name, one) for file, keys in files.items() for name, one in keys.items()]
    asked = key.removeprefix("config.")
    ways: list[Callable[[str], bool]] = [
        lambda name: name == asked,
        lambda name: name.startswith(f"{asked}."),
        lambda name: name.endswith(f".{asked}"),
    ]
    for fits in ways:
        found = [
            {
                "key": name,
                "file": file,
                "meaning": one.get("description", ""),
                "default": one.get("default"),
                "required": "default" not in one,
                "allowed": allowed(one),
            }
            for file, name, one in everything
            if fits(name)
        ]
        if found:
            return found
    known = [name for _, name, _ in everything]
    close = hint(asked, known) or hint(asked, [name.rpartition(".")[2] for name in known])
    raise UserError(f"--explain {key}: no such key; {close}`clapp config` prints all of them")


def _paragraph(one: Mapping[str, Any]) -> str:
    from clapp.system.files import shown

    lines = [f"{one['key']} (a key of a {one['file']})"]
    if one["meaning"]:
        lines.append(f"  meaning  {' '.join(one['meaning'].split())}")
    if not one["required"]:
        lines.append(f"  default  {shown(one['default'])}")
    return "\n".join([*lines, f"  allowed  {one['allowed']}"])


def allowed(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    from clapp.system.files import shown

    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(allowed(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(one if isinstance(one, str) else shown(one) for one in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"a list of: {allowed(schema.get('items', {}))}"
    if kind == "string" and "pattern" in schema:
        return _PATTERNS.get(schema["pattern"], f"text of the form {schema['pattern']}")
    return _TYPES.get(str(kind), "any value") + _bounds(schema)


_PATTERNS = {
    ":": "module:function",
    r"^(steps|seconds)_to_[0-9.e-]+$": "steps_to_0.005, seconds_to_0.005 or the like",
    r"^(\d+(\.\d+)?[smhd])+$|^\d+(\.\d+)?$": "a duration such as 90s, 30m or 1h30m",
}
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _bounds(schema: Mapping[str, Any]) -> str:
    words = [f"{word} {_number(schema[key])}" for key, word in _BOUNDS.items() if key in schema]
    return f", {' and '.join(words)}" if words else ""
