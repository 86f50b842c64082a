"""An append-only, hash-chained log of what was screened, on this machine alone.

Each line is a JSON object whose `hash` is the SHA-256 of the line before it and of its own other
fields, so that a changed, missing or inserted line breaks the chain there. `head` holds the last
line's number and hash: lines taken off the end are missed against it. No patient identifiers: an
image is its SHA-256.

    audit-000001.jsonl, audit-000002.jsonl, …   one continues the other
    head.json                                    replaced as a whole after each line

An entry is written before the result that it tells of: after a crash an image can be in the log
twice, but no result is without its entry. A power cut can leave a torn last line; the next writer
drops it and says so in the log. The chain shows tampering by hand and by accident; whoever can
rewrite the whole folder can forge it, so copy `head.json` elsewhere now and then, if that matters.

Source: the linking scheme of Haber and Stornetta, Journal of Cryptology 3:99 (1991).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from edge_runtime.basics.files import APPEND, hold, write_whole
from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.regular_file import TooLargeError, open_regular, read_regular
from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.records.record import Record

SCHEMA = "cxr-edge/audit/1"
GENESIS = "0" * 64
_NAME = re.compile(r"audit-(\d{6})\.jsonl")
HEAD = "head.json"
_LONGEST_LINE = 1_000_000  # bytes; entries have some hundred


class AuditError(CxrEdgeError):
    """The log cannot be written, or is not whole."""


@frozen
class Position:
    """Number and hash of an entry; an unknown hash is ""."""

    number: int
    digest: str


class AuditLog:
    """Appends entries; safe between threads and between processes."""

    def __init__(
        self,
        folder: str,
        max_file_bytes: int = 16_000_000,
        keep_files: int = 0,
    ) -> None:
        """Open a log to append to it, and begin one where there is none.

        Args:
            folder: Of the log.
            max_file_bytes: A file is followed by the next one when it is larger.
            keep_files: Older files than so many are removed, which the log says; 0 keeps all.

        Raises:
            AuditError: The folder cannot be written, or another process holds the log.
        """
        self._folder = folder
        self._max_bytes, self._keep = max_file_bytes, keep_files
        self._lock = threading.Lock()
        self._last = Position(0, GENESIS)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            guard = hold(os.path.join(folder, "lock"))
        except OSError as error:
            raise AuditError(f"{folder}: {error.strerror or error}") from error
        if guard is None:
            raise AuditError(f"{folder}: another process writes this log")
        self._guard = guard
        torn = self._open_last()
        found = self._last
        said = self._follow_head()
        if torn:
            self.append("recovered", {"torn_bytes": torn})
        if said:
            self.append("irregular", {"what": said, "last_n_found": found.number})

    def _follow_head(self) -> str | None:
        """Go on from `head`; what is irregular about it, if anything.

        A head ahead of the log means that entries were taken off: numbering goes on after them, so
        that the gap stays in the log for good.
        """
        try:
            head = read_head(self._folder)
        except FileNotFoundError:
            self._write_head()  # before the first line, so that no line is ever without it
            return "head.json was missing" if self._last.number else None
        except (OSError, ValueError, KeyError, TypeError):
            return "head.json was damaged"
        if head.number > self._last.number:
            self._last = head
            return "entries are missing at the end"
        if head.number < self._last.number - 1:
            return "entries were added by another program"
        if head.number == self._last.number - 1:
            self._write_head()  # the end came between the line and this file
        return None

    def _open_last(self) -> int:
        """Open the last file for appending; the bytes of a torn line that were dropped."""
        numbers = _files(self._folder)
        self._number = numbers[-1] if numbers else 1
        path = self._path(self._number)
        torn = 0
        if numbers:
            with open(path, "r+b") as file:
                content = file.read()
                whole = content.rfind(b"\n") + 1
                torn = len(content) - whole
                if torn:
                    file.truncate(whole)
        self._last = _last_position(self._folder, numbers)
        self._descriptor = os.open(path, APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        return torn

    def record(self, record: Record) -> None:
        """Append what a record says of an image.

        Raises:
            AuditError: It could not be written.
        """
        self.append(
            "result",
            {
                "image": record.sha256,
                "status": record.status,
                "probability": record.probability,
                "decision": record.decision,
                "operating_point": record.operating_point,
                "threshold": record.threshold,
                "flags": list(record.quality.flags),
                "ood_score": record.quality.ood_score,
                "error": record.error.code if record.error else None,
                "bundle": record.model.sha256,
                "engine": record.model.engine,
                "site": record.site,
            }
            | ({"population": record.population} if record.population else {}),
        )

    def check_writable(self) -> None:
        """Write `head.json` again, as it is.

        Raises:
            AuditError: The folder cannot be written now.
        """
        with self._lock:
            self._write_head()

    def append(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one entry; it is on the disk when this returns.

        Raises:
            AuditError: It could not be written.
        """
        with self._lock:
            if self._size > self._max_bytes:
                self._rotate()
            self._write(event, fields)

    def _write(self, event: str, fields: Mapping[str, Any]) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = {"n": self._last.number + 1, "time": stamp, "event": event, **fields}
        digest = digest_of(self._last.digest, entry)
        text = json.dumps(entry | {"hash": digest}, ensure_ascii=False)
        line = text.encode("utf-8", "backslashreplace") + b"\n"  # \udcff: as JSON has it
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise AuditError(f"{self._folder}: {error.strerror or error}") from error
        self._size += len(line)
        self._last = Position(entry["n"], digest)
        self._write_head()

    def _write_head(self) -> None:
        path = os.path.join(self._folder, HEAD)
        head = {"schema": SCHEMA, "n": self._last.number, "hash": self._last.digest}
        try:
            write_whole(path, json.dumps(head).encode())
        except OSError as error:
            raise AuditError(f"{path}: {error.strerror or error}") from error

    def _rotate(self) -> None:
        os.close(self._descriptor)
        self._number += 1
        self._descriptor = os.open(self._path(self._number), APPEND, 0o600)
        self._size = 0
        numbers = _files(self._folder)
        old = numbers[: -self._keep] if self._keep else []
        removed = [f"audit-{number:06}.jsonl" for number in old]
        if removed:
            end = _last_position(self._folder, old)
            # Said before they go, so that a missing beginning is either said here or a gap.
            self._write(
                "retention", {"removed": removed, "last_n": end.number, "last_hash": end.digest}
            )
            for number in old:
                os.unlink(self._path(number))

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"audit-{number:06}.jsonl")

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._guard)


def read_log(folder: str) -> Iterator[dict[str, Any]]:
    """Every whole entry, oldest first, without judging it.

    Raises:
        InvalidValueError: There is no log.
    """
    for _, _, line in lines_of(folder):
        with contextlib.suppress(ValueError):
            entry = strict_loads(line)
            if isinstance(entry, dict):
                yield entry


def read_head(folder: str) -> Position:
    """The last entry by head.json; OSError, ValueError, KeyError or TypeError where damaged."""
    try:
        head = json.loads(read_regular(os.path.join(folder, HEAD), _LONGEST_LINE))
    except TooLargeError as error:
        raise ValueError(str(error)) from error
    if head["schema"] != SCHEMA or not isinstance(head["n"], int):
        raise ValueError
    return Position(head["n"], str(head["hash"]))


def lines_of(folder: str) -> Iterator[tuple[str, int, bytes]]:
    """(file, line number, line) of every whole line."""
    numbers = _files(folder)
    if not numbers:
        raise InvalidValueError(f"{folder} holds no audit log")
    for number in numbers:
        name = f"audit-{number:06}.jsonl"
        try:
            file = open_regular(os.path.join(folder, name))
        except OSError as error:
            raise InvalidValueError(f"{folder}/{name}: {error.strerror or error}") from error
        with file:
            # What is longer comes in pieces, which are no entries.
            i = 0
            while line := file.readline(_LONGEST_LINE):
                i += 1
                if line.endswith(b"\n") or number != numbers[-1]:
                    yield name, i, line


def _files(folder: str) -> list[int]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InvalidValueError(f"{folder}: {error.strerror or error}") from error
    return sorted(int(found.group(1)) for name in names if (found := _NAME.fullmatch(name)))


def _last_position(folder: str, numbers: list[int]) -> Position:
    for number in reversed(numbers):
        last = b""
        with open(os.path.join(folder, f"audit-{number:06}.jsonl"), "rb") as file:
            for line in file:
                last = line if line.endswith(b"\n") else last
        if last:
            try:
                entry = strict_loads(last)
                return Position(int(entry["n"]), str(entry["hash"]))
            except (ValueError, KeyError, TypeError) as error:
                raise AuditError(
                    f"{folder}: the last entry is damaged; `cxr-edge audit verify` says where, "
                    "begin a log in a new folder"
                ) from error
    return Position(0, GENESIS)


def digest_of(before: str, entry: Mapping[str, Any]) -> str:
    """The hash of an entry (without its `hash`) behind the one whose hash is `before`."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{before}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
