"""Plots of values from 0 to 1, drawn as SVG by hand: no plotting library runs on the device."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_MARGIN = 40


class Plot:
    """A square or wide plot of values from 0 to 1 on either axis."""

    def __init__(self, title: str, x: str, y: str, width: int = 300, height: int = 300) -> None:
        self._title, self._names, self._size = title, (x, y), (width, height)
        self._body: list[str] = []

    def line(self, points: Sequence[tuple[float, float]], colour: str, dashes: str = "") -> None:
        shown = [point for point in points if not any(map(math.isnan, point))]
        text = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in shown)
        dashes = f" stroke-dasharray='{dashes}'" if dashes else ""
        self._body.append(
            f"<polyline points='{text}' fill='none' stroke='{colour}' stroke-width='1.8'{dashes}/>"
        )

    def dot(self, x: float, y: float) -> None:
        self._body.append(
            f"<circle cx='{self._x(x):.1f}' cy='{self._y(y):.1f}' r='4' fill='#1f5fa8'/>"
        )

    def name(self, x: float, y: float, text: str, colour: str) -> None:
        self._body.append(
            f"<text x='{self._x(x):.0f}' y='{self._y(y):.0f}' style='fill:{colour}'>"
            f"{html.escape(text)}</text>"
        )

    def svg(self) -> str:
        width, height = (side + 2 * _MARGIN for side in self._size)
        ticks = []
        for v in (0, 0.5, 1):
            x, y = f"{self._x(v):.0f}", f"{self._y(0) + 15:.0f}"
            ticks.append(f"<text x='{x}' y='{y}' text-anchor='middle'>{v:g}</text>")
            x, y = f"{self._x(0) - 5:.0f}", f"{self._y(v) + 4:.0f}"
            ticks.append(f"<text x='{x}' y='{y}' text-anchor='end'>{v:g}</text>")
        title, x, y = (html.escape(text, quote=True) for text in (self._title, *self._names))
        return (
            f"<svg width='{width}' height='{height}' viewBox='0 0 {width} {height}' role='img' "
            f"aria-label='{title}'>"
            f"<text x='{width / 2}' y='18' text-anchor='middle' font-weight='bold'>{title}</text>"
            f"<rect x='{_MARGIN}' y='{_MARGIN}' width='{self._size[0]}' height='{self._size[1]}' "
            f"fill='none' stroke='#8888'/>{''.join(ticks + self._body)}"
            f"<text x='{width / 2}' y='{height - 6}' text-anchor='middle'>{x}</text>"
            f"<text x='12' y='{height / 2}' text-anchor='middle' "
            f"transform='rotate(-90 12 {height / 2})'>{y}</text></svg>"
        )

    def _x(self, value: float) -> float:
        return _MARGIN + value * self._size[0]

    def _y(self, value: float) -> float:
        return _MARGIN + (1 - value) * self._size[1]
