"""The learning curve of one training as a picture: an SVG, drawn in well under a millisecond."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clapp.training.losses import loss_text, positive

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 40, 36
_FEW_DECADES = 2  # if fewer powers of ten are marked, 2 and 5 times each are marked too
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
width="{width}" height="{height}" font-family="Arial, Helvetica, sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#fff"/>
<g fill="#555">
<text x="{left}" y="24" font-size="15" fill="#222">{title}</text>
{grid}
</g>
<polyline points="{line}" fill="none" stroke="#1f6fb4" stroke-width="2" stroke-linejoin="round"/>
<circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="4" fill="#1f6fb4"/>
</svg>
"""


class _Axis(NamedTuple):
    """Where values lie on the picture: linear from `low` to `high`, `start` to `end` in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def curve_svg(points: Sequence[tuple[int, float]]) -> str:
    """Validation L2, on a log scale, over iterations.

    Args:
        points: the (iteration, L2) of each validation, at least one, all finite.
    """
    logs = [math.log10(positive(l2)) for _, l2 in points]
    ticks = _levels(min(logs), max(logs))
    x = _Axis(0, points[-1][0], _LEFT, _WIDTH - _RIGHT)
    y = _Axis(min(*logs, ticks[0]), max(*logs, ticks[-1]), _HEIGHT - _BOTTOM, _TOP)
    places = [(x(step), y(log)) for (step, _), log in zip(points, logs, strict=True)]
    last, l2 = points[-1]
    return _SVG.format(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        title=f"loss {loss_text(l2)} after {last:,} iteration{'s' * (last != 1)}",
        grid="\n".join([*_rows(y, ticks), *_columns(x, last)]),
        line=" ".join(f"{a:.1f},{b:.1f}" for a, b in places),
        end_x=places[-1][0],
        end_y=places[-1][1],
    )


def _levels(low: float, high: float) -> list[float]:
    """Logarithms of the values to mark around `low` to `high`: two at least."""
    factors = (1, 2, 5) if high - low < _FEW_DECADES else (1,)
    exponents = range(math.floor(low) - 1, math.ceil(high) + 2)
    marks = [exponent + math.log10(factor) for exponent in exponents for factor in factors]
    first = max(i for i, mark in enumerate(marks) if mark <= low)
    last = min(i for i, mark in enumerate(marks) if mark >= high and i > first)
    return marks[first : last + 1]


def _rows(y: _Axis, ticks: Iterable[float]) -> Iterable[str]:
    for tick in ticks:
        at = f"{y(tick):.1f}"
        yield f'<path d="M{_LEFT} {at}H{_WIDTH - _RIGHT}" stroke="#e4e4e4"/>'
        yield f'<text x="{_LEFT - 8}" y="{at}" dy="4" text-anchor="end">{10**tick:.2g}</text>'


def _columns(x: _Axis, last: int) -> Iterable[str]:
    # At most six round numbers, so that their labels never meet.
    size = 10 ** math.floor(math.log10(last))
    step = next(s for s in (size // 5, size // 2, size, 2 * size) if s and last / s <= 6)
    for value in range(0, last + 1, step):
        at = f"{x(value):.1f}"
        yield f'<path d="M{at} {_HEIGHT - _BOTTOM}v5" stroke="#999"/>'
        yield f'<text x="{at}" y="{_HEIGHT - 12}" text-anchor="middle">{value:,}</text>'
