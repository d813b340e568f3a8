"""The cost of the classical filter, where it is known."""

from typing import NamedTuple

from clapp.errors import ConfigError
from clapp.filters.base import FilterSpec
from clapp.filters.learned.settings import Ranges, at_values, settings_of
from clapp.filters.library import resolve

UNKNOWN = "Its cost does not depend on kernels alone, so it has no FLOPs."


class Classical(NamedTuple):
    """FLOPs of a filter at 224x224, or None and the reason."""

    flops: int | None
    source: str


def classical(spec: FilterSpec, ranges: Ranges | None = None) -> Classical:
    """The cost of a filter; with settings, where it is the same at both ends of their ranges."""
    try:
        settings = settings_of(spec, ranges)
    except ConfigError:  # its code is not on this machine
        return Classical(None, UNKNOWN)
    lowest, highest = {s.name: s.low for s in settings}, {s.name: s.high for s in settings}
    ends = [_classical(at_values(spec, settings, values)) for values in (lowest, highest)]
    if ends[0] == ends[1]:
        return ends[0]
    return Classical(None, f"What it costs depends on {', '.join(s.name for s in settings)}.")


def _classical(spec: FilterSpec) -> Classical:
    """The cost of a filter, counted as a network's convolutions are: 2 for each multiply-add.

    For kernels this is 2 per weight and pixel. The root of a sum of squares and the division by a
    maximum are not counted, as in a network. Other operations count 2 each.
    """
    try:
        facts = resolve(spec).facts
    except ConfigError:  # the filter's code is not on this machine
        return Classical(None, UNKNOWN)
    if facts.work is None or facts.flops is None:
        return Classical(None, UNKNOWN)
    what, _, which = facts.counted.partition(": ")
    if which:
        counted = f"those of its kernels, counted alike: {facts.work:g} weights ({which})"
    else:
        counted = f"2 for each of {facts.work:,.4g} operations a pixel ({what or 'of any kind'})"
    return Classical(facts.flops, f"Its FLOPs are {counted}.")
