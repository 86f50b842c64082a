"""A progress bar on standard error, only where somebody is looking."""

from __future__ import annotations

import sys
import time

from edge_runtime.basics.streams import tell

_WIDTH = 30
_REDRAW_SECONDS = 0.1


class Progress:
    """`[###     ] 120/624  34.1 images/s  0:15 left`, redrawn in place; only at a terminal."""

    def __init__(self, total: int | None, unit: str = "images") -> None:
        self._total, self._count, self._unit = total, 0, unit
        self._start, self._before = time.monotonic(), 0
        self._drawn = 0.0
        self._visible = sys.stderr.isatty()

    def step(self, count: int = 1) -> None:
        self._count += count
        now = time.monotonic()
        if self._visible and (now - self._drawn > _REDRAW_SECONDS or self._count == self._total):
            self._drawn = now
            rate = (self._count - self._before) / max(now - self._start, 1e-9)
            bar = left = ""
            if self._total:
                left = f" {_clock((self._total - self._count) / rate)} left" if rate else ""
                filled = _WIDTH * self._count // self._total
                bar = f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {self._count}/{self._total}"
            tell(f"\r{bar or self._count}  {rate:.1f} {self._unit}/s {left}\x1b[K", end="")

    def start_clock(self) -> None:
        """Rate and time left are of what comes from now on: what came first took its start."""
        self._start, self._before = time.monotonic(), self._count

    def clear(self) -> None:
        """Remove the bar, so that the next line starts clean."""
        if self._visible:
            tell("\r\x1b[K", end="")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
