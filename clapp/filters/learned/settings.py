"""Settings: parameters of a filter that a network takes as inputs beside the picture.

Each is a constant channel behind the three of the picture: 0 at the lower end of its range, 1 at
the upper one. In pictures of eight bits it is a level from 0 to 255, so that whatever handles
pictures (crops, tiles, int8) handles settings too.
"""

import inspect
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clapp.errors import ConfigError, UserError
from clapp.filters.base import FILTERS, FilterSpec, Picture, Target
from clapp.filters.custom import TAKES_KEY, load_function, try_filter
from clapp.filters.learned.paired import is_paired
from clapp.filters.learned.setting import LEVELS as LEVELS
from clapp.filters.learned.setting import PICTURE as PICTURE
from clapp.filters.learned.setting import Setting as Setting
from clapp.filters.library import Filter, filter_name, output_channels, resolve
from clapp.filters.parameters import Float, Int, Odd
from clapp.system.suggest import hint

if TYPE_CHECKING:
    from clapp.config import Config

Ranges = Mapping[str, Sequence[float]]
"""As in a configuration: `{sigma: [0.5, 3]}`."""
Values = Mapping[str, float]
_RESERVED = ("image", "output", "height", "width", "workspace")
_GRID = {1: 6, 2: 4}
"""Values of each setting in a validation, by the number of settings: 255 is 5 * 51 and 3 * 85."""


def settings_of(spec: FilterSpec, ranges: Ranges | None) -> tuple[Setting, ...]:
    """The settings of a filter, in the order in which they are written.

    Raises:
        ConfigError: a name that the filter has not, or whose values are no numbers; a range that is
            none, or reaches beyond what the filter allows; a setting that the filter fixes as well.
    """
    if ranges is None:
        return ()
    if not ranges:
        raise ConfigError("parameter: {} names none; allowed: null, or {NAME: [LOW, HIGH]}")
    found = tuple(_setting(spec, name, ends) for name, ends in ranges.items())
    for values in itertools.product(*((s.low, s.high) for s in found)):
        try:
            resolve(with_values(spec, _whole(found, values)))
        except ConfigError as error:
            raise ConfigError(f"parameter: at an end of the ranges: {error}") from error
    return found


def _setting(spec: FilterSpec, name: str, ends: Sequence[float]) -> Setting:
    where = f"parameter.{name}"
    if name in _RESERVED:
        raise ConfigError(f"{where}: this name is taken by the network's other inputs and outputs")
    kind = _kind(spec, name, where)
    low, high = ends
    step = 0 if kind is None else 2 if isinstance(kind, Odd) else isinstance(kind, Int)
    most = f"within {kind.allowed}" if kind is not None else "any"
    within = kind is None or kind.low <= low < high <= kind.high
    on_step = not step or (low % 1 == high % 1 == 0 and (step == 1 or low % 2 == high % 2 == 1))
    if not (low < high and within and on_step):
        raise ConfigError(
            f"{where}: {_shown(ends)} is not allowed; allowed: two numbers, the lower one first, "
            f"{most}"
        )
    return Setting(name, low, high, int(step))


def _shown(ends: Sequence[float]) -> str:
    return f"[{', '.join(f'{end:g}' for end in ends)}]"


def _kind(spec: FilterSpec, name: str, where: str) -> Int | Float | None:
    """The kind of a parameter; None: that of a function of the user's, which takes any number.

    Raises:
        ConfigError: see `settings_of`.
    """
    owner = _owner(spec, name, where)
    part = spec[owner] if isinstance(spec, list | tuple) else spec
    if isinstance(part, Mapping) and name in part:
        raise ConfigError(
            f"{where}: the filter {filter_name(part)} fixes it as well; write it once"
        )
    entry = FILTERS.get(_name(part))
    if entry is None:
        return None
    kind = entry.parameters[name]
    if not isinstance(kind, Int | Float):
        numeric = [k for k, v in entry.parameters.items() if isinstance(v, Int | Float)]
        raise ConfigError(
            f"{where}: filter {_name(part)}: {name} is no number but {kind.allowed}; an input "
            f"must be a number; of this filter: {', '.join(numeric) or 'none'}"
        )
    return kind


def _owner(spec: FilterSpec, name: str, where: str) -> int:
    """The place in a chain of the filter that has the parameter; 0 without a chain."""
    parts = spec if isinstance(spec, list | tuple) else [spec]
    known = [_parameters(part) for part in parts]
    owners = [number for number, names in enumerate(known) if name in names]
    if len(owners) > 1:
        raise ConfigError(
            f"{where}: {len(owners)} filters of the chain have it; write a function of your own "
            "that takes it once"
        )
    if not owners:
        names = list(dict.fromkeys(itertools.chain(*known)))
        raise ConfigError(
            f"{where}: filter {filter_name(spec)} has no parameter {name!r}; {hint(name, names)}"
            f"known: {', '.join(names) or 'none; it has no parameters'}"
        )
    return owners[0]


def _name(part: FilterSpec) -> str:
    name = part.get("name", "") if isinstance(part, Mapping) else part
    return name if isinstance(name, str) else ""


def _parameters(part: FilterSpec) -> list[str]:
    """What a filter takes beside the picture."""
    name = _name(part)
    if name in FILTERS:
        return list(FILTERS[name].parameters)
    if ":" not in name:
        return []
    try:
        takes = list(inspect.signature(load_function(name)).parameters.values())[1:]
    except (TypeError, ValueError):  # built in, without a signature
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in takes if p.kind in named and p.name != TAKES_KEY]


def with_values(spec: FilterSpec, values: Values) -> FilterSpec:
    """The filter at certain values of its settings."""
    if isinstance(spec, list | tuple):
        parts = list(spec)
        for name, value in values.items():
            owner = _owner(parts, name, f"parameter.{name}")
            parts[owner] = with_values(parts[owner], {name: value})
        return parts
    given = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
    return {**given, **values}


def _whole(settings: Iterable[Setting], values: Iterable[float]) -> dict[str, float]:
    """Values by name; those of whole numbers as integers, which filters insist on."""
    pairs = zip(settings, values, strict=True)
    return {s.name: int(value) if s.step else value for s, value in pairs}


def at_values(spec: FilterSpec, settings: Sequence[Setting], values: Values) -> FilterSpec:
    """The filter at values that were given for each of its settings."""
    return with_values(spec, _whole(settings, (values[s.name] for s in settings)))


def ranged_name(spec: FilterSpec, ranges: Ranges | None) -> str:
    """What to call a filter with its ranges: "gaussian(sigma=0.5 to 3)"."""
    if not ranges:
        return filter_name(spec)
    said = ", ".join(f"{name}={low:g} to {high:g}" for name, (low, high) in ranges.items())
    name = filter_name(spec)
    return f"{name[:-1]}, {said})" if name.endswith(")") else f"{name}({said})"


class Adjustable(Filter):
    """A filter with settings. It is pickled as its specification and its ranges."""

    def __reduce__(self) -> tuple[Any, ...]:
        ranges = {s.name: (s.low, s.high) for s in self.settings}
        return adjustable, (self.spec, ranges)


def adjustable(spec: FilterSpec, ranges: Ranges | None) -> Filter:
    """The filter that a network learns; with settings it reads their values off the picture.

    It then takes uint8 (H, W, 3 + n): a picture and a constant channel for each setting.

    Raises:
        ConfigError: see `clapp.filters.library.resolve` and `settings_of`.
    """
    settings = settings_of(spec, ranges)
    if not settings:
        return resolve(spec)
    text = json.dumps(spec)

    def call(image: Picture) -> Target:
        levels = tuple(int(level) for level in image[0, 0, PICTURE:])
        return _at_levels(text, settings, levels)(np.ascontiguousarray(image[..., :PICTURE]))

    return Adjustable(
        ranged_name(spec, ranges), spec, call, output_channels(spec), settings=settings
    )


@lru_cache(maxsize=1024)
def _at_levels(text: str, settings: tuple[Setting, ...], levels: tuple[int, ...]) -> Filter:
    values = (s.at(level) for s, level in zip(settings, levels, strict=True))
    return resolve(with_values(json.loads(text), _whole(settings, values)))


def drawn(settings: Sequence[Setting], number: int, rng: np.random.Generator) -> Picture:
    """Levels for `number` crops, each its own: uint8 (number, n)."""
    return np.stack([rng.choice(s.levels(), number) for s in settings], axis=1)


def grid(settings: Sequence[Setting]) -> list[tuple[int, ...]]:
    """The levels that are validated at, the same for every picture: both ends and between."""
    if not settings:
        return [()]
    count = _GRID.get(len(settings), 2)
    axes = [np.linspace(0, len(s.levels()) - 1, count).round().astype(int) for s in settings]
    each = [
        dict.fromkeys(int(s.levels()[i]) for i in places)
        for s, places in zip(settings, axes, strict=True)
    ]
    return list(itertools.product(*each))


def joined(pictures: Picture, levels: NDArray[np.uint8]) -> Picture:
    """Pictures (B, H, W, 3) with a constant channel for each of the levels (B, n)."""
    planes = np.broadcast_to(levels[:, None, None, :], (*pictures.shape[:3], levels.shape[1]))
    return np.concatenate([pictures, planes], axis=3)


def on_grid(pictures: Picture, settings: Sequence[Setting]) -> Picture:
    """Each picture at every value of the grid: (B, H, W, 3) to (B * G, H, W, 3 + n)."""
    levels = np.array(grid(settings), np.uint8)
    return joined(np.repeat(pictures, len(levels), axis=0), np.tile(levels, (len(pictures), 1)))


def said_of(picture: Picture, settings: Sequence[Setting]) -> str:
    """The settings of a picture (H, W, 3 + n): "sigma=1.5"."""
    levels = picture[0, 0, PICTURE:]
    return ", ".join(s.said(int(level)) for s, level in zip(settings, levels, strict=True))


def check_filter(config: "Config") -> None:
    """Call the filter of a configuration on pictures as large as its crops.

    Raises:
        UserError: see `clapp.filters.custom.try_filter`.
    """
    if is_paired(config.target_filter):
        return
    sides = (config.train_data.crop_size, config.valid_data.crop_size)
    try_settings(
        config.target_filter, config.settings, *sides, channels=config.model.output_channels
    )


def try_settings(spec: FilterSpec, settings: Sequence[Setting], *sides: int, channels: int) -> None:
    """Call a filter at every value of the grid; see `clapp.filters.custom.try_filter`.

    Raises:
        UserError: see there.
    """
    for levels in grid(settings):
        values = [s.at(level) for s, level in zip(settings, levels, strict=True)]
        one = resolve(with_values(spec, _whole(settings, values)))
        try_filter(one, one.name, *sides, channels=channels)


def written(settings: Sequence[Setting]) -> str:
    """Settings as a property of a file."""
    return json.dumps([s._asdict() for s in settings])


def read_settings(text: str | None) -> tuple[Setting, ...]:
    """What `written` wrote; none where nothing is known."""
    try:
        return tuple(Setting(**one) for one in json.loads(text or "[]"))
    except (ValueError, TypeError):
        return ()


def chosen(settings: Sequence[Setting], values: Values, source: str, option: str) -> Values:
    """A value for each setting, checked.

    Args:
        source: the model, which begins an error.
        option: how a value is given: "--set sigma=".

    Raises:
        UserError: one is missing, unknown or out of its range.
    """
    known = {s.name: s for s in settings}
    for name in values:
        if name not in known:
            said = ", ".join(f"{s.name} ({s.allowed})" for s in settings)
            raise UserError(
                f"{option.format(name)}: {source} has no such setting; {hint(name, known)}"
                f"known: {said or 'none; its filter is fixed'}"
            )
    for s in settings:
        if s.name not in values:
            raise UserError(
                f"{source}: its setting {s.name} has no value; give {option.format(s.name)}VALUE "
                f"({s.allowed})"
            )
    return {s.name: s.taken(values[s.name], option.format(s.name)) for s in settings}
