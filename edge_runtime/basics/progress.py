"""A progress bar on standard error, only where somebody is looking."""

from __future__ import annotations

import sys
import time

from edge_runtime.basics.streams import tell

_WIDTH = 30
_REDRAW_SECONDS = 0.1


class Progress:
    """`[#####     ]  120/624  34.1 images/s`, redrawn in place; silent where not a terminal."""

    def __init__(self, total: int | None) -> None:
        self._total, self._count = total, 0
        self._start = time.monotonic()
        self._drawn = 0.0
        self._visible = sys.stderr.isatty()

    def step(self) -> None:
        self._count += 1
        now = time.monotonic()
        if self._visible and (now - self._drawn > _REDRAW_SECONDS or self._count == self._total):
            self._drawn = now
            rate = self._count / max(now - self._start, 1e-9)
            bar = ""
            if self._total:
                filled = _WIDTH * self._count // self._total
                bar = f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {self._count}/{self._total}"
            tell(f"\r{bar or self._count}  {rate:.1f} images/s \x1b[K", end="")

    def clear(self) -> None:
        """Remove the bar, so that the next line starts clean."""
        if self._visible:
            tell("\r\x1b[K", end="")
