"""The pages of `reference/`, from what the package itself knows: nothing here is a copy.

`make docs` writes them anew. A test compares them with the models, registries and commands.
"""

import inspect
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import typer

Rows = Iterable[Sequence[str]]


def write(folder: Path) -> None:
    """Write every page into `folder`, which holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text(page(), encoding="utf-8")


def table(headings: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(cell, one))} |" for one in lines) + "\n"


def cell(text: str) -> str:
    """A text that stays within its cell."""
    return " ".join(text.split()).replace("|", r"\|")


def code(text: str) -> str:
    """A text as it is typed."""
    return f"`{text}`" if text else ""


def plain(text: str) -> str:
    """A text without anything that Markdown would obey."""
    return "".join(f"\\{one}" if one in "*_[]<>" else one for one in text)


def sentence(documented: Any) -> str:
    """The first paragraph of a docstring, whose backticks stay."""
    paragraph = (inspect.getdoc(documented) or "").partition("\n\n")[0]
    quoted = paragraph.split("`")
    return "`".join(part if odd % 2 else plain(part) for odd, part in enumerate(quoted))


def commands() -> str:
    """Every command, with its arguments and options."""
    from clapp.commands.app import app
    from clapp.commands.optimize import app as optimize

    text = (
        "# Commands\n\nExit codes: 0 done, 2 a mistake in the input, 130 interrupted with "
        "everything saved, 1 a defect. Every verb that prints a result takes `--json`. "
        "`clapp --install-completion` teaches your shell verbs, options and names.\n\n"
    )
    for name, one in (("clapp-optimize", optimize), ("clapp", app)):
        text += "".join(_command([name], typer.main.get_command(one)))
    return text


def _command(path: list[str], command: Any) -> Iterable[str]:
    children = getattr(command, "commands", {})
    yield f"## {' '.join(path)}\n\n{_help(command.help)}\n\n"
    own = [one for one in command.params if not getattr(one, "hidden", False)]
    if own:
        yield table(("", "value", "default", "meaning"), map(_parameter, own)) + "\n"
    for name, child in children.items():
        yield from _command([*path, name], child)


def _help(text: str | None) -> str:
    return plain(inspect.cleandoc(text or ""))


def _parameter(one: Any) -> tuple[str, str, str, str]:
    option = one.param_type_name == "option"
    names = ", ".join(map(code, [*one.opts, *one.secondary_opts])) if option else code(_shown(one))
    value = "" if getattr(one, "is_flag", False) else code(_shown(one) if option else "")
    default = "" if one.default is None or one.default is False else code(str(one.default))
    return names, value, "required" if one.required else default, plain(one.help or "")


def _shown(one: Any) -> str:
    if one.metavar or one.param_type_name == "argument":
        return str(one.metavar or one.name.upper())
    kind = one.type_descriptor.annotation
    kind = next(iter(get_args(kind)), kind)  # of a list
    known = {"int": "N", "float": "NUMBER", "str": "TEXT"}
    return known.get(kind.__name__, str(kind.__name__).upper())


def configuration() -> str:
    """Every key of a configuration, section by section."""
    from clapp.commands.setup.schemas import configuration_keys

    keys = configuration_keys()
    sections: dict[str, list[str]] = {}
    for key in keys:
        sections.setdefault(key.rpartition(".")[0], []).append(key)
    text = (
        "# Keys of a configuration\n\n`clapp config` prints all defaults, "
        "`clapp config --explain KEY` one of these rows.\n\n"
    )
    for name, own in sections.items():
        text += f"## {name or 'At the top'}\n\n{_keys({key: keys[key] for key in own})}\n"
    return text


def study() -> str:
    """Every key of a study and of a search space."""
    from clapp.commands.setup.schemas import keys_of, study_keys
    from clapp.commands.setup.spaces import one_document
    from clapp.study.plan.files import find_study, known_spaces
    from clapp.study.plan.parameters import KINDS
    from clapp.system.files import data_dir, read_mapping

    text = f"# Keys of studies and search spaces\n\n## A study\n\n{_keys(study_keys())}\n"
    for name, kind in KINDS.items():
        text += f"## A key of a search space: `type: {name}`\n\n{sentence(kind)}\n\n"
        text += _keys(keys_of(kind)) + "\n"
    spaces = [one_document(path) for path in known_spaces()]
    text += "## The search spaces\n\n" + table(
        ("space", "parameters", "families", "about"),
        (
            (code(one["name"]), str(one["parameters"]), ", ".join(one["families"]), one["about"])
            for one in spaces
        ),
    )
    names = sorted(path.stem for path in data_dir("studies").glob("*.yaml"))
    text += "\n## The studies\n\n" + table(
        ("study", "description", "search space"),
        (
            (code(name), plain(found.get("description", "")), code(str(found["search_space"])))
            for name in names
            for found in (read_mapping(find_study(name)),)
        ),
    )
    return text


def _keys(keys: Mapping[str, Mapping[str, Any]]) -> str:
    from clapp.commands.setup.config import allowed
    from clapp.system.files import shown

    return table(
        ("key", "default", "allowed", "meaning"),
        (
            (
                code(key),
                code(shown(one["default"])) if "default" in one else "",
                "[a filter](filters.md)" if key.endswith("filter") else plain(allowed(one)),
                plain(one.get("description", "")),
            )
            for key, one in keys.items()
        ),
    )


def filters() -> str:
    """Every filter of the library, with its parameters."""
    from clapp.commands.filters import all_documents
    from clapp.front.objectives import scaled

    text = (
        "# Filters\n\nReach: how many pixels away a result may depend on. FLOPs: of one picture of "
        "224x224, where known. [How to name one](../filters.md).\n\n"
    )
    for one in all_documents():
        reach = "the whole picture" if one["reach"] is None else f"{one['reach']} pixels"
        work = "" if one["flops"] is None else f"; FLOPs: {scaled(one['flops'])}"
        channels = one["channels_out"] or "as asked for"
        text += f"## {one['name']}\n\n{plain(one['summary'])}\n\n"
        text += f"Source: {plain(one['source'] or 'this project')}. Channels out: {channels}; "
        text += f"reach: {reach}; border: {plain(one['border'])}{work}. "
        text += f"Search space to begin with: `{one['space']}`.\n\n"
        if one["parameters"]:
            rows = (
                (code(key), code(str(known["default"])), plain(known["allowed"]))
                for key, known in one["parameters"].items()
            )
            text += table(("parameter", "default", "allowed"), rows) + "\n"
    return text


def registries() -> str:
    """Everything that has a name in a study or configuration, and is open to additions."""
    text = (
        "# Names: losses, optimisers, samplers, objectives, ...\n\n"
        "Each list is a registry; `CONTRIBUTING.md` says how to add to it.\n\n"
    )
    for heading, key, entries in _registries():
        rows = ((code(name), words) for name, words in entries)
        text += f"## {heading}\n\nNamed by {key}.\n\n{table(('name', 'what it is'), rows)}\n"
    return text


def _registries() -> Iterable[tuple[str, str, Iterable[tuple[str, str]]]]:
    from clapp.export.writers import FORMATS
    from clapp.front.objectives import OBJECTIVES
    from clapp.front.pick.rules import rules
    from clapp.images.source import SOURCES
    from clapp.models.activations import ACTIVATIONS
    from clapp.models.families import known_families, section
    from clapp.models.targets.profile import find_target, known_targets
    from clapp.study.pruning.pruners import PRUNERS
    from clapp.study.sampling.samplers import SAMPLERS
    from clapp.training.losses import LOSSES
    from clapp.training.optimisers.registry import OPTIMISERS
    from clapp.training.schedule import SCHEDULES

    yield (
        "Objectives",
        "`objectives`, `limits`",
        ((k, plain(v.meaning or v.title)) for k, v in OBJECTIVES.items()),
    )
    yield "Picking rules", "`clapp export --pick`", ((k, plain(v)) for k, v in rules())
    yield "Samplers", "`sampler`", ((k, sentence(v)) for k, v in SAMPLERS.items())
    yield "Pruners", "`pruner`", ((k, sentence(v)) for k, v in PRUNERS.items())
    yield (
        "Families of networks",
        "`model.family`",
        ((k, sentence(section(k))) for k in known_families()),
    )
    yield "Activations", "`model.activation`", ((k, plain(v.words)) for k, v in ACTIVATIONS.items())
    yield "Losses", "`train.loss_type`", ((k, sentence(v.function)) for k, v in LOSSES.items())
    yield "Optimisers", "`train.optimizer`", ((k, sentence(v)) for k, v in OPTIMISERS.items())
    yield "Schedules", "`train.schedule`", ((k, sentence(v)) for k, v in SCHEDULES.items())
    yield "Sources of pictures", "`train_data.name`", ((k, sentence(v)) for k, v in SOURCES.items())
    yield (
        "Export formats",
        "`clapp export --format`",
        ((k, sentence(v.write)) for k, v in FORMATS.items()),
    )
    yield (
        "Targets",
        "`target`, `clapp export --target`",
        ((k, plain(find_target(k).description)) for k in known_targets()),
    )


def python() -> str:
    """The public names of the package, by autodoc."""
    import clapp

    text = (
        "# Python\n\n`import clapp` costs nothing: each name is loaded when it is first used.\n\n"
    )
    for name in sorted(one for one in clapp.__all__ if not one.startswith("_")):
        kind = "autoclass" if inspect.isclass(getattr(clapp, name)) else "autofunction"
        members = ":members:\n" if kind == "autoclass" else ""
        text += f"## {name}\n\n```{{eval-rst}}\n.. {kind}:: clapp.{name}\n"
        text += f"   {members}" if members else ""
        text += "```\n\n"
    return text


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "configuration": configuration,
    "study": study,
    "filters": filters,
    "registries": registries,
    "python": python,
}
