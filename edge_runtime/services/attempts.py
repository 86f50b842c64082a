"""Which inputs were in hand when the process ended without being asked to.

An input that makes the system end the process (memory, a fault in a decoder) would be met again at
each start, and nothing behind it would ever be screened. So what is begun is noted first, and the
note is taken back when the input is done. What is found noted at a start is tried once more, alone;
what ends the process a second time is set aside.

The notes need to outlive the process, not a power cut: they are written and not synced.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator

from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.errors import ErrorCode, ImageError

MOST_ATTEMPTS = 2
_MOST_NOTES = 2000  # in the file; then only what is not done is written again


class Attempts:
    """Notes in one file; safe between threads."""

    def __init__(self, path: str) -> None:
        """Read what an earlier process left.

        Raises:
            OSError: The file cannot be read or written.
        """
        self._lock = threading.Lock()
        self._path = path
        self._counts: Counter[str] = Counter()
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            for line in file:
                self._read(line)
        self._counts = +self._counts  # without those that were done
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - as long as the process lives
        self._notes = 0
        self._rewrite()

    def _read(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError):  # torn: a note that was never finished
            event, key = strict_loads(line)
            if event == "begun":
                self._counts[str(key)] += 1
            elif event == "done":
                del self._counts[str(key)]

    def _rewrite(self) -> None:
        """Only what is not done. Called with the lock, or before there are threads."""
        self._file.truncate(0)
        self._notes = 0
        for key, count in self._counts.items():
            self._file.write(_line("begun", key) * count)

    def close(self) -> None:
        self._file.close()

    def suspects(self) -> list[str]:
        """What was in hand when an earlier process ended: to be tried alone."""
        return sorted(self._counts)

    def is_given_up(self, key: str) -> bool:
        """Whether it ended the process as often as an input may."""
        return self._counts[key] >= MOST_ATTEMPTS

    @contextlib.contextmanager
    def attempt(self, key: str) -> Iterator[None]:
        """Note `key` while the block runs; an exception is no end of the process."""
        self.begin(key)
        try:
            yield
        finally:
            self.done(key)

    def begin(self, key: str) -> None:
        with self._lock:
            self._counts[key] += 1
            self._note("begun", key)

    def done(self, key: str) -> None:
        with self._lock:
            del self._counts[key]
            self._note("done", key)

    def _note(self, event: str, key: str) -> None:
        """One line more; where nothing is in hand, or many lines are, only what is not done."""
        self._notes += 1
        if not self._counts or self._notes > _MOST_NOTES:
            self._rewrite()
        else:
            self._file.write(_line(event, key))


def given_up() -> ImageError:
    """The error in the record of an input that is set aside."""
    return ImageError(
        ErrorCode.SET_ASIDE,
        f"the program ended {MOST_ATTEMPTS} times while it was screening this, so it is set aside; "
        "screen it by itself: cxr-edge screen FILE",
    )


def _line(event: str, key: str) -> bytes:
    return json.dumps([event, key]).encode() + b"\n"
