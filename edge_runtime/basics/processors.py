"""How many processors there are for us."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """Processors that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def default_threads() -> int:
    """The same, at most 4: a small network gains nothing beyond."""
    return min(4, usable_processors())
