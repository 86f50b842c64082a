"""Tables of labelled images, as spreadsheets write them."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TextIO

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError

_POSITIVE = frozenset({"1", "1.0", "1,0", "pneumonia", "positive", "yes", "true"})
_NEGATIVE = frozenset({"0", "0.0", "0,0", "normal", "negative", "no", "false"})
_UNSURE = frozenset({"", "?", "uncertain", "unsure", "unclear"})


@frozen
class LabelledImage:
    path: str
    positive: bool
    strata: dict[str, str]


@frozen
class LabelRow:
    """A line of a table of labels; positive None: the reader was not sure."""

    path: str
    positive: bool | None
    row: Mapping[str, str]  # every column


def read_labels(path: str, folder: str, strata: Sequence[str]) -> list[LabelledImage]:
    """The labelled images; the first two columns needed are `file` and `label`.

    Raises:
        InvalidValueError: A column is missing, a label is neither, a file is missing or twice.
    """
    found = []
    for row in label_rows(path, folder, strata):
        assert row.positive is not None
        values = {column: row.row[column] or "unknown" for column in strata}
        found.append(LabelledImage(row.path, row.positive, values))
    return found


def label_rows(
    path: str, folder: str, columns: Collection[str] = (), unsure: bool = False
) -> Iterator[LabelRow]:
    """The lines of a table with the columns `file` and `label`.

    Args:
        path: Of the CSV: commas, semicolons or tabs, with or without a byte order mark.
        folder: What files are named in.
        columns: Others that it must have.
        unsure: Whether a label may be missing, or "?", or "uncertain".

    Raises:
        InvalidValueError: A column is missing, a label is neither, a file is missing or twice.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=_separator(file)))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidValueError(f"{path}: {error}") from error
    wanted = {"file", "label", *columns}
    there = set(rows[0]) if rows else set()
    if not wanted <= there:
        raise InvalidValueError(
            f"{path} needs the columns {', '.join(sorted(wanted))}; it has "
            f"{', '.join(sorted(map(str, there))) or 'none'}"
        )
    seen = set()
    for number, row in enumerate(rows, 2):
        cells = {str(k): str(v or "").strip() for k, v in row.items() if k is not None}
        name, label = cells["file"], cells["label"].lower()
        if label not in _POSITIVE | _NEGATIVE | (_UNSURE if unsure else frozenset()):
            raise InvalidValueError(f"{path}, line {number}: label {label!r} is neither 1 nor 0")
        image = os.path.join(folder, name)
        if not name or not os.path.isfile(image):
            raise InvalidValueError(f"{path}, line {number}: there is no file {image}")
        if name in seen:
            raise InvalidValueError(f"{path}, line {number}: {name} is listed twice")
        seen.add(name)
        yield LabelRow(image, None if label in _UNSURE else label in _POSITIVE, cells)


def _separator(file: TextIO) -> str:
    """What separates the columns: a comma, or a semicolon or tab, as spreadsheets write them."""
    head = file.readline()
    file.seek(0)
    return max(",;\t", key=head.count)
