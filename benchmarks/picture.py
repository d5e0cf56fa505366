"""The ratios as a picture: one row for each workload and peer, on a logarithmic scale. Pure: results in, SVG out.

       0.1        1         10        100
Ray               │    ├──●──┤              ●  median, ├ ┤ least and most, ╎ target
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from measured import ratios

if TYPE_CHECKING:
    from collections.abc import Iterable

    from measured import Claim, Result, Spread

#: Pixels.
_LEFT, _WIDTH, _RIGHT, _ROW, _TOP = 290, 500, 240, 24, 66
#: Of a ratio that has no target, keeps it, or does not.
_FREE, _MET, _SHORT = "#5b7083", "#1a7f37", "#c93c20"


@dataclass(frozen=True)
class _Row:
    label: str
    ratio: Spread
    claim: Claim | None


@dataclass(frozen=True)
class _Scale:
    """Where a ratio stands: powers of ten from `low` to `high`."""

    low: int
    high: int

    def x(self, ratio: float) -> float:
        """Pixels from the left."""
        return _LEFT + _WIDTH * (math.log10(ratio) - self.low) / (self.high - self.low)


def svg(results: Iterable[Result]) -> str:
    """How many times as fast as each peer; rows of one workload stand under its title. Rows without rounds are left
    out."""
    groups = [(result.title, rows) for result in results if (rows := _rows(result))]
    scale = _scale([row.ratio for _, rows in groups for row in rows])
    drawn, y = [], _TOP
    for title, rows in groups:
        drawn.append(_text(12, y + 16, title, weight="bold"))
        y += _ROW
        for row in rows:
            drawn.append(_drawn(row, scale, y + 12))
            y += _ROW
        y += _ROW // 2
    return _page(y, [*_axis(scale, y), *drawn])


def _rows(result: Result) -> list[_Row]:
    claims = {each.against: each for each in result.claims if each.against}
    own = result.measured[result.compared[-1]] if result.compared else []
    return [_Row(name, ratios(own, rounds), claims.get(name)) for name, rounds in result.others.items() if rounds]


def _scale(spreads: list[Spread]) -> _Scale:
    lowest = min([0.5, *(each.least for each in spreads)])
    highest = max([2.0, *(each.most for each in spreads)])
    return _Scale(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)))


def _drawn(row: _Row, scale: _Scale, y: float) -> str:
    colour = _FREE if row.claim is None else _MET if row.claim.met else _SHORT
    least, middle, most = map(scale.x, (row.ratio.least, row.ratio.median, row.ratio.most))
    parts = [
        _text(_LEFT - 12, y + 4, row.label, anchor="end"),
        _line(least, y, most, y, colour, width=3),
        f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>',
        _text(_LEFT + _WIDTH + 16, y + 4, _told(row), colour=colour),
    ]
    if row.claim:
        at = scale.x(row.claim.times_as_fast)
        parts.append(_line(at, y - 10, at, y + 10, "#111111", width=2))
    return "".join(parts)


def _told(row: _Row) -> str:
    """The median, and what it has to be."""
    if row.claim is None:
        return f"{row.ratio.median:.3g}"
    verdict = "met" if row.claim.met else "falls short"
    return f"{row.ratio.median:.3g}, target {row.claim.times_as_fast:.3g}: {verdict}"


def _axis(scale: _Scale, bottom: float) -> list[str]:
    drawn = [
        _text(12, 24, "batchmesh is so many times as fast as", weight="bold"),
        _text(_LEFT + 40, 24, "● median   — least to most   | target"),
    ]
    for power in range(scale.low, scale.high + 1):
        x = scale.x(10**power)
        drawn += [
            _line(x, 52, x, bottom, "#999999" if power == 0 else "#dddddd"),
            _text(x, 46, _times(power), "middle"),
        ]
    return drawn


def _times(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#222222", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _page(height: float, drawn: list[str]) -> str:
    size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{height:.0f}"'
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    return "\n".join([begin, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>\n"])
