"""Resolve the filter that a configuration describes. The description is one of these:

- a name (`canny`), or a mapping with parameters: `{name: canny, low: 50, high: 150}`;
- `module:function`, any importable function, or with arguments `{name: module:function, sigma: 2}`;
- `{kernel: [[...]], normalize: none|max|clip}`, a linear filter written in the configuration;
- a list of these: a chain, in which each filter is applied to the result of the one before.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from clapp.errors import ClappError, ConfigError, UserError
from clapp.filters import edges, linear, morphology, random_kernels, smoothing, threshold, tone
from clapp.filters.base import (
    CHANNELS,
    COLOUR,
    COLOUR16,
    FILTERS,
    GREY,
    GREY16,
    Definition,
    F,
    Facts,
    FilterFunction,
    FilterSpec,
    Picture,
    Target,
    as_picture,
    filter,  # noqa: A004
    given,
)
from clapp.filters.custom import TAKES_KEY, checked, functions_in, load_function
from clapp.filters.learned.paired import PAIRED, paired
from clapp.filters.learned.setting import Setting
from clapp.system.suggest import hint

if TYPE_CHECKING:
    pass

KINDS = (edges, smoothing, morphology, threshold, tone, linear, random_kernels)
"""The modules of filters; importing one registers its filters."""
_ALSO = (
    "module:function, a mapping with a name and parameters, a mapping {kernel: [[...]], "
    "normalize: none|max|clip}, or a list of these"
)


@dataclass(frozen=True)
class Filter:
    """A resolved filter. It is pickled as its specification, which other processes resolve again.

    Attributes:
        name: its name in messages: "canny(low=20)".
        spec: its specification in a configuration.
        channels: channels of its targets, 1 or 3; None: found by calling it.
        settings: parameters that it reads off the picture; see `clapp.filters.learned`.
    """

    name: str
    spec: FilterSpec
    function: FilterFunction = field(repr=False, compare=False)
    channels: int | None = field(default=1, compare=False)
    facts: Facts = field(default=Facts(""), repr=False, compare=False)
    settings: tuple[Setting, ...] = ()

    def __call__(self, image: Picture) -> Target:
        """Filter uint8 (H, W, 3 + settings) to (H, W) or (H, W, 3), uint8 or float32 in [0, 1]."""
        return cast(Target, self.function(image))

    def __reduce__(self) -> tuple[Any, ...]:
        return resolve, (self.spec,)


def known_filters() -> list[str]:
    """The names of all registered filters, sorted."""
    return sorted(FILTERS)


def register_filter(name: str, **details: Any) -> Callable[[F], F]:
    """Register the decorated function as a filter; see `clapp.filters.base.filter`.

    The function takes uint8 (H, W, 3), or the input that `takes` names, and returns (H, W) or (H,
    W, 3), uint8 or floats in [0, 1]. Its results are checked.
    """
    return filter(name, **details)


def resolve(spec: FilterSpec) -> Filter:
    """The filter that `spec` stands for.

    Raises:
        ConfigError: an unknown name (the known ones are listed) or parameter, a value that is not
            allowed, a function that cannot be imported, or a mapping that is no filter.
    """
    if isinstance(spec, list | tuple):
        return _chain(list(spec))
    if isinstance(spec, Mapping):
        if "name" not in spec:
            name, function, facts = linear.inline(spec)
            return Filter(name, dict(spec), function, 1, facts)
        name, values = spec["name"], {k: v for k, v in spec.items() if k != "name"}
    else:
        name, values = spec, {}
    if not isinstance(name, str):
        raise ConfigError(f"a filter is a name, a mapping or a list of these, not {name!r}")
    if name == PAIRED:
        function, channels = paired(values)
        return Filter(PAIRED, spec, function, channels, Facts("the pictures of a source pairs:"))
    if name in FILTERS:
        return _bound(FILTERS[name], values, spec)
    if ":" in name:
        return _own(name, values, spec)
    raise ConfigError(
        f"unknown filter {name!r}; {hint(name, FILTERS)}known: {', '.join(known_filters())}, "
        f"{_ALSO}"
    )


def _bound(entry: Definition, values: Mapping[str, Any], spec: FilterSpec) -> Filter:
    complete = entry.values(values)
    facts, function, name = entry.facts(complete), entry.function, filter_name(spec)
    arguments = {k: v for k, v in complete.items() if k != CHANNELS or CHANNELS not in _open(entry)}

    def call(image: Picture) -> Any:
        return function(given(image, facts.takes), **arguments)

    channels = entry.outputs(complete)
    if not arguments and facts.takes == COLOUR:
        call = function
    return Filter(name, spec, call if entry.ours else checked(name, call), channels, facts)


def _open(entry: Definition) -> tuple[str, ...]:
    """Parameters that choose the function's input and are not passed to the function."""
    return (CHANNELS,) if entry.takes == "either" else ()


def _own(name: str, values: Mapping[str, Any], spec: FilterSpec) -> Filter:
    """A function of the user's, with arguments."""
    arguments = dict(values)
    takes = arguments.pop(TAKES_KEY, COLOUR)
    allowed = (COLOUR, GREY, COLOUR16, GREY16)
    if takes not in allowed:
        raise ConfigError(
            f"filter {name}: {TAKES_KEY} {takes!r} is not allowed; allowed: {', '.join(allowed)}"
        )
    function = load_function(name)

    def call(image: Picture) -> Any:
        return function(given(image, takes), **arguments)

    return Filter(filter_name(spec), spec, checked(name, call), None, Facts(name, takes))


def _chain(specs: list[Any]) -> Filter:
    if not specs:
        raise ConfigError("a chain of filters needs at least one filter, not []")
    parts = [resolve(spec) for spec in specs]

    def call(image: Picture) -> Target:
        result: Target = image
        for number, part in enumerate(parts):
            result = part(as_picture(result) if number else image)
        return result

    facts = [part.facts for part in parts]
    reaches, works = [one.reach for one in facts], [one.work for one in facts]
    return Filter(
        " > ".join(part.name for part in parts),
        specs,
        call,
        parts[-1].channels,
        Facts(
            ", ".join(one.source for one in facts),
            facts[0].takes,
            ", ".join(dict.fromkeys(one.border for one in facts)),
            None if None in reaches else sum(reach or 0 for reach in reaches),
            None if None in works else sum(work or 0 for work in works),
            "; ".join(dict.fromkeys(one.counted for one in facts if one.counted)),
        ),
    )


def as_entry(spec: FilterSpec) -> tuple[Definition | None, dict[str, Any]]:
    """The registered filter that `spec` names (None: none), and the values of all its parameters.

    Raises:
        ConfigError: a parameter that is not allowed.
    """
    if isinstance(spec, list | tuple):
        return None, {}
    given_values = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
    name = given_values.pop("name", None)
    entry = FILTERS.get(name) if isinstance(name, str) else None
    return (None, {}) if entry is None else (entry, entry.values(given_values))


def filter_name(spec: FilterSpec) -> str:
    """The name of a filter in messages; works even if the filter's code is missing."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        if "name" not in spec:
            return resolve(spec).name
        values = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "name")
        return f"{spec['name']}({values})" if values else str(spec["name"])
    return " > ".join(map(filter_name, spec))


def canonical(spec: FilterSpec) -> FilterSpec:
    """The shortest way to write a filter; equal for two ways to write the same filter.

    It is a plain name if all parameters have their defaults. A specification that cannot be
    resolved is returned unchanged.
    """
    if isinstance(spec, list | tuple):
        flat: list[Any] = []
        for part in map(canonical, spec):
            flat += part if isinstance(part, list) else [part]
        return flat[0] if len(flat) == 1 else flat
    if not isinstance(spec, Mapping) or "name" not in spec:
        return spec
    values = {key: value for key, value in spec.items() if key != "name"}
    try:
        entry, complete = as_entry(spec)
    except ConfigError:
        return spec
    if entry is not None:
        defaults = entry.values({})
        values = {k: v for k, v in complete.items() if v != defaults[k]}
    return {"name": spec["name"], **values} if values else str(spec["name"])


def output_channels(spec: FilterSpec) -> int | None:
    """Channels of a filter's targets, 1 or 3; None: the filter cannot be resolved or called.

    If the registry does not hold the number, the filter is called once, on a small picture.
    """
    try:
        channels = resolve(spec).channels
    except ClappError:  # the error is raised where the configuration is checked
        return None
    return channels or _channels_found(json.dumps(spec, default=str), tuple(_code(spec)))


def _code(spec: FilterSpec) -> Iterator[Any]:
    """The definitions and functions behind a specification, which is the key of a cache."""
    if isinstance(spec, list | tuple):
        for part in spec:
            yield from _code(part)
        return
    yield as_entry(spec)[0]
    for name in functions_in(spec):
        yield load_function(name)


@cache
def _channels_found(spec: str, _: tuple[Any, ...]) -> int | None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    try:
        return 3 if resolve(json.loads(spec))(picture).ndim == 3 else 1
    except ClappError:
        return None


def apply_filter(spec: FilterSpec, image: Picture) -> Target:
    """Filter one picture.

    Args:
        spec: a name, `module:function`, a mapping or a list, as in a configuration file.
        image: uint8 (H, W, 3) in RGB order, or (H, W), which stands for three equal channels.

    Returns:
        (H, W) or (H, W, 3): uint8, or float32 in [0, 1].

    Raises:
        ConfigError: see `resolve`.
        UserError: the picture has another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            "a picture is a uint8 array of shape (H, W, 3) or (H, W), "
            f"not {image.dtype} {image.shape}"
        )
    if image.size == 0:
        raise UserError(f"a picture needs at least one pixel, not {image.shape}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return resolve(spec)(np.ascontiguousarray(image))
