"""Is an audit log whole and unaltered? `audit_log` says how its entries are linked.

Two passes: the first finds the hash before the first entry that is left, which a retention entry
further on may tell; the second follows the chain.
"""

from __future__ import annotations

from typing import Any

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.records.audit_log import (
    GENESIS,
    HEAD,
    Position,
    digest_of,
    lines_of,
    read_head,
    read_log,
)


@frozen
class Problem:
    """What is wrong with a log, and where."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}"


def verify_log(folder: str) -> tuple[int, list[Problem]]:
    """(entries, problems) of a log; a torn last line is none, its writer was cut off.

    Raises:
        InvalidValueError: There is no log.
    """
    problems: list[Problem] = []
    of_beginning: list[Problem] = []
    start = _before_the_first(folder)
    before = last = None
    count = 0
    for name, number, line in lines_of(folder):
        entry = _entry(line)
        if entry is None:
            problems.append(Problem(name, number, "is no entry: altered or damaged"))
            before, last = last, last and Position(last.number + 1, "")
            continue
        digest, n = entry.pop("hash"), entry["n"]
        linked = digest_of(last.digest if last else start.digest, entry) == digest
        if last is None and n != 1:
            if not start.digest:
                of_beginning.append(Problem(name, 1, f"{n - 1} entries are missing before it"))
            elif not linked:
                of_beginning.append(Problem(name, 1, "was altered"))
        elif n != (last or start).number + 1:
            gap = n - (last or start).number - 1
            what = f"{gap} entries are missing before it" if gap > 0 else "is out of order"
            problems.append(Problem(name, number, what))
        elif (last or start).digest and not linked:
            problems.append(Problem(name, number, "was altered, or the one before it was"))
        before, last = last or start, Position(n, digest)
        count += 1
    return count, problems + of_beginning + _check_head(folder, before, last)


def _before_the_first(folder: str) -> Position:
    """The position before the first entry that is left."""
    first: int | None = None
    for entry in read_log(folder):
        n = entry.get("n")
        if first is None and isinstance(n, int) and isinstance(entry.get("hash"), str):
            first = n
        if first == 1:
            return Position(0, GENESIS)
        if first is not None and entry.get("event") == "retention":
            told = entry.get("last_hash")
            if entry.get("last_n") == first - 1 and isinstance(told, str):
                return Position(first - 1, told)
    return Position((first or 1) - 1, "")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = strict_loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    whole = isinstance(entry.get("hash"), str) and isinstance(entry.get("n"), int)
    return entry if whole else None


def _check_head(folder: str, before: Position | None, last: Position | None) -> list[Problem]:
    try:
        found = read_head(folder)
    except FileNotFoundError:
        return [] if last is None else [Problem(HEAD, 1, "is missing")]
    except (OSError, ValueError, KeyError, TypeError):
        return [Problem(HEAD, 1, "is damaged")]
    last = last or Position(0, GENESIS)
    if found.number == last.number and found.digest != last.digest:
        return [Problem(HEAD, 1, "does not belong to the last entry")]
    if found.number > last.number:
        return [Problem(HEAD, 1, f"{found.number - last.number} entries are missing at the end")]
    if found.number < last.number - 1:
        return [Problem(HEAD, 1, "is older than the log: entries were added by another program")]
    # A power cut between the line and this file leaves it one behind.
    behind = before is not None and before.number == found.number == last.number - 1
    if behind and before and before.digest not in ("", found.digest):
        return [Problem(HEAD, 1, "does not belong to the log")]
    return []
