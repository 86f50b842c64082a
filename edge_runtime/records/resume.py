"""Going on with a file of results: what it holds already, and whether it was made alike."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable

from edge_runtime.errors import InvalidValueError
from edge_runtime.records.output import SITE_COLUMN, RecordWriter, csv_columns, csv_line, plain_text
from edge_runtime.records.record import SCHEMA, Conditions, MadeWith, Record


def open_output(
    path: str,
    format_name: str,
    conditions: Conditions,
    before: Callable[[Record], None] = lambda record: None,
) -> tuple[RecordWriter, dict[tuple[str, str], str]]:
    """A writer that goes on with `path`, and what that holds already (see `read_done`).

    Args:
        path: Of the file, which may not be there yet.
        format_name: jsonl or csv.
        conditions: What results are made with now.
        before: As for `RecordWriter`.

    Raises:
        InvalidValueError: It holds something else, or results that were made otherwise.
        OutputError: It cannot be written.
    """
    done: dict[tuple[str, str], str] = {}
    if os.path.exists(path):
        done = read_done(path, format_name, conditions)
        drop_unfinished_line(path)
    return RecordWriter(
        path,
        format_name,
        before=before,
        with_findings=conditions.with_findings,
        with_site=conditions.site is not None,
    ), done


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


def read_done(path: str, format_name: str, conditions: Conditions) -> dict[tuple[str, str], str]:
    """(source, sha256) -> status of every input that `path` already holds a result for.

    Inputs that could not be read have no sha256 and are tried again.

    Raises:
        InvalidValueError: The file is not of that format, or a result was made with another
            model, engine or threshold.
    """
    done: dict[tuple[str, str], str] = {}
    columns = csv_columns(conditions.with_findings, conditions.site is not None)
    begins = csv_line(columns) if format_name == "csv" else f'{{"schema": "{SCHEMA}"'
    # A file that is no text shall be refused by what it is, not by a decoding error.
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        is_ours = begins.startswith(file.read(len(begins)))
        if not is_ours or (format_name == "csv" and file.read(1) == ","):  # a column more
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
                found = MadeWith(
                    row["model_sha256"],
                    row["engine"],
                    row["operating_point"],
                    row["population"] or None,
                    threshold,
                    row.get(SITE_COLUMN) or None,
                )
                conditions.check(found, where)
                if row["sha256"]:
                    done[plain_text(row["source"]), row["sha256"]] = row["status"]
            return done
        for number, line in enumerate(lines, 1):
            try:
                record = Record.from_json(line)
            except ValueError as error:
                raise InvalidValueError(f"{path}, line {number}: not JSON ({error})") from error
            model = record.model
            found = MadeWith(
                model.sha256,
                model.engine,
                record.operating_point,
                record.population,
                record.threshold,
                record.site,
            )
            conditions.check(found, f"{path}, line {number}")
            if record.sha256:
                done[record.source, record.sha256] = record.status
    return done
