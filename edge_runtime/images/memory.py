"""How much memory decoding may take, of one film and of all that are decoded at the same time.

A header can promise what no film has, and several ordinary films at once can be too much for a
small board. Each reader says beforehand what it will need; what is more than there is for all is
refused by name, and what does not fit beside the others waits for them.
"""

from __future__ import annotations

import _thread
import contextlib
import os
from collections.abc import Iterator

from edge_runtime.errors import ErrorCode, ImageError

# With interpreter, libraries and the largest of our models a process stays under 250 MB.
MOST_BYTES = 176_000_000


class Room:
    """So many bytes, shared by threads. First come, first served: a large film gets its turn."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._turn, self._count = _thread.allocate_lock(), _thread.allocate_lock()
        self._given_back = _thread.allocate_lock()
        self._given_back.acquire()

    @contextlib.contextmanager
    def hold(self, needed: int, remedy: str) -> Iterator[None]:
        """Have `needed` bytes, for as long as the block runs.

        Args:
            needed: An estimate from above.
            remedy: What whoever made the file can do, for the message.

        Raises:
            ImageError: It is more than there is, even with nobody else.
        """
        if needed > self._total:
            raise ImageError(
                ErrorCode.IMAGE_TOO_LARGE,
                f"decoding would take about {needed / 1e6:.0f} MB of memory, more than the limit "
                f"of {self._total / 1e6:.0f}; {remedy}",
            )
        with self._turn:
            while not self._take(needed):
                self._given_back.acquire()
        try:
            yield
        finally:
            with self._count:
                self._free += needed
                if self._given_back.locked():
                    self._given_back.release()

    def _take(self, needed: int) -> bool:
        with self._count:
            if needed > self._free:
                return False
            self._free -= needed
            return True


ROOM = Room(MOST_BYTES)

# From such a size on, files are not even read beside each other.
_LARGE_FILE = 48_000_000
_LARGE_FILES = _thread.allocate_lock()
_ANY_NUMBER: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


def turn_of(image: object) -> contextlib.AbstractContextManager[object]:
    """What to hold while an image is read and decoded: the turn of the large files, or nothing.

    Args:
        image: A path, the bytes of a file, or pixels.
    """
    size = 0
    if isinstance(image, bytes):
        size = len(image)
    elif isinstance(image, (str, os.PathLike)):
        with contextlib.suppress(OSError, ValueError):  # reading it will say so
            size = os.stat(image).st_size
    return _LARGE_FILES if size > _LARGE_FILE else _ANY_NUMBER
