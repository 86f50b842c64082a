"""From audit logs, as boxes or USB sticks bring them, to days; a log that is not whole is refused.

The input is copies of the folders that `--audit` writes. Each box is one folder; its name is the
box's. A box that comes again must hold what it held before: the entry at which the last collection
ended is looked for, by its number and hash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from edge_runtime.basics.files import hold
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.fleet.days import Day, days_of
from edge_runtime.fleet.store import Box, read_boxes, read_days, write_store
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import read_log

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
            found.append((name, path))
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
        # A log that drops its oldest files keeps its later days; what it dropped stays here.
        first = {name: min((d.date for d in days), default="9999") for name, days in taken.items()}
        older = [d for d in kept if d.box not in taken or d.date < first[d.box]]
        write_store(store, [*older, *(d for days in taken.values() for d in days)], known.values())
    return Collected(tuple(sorted(taken)), sum(map(len, taken.values())), tuple(refused))


def _take(name: str, path: str, before: Box | None) -> tuple[list[Day], Box]:
    count, problems = verify_log(path)
    if problems:
        raise InvalidValueError(f"the log is not whole ({len(problems)} places): {problems[0]}")
    if not count:
        raise InvalidValueError("the log is empty")
    met = before is None
    last_n, last_hash, first_n = 0, "", 0
    entries = []
    for entry in read_log(path):
        n, digest = int(entry["n"]), str(entry["hash"])
        first_n = first_n or n
        last_n, last_hash = n, digest
        met = met or (before is not None and n == before.last_n and digest == before.last_hash)
        entries.append(entry)
    if before is not None and not met:
        if first_n > before.last_n:
            raise InvalidValueError(
                f"entries {before.last_n + 1} to {first_n - 1} were never collected, and the log "
                "no longer holds them: collect more often, or keep more files (--audit-keep)"
            )
        raise InvalidValueError(
            f"it is not the log that was collected before: entry {before.last_n} is another, or "
            "gone; a new log of a new box needs a new name"
        )
    days = days_of(name, entries)
    if days and first_n > 1:
        # The first day that is left may have lost its beginning.
        days = [d for d in days if d.date > days[0].date] if before is not None else days
    return days, Box(name, last_n, last_hash)
