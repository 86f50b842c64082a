"""From audit logs, as boxes or USB sticks bring them, to days; a log that is not whole is refused.

The input is copies of the folders that `--audit` writes. Each box is one folder; its name is the
box's. A box that comes again must hold what it held before: the entry at which the last collection
ended is looked for, by its number and hash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edge_runtime.basics.files import hold
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.fleet.days import Day, days_of
from edge_runtime.fleet.store import Box, read_boxes, read_days, write_store
from edge_runtime.images.inputs import Input
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import digest_of, read_log

_DEEPEST = 3  # folders below what is named


@frozen
class Collected:
    """What one collection took in."""

    boxes: tuple[str, ...]
    days: int  # of these boxes
    refused: tuple[tuple[str, str], ...]  # box, and why


def find_logs(folders: Sequence[str]) -> list[tuple[str, str]]:
    """(box, folder) of every audit log in or below the folders named.

    Raises:
        InvalidValueError: No log in one of them, or two boxes of one name.
    """
    found: list[tuple[str, str]] = []
    for folder in folders:
        here = list(_logs(os.path.normpath(folder), 0))
        if not here:
            raise InvalidValueError(f"{folder}: no audit log in it (audit-000001.jsonl)")
        for path in here:
            # stick/ward3/audit is box ward3.
            name = os.path.basename(path)
            if name in ("audit", "log") and os.path.dirname(path):
                name = os.path.basename(os.path.dirname(path)) or name
            found.append((Input(name).source, path))
    names = [name for name, _ in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        where = ", ".join(path for name, path in found if name == twice[0])
        raise InvalidValueError(f"two boxes are called {twice[0]!r} ({where}); rename a folder")
    return found


def _logs(folder: str, depth: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda e: e.name)
    except OSError as error:
        raise InvalidValueError(f"{folder}: {error.strerror or error}") from error
    if any(e.name.startswith("audit-") and e.name.endswith(".jsonl") for e in listed):
        yield folder
    elif depth < _DEEPEST:
        for entry in listed:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _logs(entry.path, depth + 1)


def collect(
    folders: Sequence[str], store: str, step: Callable[[], object] = lambda: None
) -> Collected:
    """Check every log and put its days into the store; the others stay as they were.

    Args:
        folders: Of audit logs, or above them.
        store: Folder of the Parquet files.
        step: Called after each box.

    Raises:
        InvalidValueError: No logs, or a store that is not one of ours.
        OSError: The store cannot be written.
    """
    logs = find_logs(folders)
    os.makedirs(store, exist_ok=True)
    held = hold(os.path.join(store, "lock"))
    if held is None:
        raise InvalidValueError(f"{store} is being written by another process; wait for it")
    try:
        return _collect(logs, store, step)
    finally:
        os.close(held)


def _collect(logs: Sequence[tuple[str, str]], store: str, step: Callable[[], object]) -> Collected:
    known, kept = read_boxes(store), read_days(store)
    refused: list[tuple[str, str]] = []
    taken: dict[str, list[Day]] = {}
    for name, path in logs:
        try:
            days, box = _take(name, path, known.get(name))
        except InvalidValueError as error:
            refused.append((name, str(error)))
        else:
            taken[name], known[name] = days, box
        step()
    if taken:
        merged = {_key(day): day for day in kept}
        for day in (d for days in taken.values() for d in days):
            # A log that dropped its oldest files holds only a part of its first day.
            if _key(day) not in merged or day.results >= merged[_key(day)].results:
                merged[_key(day)] = day
        write_store(store, list(merged.values()), known.values())
    return Collected(tuple(sorted(taken)), sum(map(len, taken.values())), tuple(refused))


def _key(day: Day) -> tuple[str, ...]:
    return day.box, day.date, day.bundle, day.engine, day.site


def _take(name: str, path: str, before: Box | None) -> tuple[list[Day], Box]:
    count, problems = verify_log(path)
    if problems:
        raise InvalidValueError(f"the log is not whole ({len(problems)} places): {problems[0]}")
    if not count:
        raise InvalidValueError("the log is empty")
    followed = _Followed(before)
    days = days_of(name, followed.entries(path))
    if before is not None and not followed.met:
        if followed.first > before.last_n:
            raise InvalidValueError(
                f"entries {before.last_n + 1} to {followed.first - 1} were never collected, and "
                "the log holds them no longer: collect more often, or keep more (--audit-keep)"
            )
        raise InvalidValueError(
            f"it is not the log that was collected before: entry {before.last_n} is another, or "
            "gone; a new log of a new box needs a new name"
        )
    return days, Box(name, followed.last_n, followed.last_hash)


class _Followed:
    """The entries of a log one after the other, and where the last collection ended among them."""

    def __init__(self, before: Box | None) -> None:
        self._before = before
        self.met = before is None
        self.first = self.last_n = 0
        self.last_hash = ""

    def entries(self, path: str) -> Iterator[dict[str, Any]]:
        for entry in read_log(path):
            self.last_n, self.last_hash = int(entry["n"]), str(entry["hash"])
            self.first = self.first or self.last_n
            if not self.met and self._before is not None:
                self.met = _is_or_follows(entry, self._before)
            yield entry


def _is_or_follows(entry: Mapping[str, Any], box: Box) -> bool:
    """Whether it is the last entry that was collected, or linked to it."""
    if entry["n"] == box.last_n:
        return bool(entry["hash"] == box.last_hash)
    rest = {key: value for key, value in entry.items() if key != "hash"}
    return bool(entry["n"] == box.last_n + 1 and digest_of(box.last_hash, rest) == entry["hash"])
