"""How the C library keeps memory that is free again."""

from __future__ import annotations

import os
import sys

_M_ARENA_MAX = -8  # malloc.h of glibc


def share_one_heap() -> None:
    """Let all threads of this process allocate from one heap, where the C library is glibc.

    Otherwise every thread that decodes images gets a heap of its own, and each grows to the largest
    film that it ever met: 80 MB after a thousand films, where one heap stays below 70. Images are
    few and large allocations, so nobody waits for the heap (docs/experiments.md). For processes
    that are ours: a program that imports the runtime keeps its own ways. Whoever sets
    MALLOC_ARENA_MAX or GLIBC_TUNABLES has decided already. Call it before there are threads.
    """
    if not sys.platform.startswith("linux"):
        return
    if "MALLOC_ARENA_MAX" in os.environ or "GLIBC_TUNABLES" in os.environ:
        return
    try:
        import ctypes  # numpy has loaded it

        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (ImportError, OSError, AttributeError):  # another C library (musl), or none to ask
        return
