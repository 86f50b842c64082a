"""A hot folder: files that are dropped there are screened once each, and survive restarts.

The folder is looked at at intervals and not through the kernel's notifications, which network
shares do not give: such a folder is where an X-ray workstation exports to. A file is complete when
its size and time have stayed the same for `settle` seconds.

Order: record on the disk, then the file is moved. After a crash between the two the file is found
again, its record is found by name and content, and only the move is made up for. A file on which
the process ended is tried once more, alone, and then set aside (edge_runtime.services.attempts).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator

from edge_runtime.basics.files import hold
from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.in_order import map_in_order
from edge_runtime.errors import ImageError, InvalidValueError
from edge_runtime.images.file import hash_file
from edge_runtime.images.inputs import Input, find_inputs
from edge_runtime.records.record import Examination, Record
from edge_runtime.records.resume import open_output
from edge_runtime.screener import Screener
from edge_runtime.services.attempts import Attempts, given_up

_LONGEST_NAME = 255  # bytes, on the file systems that there are

# What programs call a file that they have not finished.
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")


@frozen
class WatchSettings:
    folder: str
    output: str
    format_name: str = "jsonl"
    done: str | None = None  # screened files are moved there; None leaves them
    failed: str | None = None  # files without a result are moved there; None: as `done`
    interval: float = 1.0
    settle: float = 2.0
    own: tuple[str, ...] = ()  # further files and folders of ours, wherever they lie


@dataclasses.dataclass
class _Seen:
    state: tuple[int, int]  # size and time of the last change
    since: float
    dealt_with: bool = False


class Watcher:
    """Screens what arrives in a folder."""

    def __init__(
        self,
        screener: Screener,
        settings: WatchSettings,
        workers: int,
        on_record: Callable[[Record], None] = lambda record: None,
        before_record: Callable[[Record], None] = lambda record: None,
        on_trouble: Callable[[str, str], None] = lambda event, text: None,
    ) -> None:
        """Open the output, take up what an earlier run left.

        Args:
            screener: Judges the files.
            settings: Folders, output and patience.
            workers: Threads.
            on_record: Called when a record is on the disk.
            before_record: Called before it is written (an audit log).
            on_trouble: Called with an event, "not_moved" or "set_aside", and what happened.

        Raises:
            InvalidValueError: No such folder; another watcher writes this output; or the output
                holds results of another model.
            OutputError: The output cannot be written (edge_runtime.records.output).
        """
        if not os.path.isdir(settings.folder):
            raise InvalidValueError(f"{settings.folder} is no folder")
        self._screener, self._settings, self._workers = screener, settings, workers
        self._on_record, self._on_trouble = on_record, on_trouble
        for path in (settings.done, settings.failed):
            if path:
                os.makedirs(path, exist_ok=True)
        # Two watchers of one output would screen every file twice.
        lock = hold(settings.output + ".lock")
        if lock is None:
            raise InvalidValueError(f"another watcher writes {settings.output}")
        self._lock = lock
        self._writer, self._done = open_output(
            settings.output, settings.format_name, screener.conditions, before_record
        )
        self._attempts = Attempts(settings.output + ".attempts")
        self._seen: dict[str, _Seen] = {}

    def close(self) -> None:
        self._writer.close()
        self._attempts.close()
        os.close(self._lock)

    @property
    def waiting(self) -> bool:
        """Whether a file has been seen that is not complete yet."""
        return any(not seen.dealt_with for seen in self._seen.values())

    def step(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Look once; screen what is complete. The number of files dealt with."""
        count = 0
        fresh: list[Input] = []
        for item in list(self._complete()):
            status = self._known(item)
            if status is None:
                fresh.append(item)
            else:
                self._put_away(item.path, status == "ok")
                count += 1
        suspects = self._attempts.suspects()
        alone = [item for item in fresh if _key(item) in suspects] if suspects else []
        together = [item for item in fresh if item not in alone]
        for part in (*([item] for item in alone), together):
            count += self._screen(part, stopped)
        return count

    def _screen(self, items: list[Input], stopped: Callable[[], bool]) -> int:
        count = 0
        results = map_in_order(self._examine, items, self._workers)
        with contextlib.closing(results):
            # Not zip: it would take one more result than is wanted when told to stop.
            for item in items:
                if stopped():
                    break
                record = next(results).record
                self._writer.write(record)
                self._writer.sync()
                if record.sha256:
                    self._done[record.source, record.sha256] = record.status
                self._on_record(record)
                self._put_away(item.path, record.status == "ok")
                count += 1
        return count

    def _examine(self, item: Input) -> Examination:
        key = _key(item)
        if self._attempts.is_given_up(key):
            self._attempts.done(key)
            self._on_trouble("set_aside", f"{item.source} ended the program twice: set aside")
            digest = None
            with contextlib.suppress(ImageError):
                digest = hash_file(item.path)
            return Examination(self._screener.error_record(item.source, digest, given_up()))
        with self._attempts.attempt(key):
            return self._screener.examine(item.path, item.source)

    def _complete(self) -> Iterator[Input]:
        settings, now = self._settings, time.monotonic()
        beside = (settings.output + end for end in ("", ".lock", ".attempts"))
        named = (*beside, settings.done, settings.failed)
        own = [p for p in (*named, *settings.own) if p]
        seen: dict[str, _Seen] = {}
        for item in find_inputs([settings.folder], own):
            if item.error is not None or item.path.lower().endswith(_UNFINISHED):
                continue
            try:
                status = os.stat(item.path)
            except OSError:
                continue  # gone again
            if not stat.S_ISREG(status.st_mode):
                continue  # a pipe would hold us up for ever
            state = (status.st_size, status.st_mtime_ns)
            before = self._seen.get(item.path)
            found = before if before and before.state == state else _Seen(state, now)
            seen[item.path] = found
            if not found.dealt_with and now - found.since >= settings.settle:
                found.dealt_with = True
                yield item
        self._seen = seen

    def _known(self, item: Input) -> str | None:
        """The status in the file's record; None where it has none yet."""
        with contextlib.suppress(ImageError):  # unreadable now: its record will say so
            return self._done.get((item.source, hash_file(item.path)))
        return None

    def _put_away(self, path: str, good: bool) -> None:
        """Move a file that has its record; one that cannot be moved stays, and stops nothing."""
        settings = self._settings
        folder = settings.done if good else settings.failed or settings.done
        if folder is None:
            return
        relative = os.path.relpath(path, settings.folder)
        trouble: OSError | None = None
        # Below its own folder's name; or where that is taken by a file, or too long, beside it.
        for name in (relative, os.path.basename(relative)):
            try:
                target = _free_name(os.path.join(folder, name))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.move(path, target)
                return
            except OSError as error:
                trouble = error
                if not os.path.lexists(path):
                    return  # somebody else took it away; its record is written
        assert trouble is not None
        self._on_trouble(
            "not_moved",
            f"{path} was screened but cannot be moved to {folder}: {trouble.strerror or trouble}",
        )


def _key(item: Input) -> str:
    """What the file is noted as: the same name with other content is another file."""
    with contextlib.suppress(OSError):  # gone: examining it says so
        status = os.stat(item.path)
        return f"{item.source}|{status.st_size}|{status.st_mtime_ns}"
    return item.source


def _free_name(target: str) -> str:
    """A path that nothing is at: the same name may come on another day."""
    folder, name = os.path.split(target)
    stem, extension = os.path.splitext(name)
    room = _LONGEST_NAME - len(os.fsencode(extension))
    number = 1
    candidate = target
    while os.path.lexists(candidate):
        number += 1
        mark = f"-{number}"
        short = os.fsdecode(os.fsencode(stem)[: max(1, room - len(mark))])
        candidate = os.path.join(folder, f"{short}{mark}{extension}")
    return candidate
