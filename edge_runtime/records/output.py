"""Where records go: a table for people, JSON Lines and CSV for programs."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import time
from collections.abc import Callable

from edge_runtime.basics.files import APPEND, hold_descriptor
from edge_runtime.errors import CxrEdgeError
from edge_runtime.records.record import Record

FORMATS = ("table", "jsonl", "csv")

CSV_COLUMNS = (
    "source", "sha256", "status", "probability", "decision", "operating_point", "threshold",
    "accepted", "flags", "ood_score", "model", "version", "model_sha256", "engine",
    "error_code", "error_message", "population",
)  # fmt: skip
# After the others, of models that tell several findings, and where a site profile is in force.
FINDINGS_COLUMN, SITE_COLUMN = "findings", "site"

_SYNC_SECONDS = 1.0
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


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
        with_findings: bool = False,
        with_site: bool = False,
    ) -> None:
        """Open `path` to append to it, or take standard output where it is None.

        Args:
            path: Of the file.
            format_name: One of FORMATS.
            language: Of the table; JSON Lines and CSV are the same in all languages.
            before: Gets each record first (an audit log); what it raises keeps the record from
                being written.
            with_findings: CSV has a column more, for findings.
            with_site: And one for the site profile.

        Raises:
            OutputError: The file cannot be opened, or another process writes it.
        """
        self._format, self._name = format_name, path or "standard output"
        self._language, self._before = language, before
        self._with_findings, self._with_site = with_findings, with_site
        try:
            # Unbuffered: a line is either in the file or was refused, nothing waits to fail later.
            self._fd = os.open(path, APPEND, 0o666) if path else sys.stdout.fileno()
        except OSError as error:
            raise OutputError(f"cannot write results to {path}: {error.strerror}") from error
        status = os.fstat(self._fd)
        # Pipes and devices cannot be synced or shortened.
        self._is_file = path is not None and stat.S_ISREG(status.st_mode)
        if self._is_file and not hold_descriptor(self._fd):
            os.close(self._fd)
            raise OutputError(
                f"{path} is being written by another process; wait for it, or name another file"
            )
        self._length = status.st_size if self._is_file else 0
        self._synced = time.monotonic()
        if format_name == "csv" and self._length == 0:
            self._write_line(csv_line(csv_columns(with_findings, with_site)))
        if format_name == "table":
            from edge_runtime.records.messages import table_head

            self._write_line(table_head(language))

    def write(self, record: Record) -> None:
        """Append one record.

        Raises:
            OutputError: The line could not be written; a part of it was taken back.
        """
        self._before(record)
        if self._format == "jsonl":
            self._write_line(record.to_json())
        elif self._format == "csv":
            self._write_line(csv_line(_csv_cells(record, self._with_findings, self._with_site)))
        else:
            from edge_runtime.records.messages import table_line

            self._write_line(table_line(record, self._language))

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
        if self._format == "table":
            line = printable(line)
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


def csv_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; `plain_text` takes the mark off again.

    Source: OWASP, CSV Injection: cells that begin with = + - @, a tab or a line break.
    """
    return "'" + text if _FORMULA.match(text) else text


def plain_text(cell: str) -> str:
    """The text of a cell of `csv_text`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_columns(with_findings: bool, with_site: bool = False) -> tuple[str, ...]:
    """The first line of CSV."""
    findings = (FINDINGS_COLUMN,) if with_findings else ()
    return (*CSV_COLUMNS, *findings, *((SITE_COLUMN,) if with_site else ()))


def _csv_cells(record: Record, with_findings: bool, with_site: bool) -> list[object]:
    quality, model, error = record.quality, record.model, record.error
    cells: list[object] = [
        csv_text(record.source), record.sha256, record.status, record.probability, record.decision,
        record.operating_point, record.threshold, quality.accepted, " ".join(quality.flags),
        quality.ood_score, model.name, model.version, model.sha256, model.engine,
        error.code if error else None, csv_text(" ".join(error.message.split())) if error else None,
        record.population,
    ]  # fmt: skip
    if with_findings:
        found = (record.findings or {}).items()
        told = (f"{name} {one.decision} {one.probability}" for name, one in found)
        cells.append(csv_text("; ".join(told)))
    return [*cells, record.site] if with_site else cells


def printable(line: str) -> str:
    r"""A line for a terminal: what a file's name could do to one appears as \x1b or \u202e.

    Source: Unicode TR 36, section 3.6, and TR 9 for marks of direction.
    """
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
