"""Where records go: a table for people, JSON Lines and CSV for programs; and going on later."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import sys
import time
from collections.abc import Callable

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.records.record import SCHEMA, Record

FORMATS = ("table", "jsonl", "csv")

CSV_COLUMNS = (
    "source", "sha256", "status", "probability", "decision", "operating_point", "threshold",
    "accepted", "flags", "ood_score", "model", "version", "model_sha256", "engine",
    "error_code", "error_message",
)  # fmt: skip

_SYNC_SECONDS = 1.0


class OutputError(CxrEdgeError):
    """Results cannot be written (full disk, vanished mount); what was written is valid."""


class RecordWriter:
    """Appends records one whole line at a time, to a file or standard output."""

    def __init__(
        self,
        path: str | None,
        format_name: str,
        language: str = "en",
        before: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """Open `path` to append to it, or take standard output where it is None.

        Args:
            path: Of the file.
            format_name: One of FORMATS.
            language: Of the table; JSON Lines and CSV are the same in all languages.
            before: Gets each record first (an audit log); what it raises keeps the record from
                being written.

        Raises:
            OutputError: The file cannot be opened.
        """
        self._format, self._name = format_name, path or "standard output"
        self._language, self._before = language, before
        try:
            # Unbuffered: a line is either in the file or was refused, nothing waits to fail later.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._fd = os.open(path, flags, 0o666) if path else sys.stdout.fileno()
        except OSError as error:
            raise OutputError(f"cannot write results to {path}: {error.strerror}") from error
        status = os.fstat(self._fd)
        # Pipes and devices cannot be synced or shortened.
        self._is_file = path is not None and stat.S_ISREG(status.st_mode)
        self._length = status.st_size if self._is_file else 0
        self._synced = time.monotonic()
        if format_name == "csv" and self._length == 0:
            self._write_line(csv_line(CSV_COLUMNS))
        if format_name == "table":
            self._write_line(f"{'decision':10} {'probability':>11}  source")

    def write(self, record: Record) -> None:
        """Append one record.

        Raises:
            OutputError: The line could not be written; a part of it was taken back.
        """
        self._before(record)
        if self._format == "jsonl":
            self._write_line(record.to_json())
        elif self._format == "csv":
            self._write_line(csv_line(_csv_cells(record)))
        elif self._language == "en":
            self._write_line(table_line(record))
        else:
            from edge_runtime.records.messages import localised_line

            self._write_line(localised_line(record, self._language))

    def sync(self) -> None:
        """Make sure that everything is on the disk, now.

        Raises:
            OutputError: The system cannot.
        """
        if self._is_file:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise OutputError(f"cannot write results to {self._name}: {error}") from error
            self._synced = time.monotonic()

    def close(self) -> None:
        """Make sure that everything is on the disk."""
        if self._is_file:
            os.fsync(self._fd)
        if self._fd != sys.stdout.fileno():
            os.close(self._fd)

    def _write_line(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
            if self._is_file and time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._fd)
                self._synced = time.monotonic()
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._is_file:
                with contextlib.suppress(OSError):  # mount gone: --resume drops a half line
                    os.ftruncate(self._fd, self._length)
            raise OutputError(
                f"cannot write results to {self._name}: {error.strerror or error}; what was "
                "written is valid, and the same command with --resume goes on"
            ) from error
        self._length += len(data)


def csv_line(cells: object) -> str:
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)  # type: ignore[arg-type]
    return buffer.getvalue()


def _csv_cells(record: Record) -> list[object]:
    quality, model, error = record.quality, record.model, record.error
    return [
        record.source, record.sha256, record.status, record.probability, record.decision,
        record.operating_point, record.threshold, quality.accepted, " ".join(quality.flags),
        quality.ood_score, model.name, model.version, model.sha256, model.engine,
        error.code if error else None, " ".join(error.message.split()) if error else None,
    ]  # fmt: skip


def table_line(record: Record) -> str:
    """One line for people."""
    if record.error is not None:
        return f"{record.status:10} {'':>11}  {record.error.message} [{record.error.code}]"
    probability = "" if record.probability is None else f"{record.probability:.4f}"
    flags = f"  [{', '.join(record.quality.flags)}]" if record.quality.flags else ""
    return f"{record.decision or record.status:10} {probability:>11}  {record.source}{flags}"


def drop_unfinished_line(path: str) -> None:
    """Cut a last line that has no end, as a power cut leaves it."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        position = size
        while position > 0:
            step = min(65536, position)
            file.seek(position - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                position = position - step + newline + 1
                break
            position -= step
        if position < size:
            file.truncate(position)


@frozen
class Conditions:
    """What all results of one file were made with."""

    model_sha256: str
    engine: str
    operating_point: str
    threshold: float

    def check(self, other: Conditions, where: str) -> None:
        """Raises InvalidValueError where a result was made with something else."""
        for field in dataclasses.fields(self):
            now, then = getattr(self, field.name), getattr(other, field.name)
            if now != then:
                raise InvalidValueError(
                    f"{where} was made with {field.name} {then}, now it is {now}; name another "
                    "--output, or screen as before"
                )


def read_done(path: str, format_name: str, conditions: Conditions) -> dict[tuple[str, str], str]:
    """(source, sha256) -> status of every input that `path` already holds a result for.

    Inputs that could not be read have no sha256 and are tried again.

    Raises:
        InvalidValueError: The file is not of that format, or a result was made with another
            model, engine or threshold.
    """
    import csv

    done: dict[tuple[str, str], str] = {}
    begins = csv_line(CSV_COLUMNS) if format_name == "csv" else f'{{"schema": "{SCHEMA}"'
    # A file that is no text shall be refused by what it is, not by a decoding error.
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        if not begins.startswith(file.read(len(begins))):
            raise InvalidValueError(f"{path} holds no {format_name} of ours; name another --output")
        file.seek(0)
        # The last line may have no end yet; `drop_unfinished_line` comes after this look.
        lines = (line for line in file if line.endswith("\n"))
        if format_name == "csv":
            for number, row in enumerate(csv.DictReader(lines), 2):
                where = f"{path}, line {number}"
                try:
                    threshold = float(row["threshold"])
                except (TypeError, ValueError) as error:
                    raise InvalidValueError(f"{where}: {error}") from error
                found = Conditions(
                    row["model_sha256"], row["engine"], row["operating_point"], threshold
                )
                conditions.check(found, where)
                if row["sha256"]:
                    done[row["source"], row["sha256"]] = row["status"]
            return done
        for number, line in enumerate(lines, 1):
            try:
                record = Record.from_json(line)
            except ValueError as error:
                raise InvalidValueError(f"{path}, line {number}: not JSON ({error})") from error
            model = record.model
            found = Conditions(model.sha256, model.engine, record.operating_point, record.threshold)
            conditions.check(found, f"{path}, line {number}")
            if record.sha256:
                done[record.source, record.sha256] = record.status
    return done
