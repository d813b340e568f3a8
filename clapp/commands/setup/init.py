"""`clapp init`: write a commented study and search space for your own filter and pictures."""

import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from clapp.commands.options import AsJson
from clapp.commands.verbs import complete_filter
from clapp.errors import UserError
from clapp.system.console import print_json, status

SCHEMA_LINE = "# yaml-language-server"
"""How a line begins that names the schema of a file for an editor."""
_OWN = "my_filter:my_filter"
_FUNCTION = '''"""The filter that networks are to stand in for. Change it as you like."""

import cv2
import numpy as np


def my_filter(image: np.ndarray) -> np.ndarray:
    """RGB, uint8 (H, W, 3), in; (H, W) or (H, W, 3) out, uint8 or floats in [0, 1]."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
'''
_STUDY = """\
# yaml-language-server: $schema=schemas/study.json
# A search for the smallest network that stands in for a filter.
#   {start}
#   clapp front {name}                 the Pareto front so far
#   clapp export {name} --pick knee    the model, as weights, ONNX and a card
# `clapp config --explain KEY` says what a key means; `clapp config` prints every default.

description: {description}

# What to learn: a name (`clapp filters` lists them), {{name: canny, low: 20}}, a chain
# [gaussian, laplacian], or module:function in a Python file beside this one.
filter: {filter}

# What the trials may differ in: {name}_space.yaml, beside this file.
search_space: {name}_space

config:
  # Pictures: photos (packaged), synthetic, folder:PATH, or a Hugging Face dataset.
  # A folder is split by file name; no two of the three share a picture. The search chooses by
  # the validation pictures; the test pictures only tell how good the chosen model is.
  train_data: {{name: {pictures}, split: train, crop_size: 40}}
  valid_data: {{name: {pictures}, split: validation}}
  test_data: {{name: {test}, split: test}}
  train:
    min_iterations: 200
    validation_images: 2 # of each validation on the way; the final loss is over all
    patience: 2          # validations without an improvement of 1 %
    max_seconds: 180     # a guard against a machine at a standstill

objectives: [loss, params, flops]
limits: {{params: 5000, flops: 3.0e+8}}    # the largest networks that are of use
budget: {{trials: 300, timeout: 5m}}       # in all; run it again with more to go on
baselines: {{}}    # networks to try first, such as small: {{model.capacity: 2}}
seed: 0
"""
_SPACE = """\
# yaml-language-server: $schema=schemas/space.json
# What the trials of {name}.yaml may differ in: a copy of the search space {space}. Narrow it by
# deleting lines: the key then keeps its default. Other spaces: `clapp spaces`.

"""


def init(
    filter: Annotated[  # noqa: A002 - the argument's name
        str | None,
        typer.Argument(
            metavar="FILTER",
            help="As `clapp filters` takes it; default: a Python file of yours.",
            autocompletion=complete_filter,
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of pictures; default: photographs.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the study; default: my_FILTER.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")] = Path(),
    json: AsJson = False,
) -> None:
    """Write a study and a search space to begin with; nothing is ever overwritten."""
    with status("checking the filter and the pictures"):
        study, texts = begin(filter, pictures, name, out)
        written = _write(out, texts)
    start = f"clapp-optimize --study {shlex.quote(str(study))}"
    if json:
        print_json({"study": str(study), "files": [str(one) for one in written], "start": start})
    else:
        for one in written:
            typer.echo(f"wrote {one}")
        typer.echo(f"next: {start}")


def begin(
    spec: str | None, pictures: Path | None, name: str | None, out: Path
) -> tuple[Path, dict[str, str]]:
    """The path of the new study, and the text of every file by its path below `out`.

    The study is read and checked, and its pictures opened, before this returns.

    Raises:
        UserError: a file is there already, or the pictures cannot be read.
        ConfigError: there is no such filter.
    """
    from clapp.filters.custom import look_in
    from clapp.filters.library import filter_name
    from clapp.system.strict_yaml import parse_yaml

    look_in(out)
    own = {} if spec is not None else {"my_filter.py": _FUNCTION}
    if own and (out / "my_filter.py").exists():
        raise UserError(
            f"{out / 'my_filter.py'}: is there, and nothing is overwritten; "
            f"`clapp init {_OWN} --name NAME` makes a study of it, --out DIR begins elsewhere"
        )
    parsed = parse_yaml(spec or _OWN, "FILTER")
    label = "my_filter" if spec is None else filter_name(parsed)
    chosen = name or _study_name(label)
    _check_name(chosen)
    names = {"study": f"{chosen}.yaml", "space": f"{chosen}_space.yaml"}
    _refuse_existing(out, names.values())
    space = "filternet" if spec is None else _suggested(parsed)
    texts = own | {
        names["study"]: _study(chosen, parsed, label, pictures, out / names["study"]),
        names["space"]: _space(chosen, space),
    }
    _check(texts, names["study"])
    return out / names["study"], texts | _schemas(out)


def _suggested(parsed: Any) -> str:
    """The recommended packaged search space for a filter."""
    from clapp.filters.library import output_channels, resolve

    space = resolve(parsed).facts.space
    colour = space == "filternet" and output_channels(parsed) == 3
    return "filternet_color" if colour else space


def _study(name: str, parsed: Any, label: str, pictures: Path | None, path: Path) -> str:
    source = "photos" if pictures is None else f"folder:{pictures.expanduser().resolve()}"
    return _STUDY.format(
        name=name,
        description=_flow(f"a network in place of {label}"),
        filter=_flow(parsed),
        pictures=_flow(source),
        test=_flow(_test_source(source)),
        start=f"clapp-optimize --study {shlex.quote(str(path))}",
    )


def _test_source(source: str) -> str:
    """Where test pictures come from: the packaged ones where a small folder has none to spare."""
    from clapp.config import load_config
    from clapp.images import open_source

    try:
        open_source(load_config({"test_data": {"name": source}}).test_set)
    except UserError:
        return "photos"
    return source


def _space(name: str, space: str) -> str:
    from clapp.study.plan.files import SPACES
    from clapp.system.files import data_dir

    text = (data_dir(SPACES) / f"{space}.yaml").read_text(encoding="utf-8")
    own = [line for line in text.splitlines(keepends=True) if not line.startswith(SCHEMA_LINE)]
    return _SPACE.format(name=name, space=space) + "".join(own)


def _schemas(out: Path) -> dict[str, str]:
    """The schemas that do not exist yet; studies in one folder share them."""
    from clapp.commands.setup.schemas import SCHEMAS
    from clapp.system.files import dump_json

    paths = {name: f"schemas/{name}.json" for name in SCHEMAS}
    return {
        path: dump_json(SCHEMAS[name]()) + "\n"
        for name, path in paths.items()
        if not (out / path).exists()
    }


def _flow(value: Any) -> str:
    """A value as YAML within one line."""
    import json

    return json.dumps(value, ensure_ascii=False)


def _study_name(label: str) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else "_" for c in label.rpartition(":")[2])
    short = "_".join(filter(None, words.split("_")))[:40]
    return short if short.startswith("my_") else f"my_{short}"


def _check_name(name: str) -> None:
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise UserError(f"--name {name}: allowed: letters, digits, _ and -")


def _refuse_existing(out: Path, names: Any) -> None:
    there = [str(out / name) for name in names if (out / name).exists()]
    if there:
        raise UserError(
            f"{', '.join(there)}: is there, and nothing is overwritten; choose another "
            "--name or --out"
        )


def _check(texts: Mapping[str, str], study: str) -> None:
    """Read the study as `optimize.py` does, and open its pictures."""
    from clapp.commands.data import describe
    from clapp.study.plan.plan import make_plan

    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        plan = make_plan(str(Path(folder) / study))
        describe(plan.config({}, seed=0, device=None))


def _write(out: Path, texts: Mapping[str, str]) -> list[Path]:
    written = []
    for name, text in texts.items():
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:  # "x" never overwrites
                file.write(text)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        written.append(path)
    return written
