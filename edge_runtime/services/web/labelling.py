"""The page /label: one film after the other, a key for each label, kept in a file at once.

    GET /v1/labels             the films' names and labels
    GET /v1/labels/N/film      the N-th film as JPEG, without anything that the model says of it
    PUT /v1/labels/N           {"label": "1"}: pneumonia; "0" normal, "?" unsure, "" none

Whoever labels must not see the model's opinion, or it would be asked about itself. Films come in an
order that their names' hashes give: whoever stops early has labelled a fair sample.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import threading
from collections.abc import Sequence
from typing import Any

from edge_runtime.basics.files import hold, write_whole
from edge_runtime.basics.regular_file import TooLargeError, read_regular
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.images.file import read_file
from edge_runtime.images.grey import read_grey
from edge_runtime.images.inputs import find_inputs
from edge_runtime.images.memory import turn_of

LABELS = ("1", "0", "?", "")
COLUMNS = ("file", "label")
_SHOWN = 1400  # pixels of the longer side
_MOST_FILMS = 100_000
_MOST_BYTES = 64_000_000  # of the labels


class LabelError(CxrEdgeError):
    """The labels cannot be kept."""


class LabelDesk:
    """The films of a folder and their labels; safe between threads."""

    def __init__(self, folder: str, file: str | None = None) -> None:
        """Look for films, and for labels that are there already.

        Args:
            folder: Of the films.
            file: The labels; by default labels.csv in the folder.

        Raises:
            InvalidValueError: No films, or too many, or the file is not one of ours.
        """
        if not os.path.isdir(folder):
            raise InvalidValueError(f"--label {folder}: there is no such folder")
        self.file = file or os.path.join(folder, "labels.csv")
        self._folder, self._lock = folder, threading.Lock()
        self._held: int | None = None  # the lock file's descriptor, from the first label on
        names: list[str] = []
        for item in find_inputs([folder], [self.file]):
            if item.error is None and not item.path.endswith(".csv"):
                names.append(os.path.relpath(item.path, folder))
            if len(names) > _MOST_FILMS:
                raise InvalidValueError(
                    f"--label {folder}: more than {_MOST_FILMS:,} films; label a part of them"
                )
        if not names:
            raise InvalidValueError(f"--label {folder}: no files in it")
        self.names: Sequence[str] = sorted(
            names, key=lambda n: hashlib.sha256(n.encode("utf-8", "surrogateescape")).digest()
        )
        self._rows = self._read()

    def _read(self) -> dict[str, dict[str, str]]:
        """Rows by name: columns that others added are kept."""
        if not os.path.exists(self.file):
            return {}
        try:
            text = read_regular(self.file, _MOST_BYTES).decode("utf-8-sig", "surrogateescape")
            reader = csv.DictReader(io.StringIO(text, newline=""))
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise InvalidValueError(
                    f"{self.file} has no columns {' and '.join(COLUMNS)}; name another file "
                    "with --labels"
                )
            return {row["file"]: {k: v or "" for k, v in row.items() if k} for row in reader}
        except (OSError, ValueError, csv.Error, TooLargeError) as error:
            raise InvalidValueError(f"{self.file}: {error}") from error

    def state(self) -> dict[str, Any]:
        """What the page asks for first."""
        with self._lock:
            labels = [self._rows.get(name, {}).get("label", "") for name in self.names]
        shown = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in self.names]
        return {"films": shown, "labels": labels, "file": os.path.basename(self.file)}

    def label(self, number: int, label: str) -> None:
        """Keep a label; it is on the disk when this returns.

        Raises:
            InvalidValueError: No such film or label.
            LabelError: It cannot be written; what was kept before stays.
        """
        if label not in LABELS:
            raise InvalidValueError(f"a label is one of {', '.join(map(repr, LABELS))}")
        name = self._name(number)
        with self._lock:
            self._hold()
            rows = dict(self._rows)
            kept = {key: value for key, value in rows.get(name, {}).items() if key != "label"}
            if label or any(v for k, v in kept.items() if k != "file"):
                rows[name] = {**kept, "file": name, "label": label}
            else:
                rows.pop(name, None)
            try:
                write_whole(self.file, _as_csv(rows))
            except OSError as error:
                raise LabelError(f"{self.file} cannot be written: {error.strerror}") from error
            self._rows = rows

    def _hold(self) -> None:
        """Be the only process that writes the labels, from now on.

        Raises:
            LabelError: Another one writes them, or the lock file cannot be made.
        """
        if self._held is not None:
            return
        folder, name = os.path.split(self.file)
        try:
            # Hidden, so that it is nobody's film.
            self._held = hold(os.path.join(folder, f".{name}.lock"))
        except OSError as error:
            raise LabelError(f"{self.file} cannot be written: {error.strerror}") from error
        if self._held is None:
            raise LabelError(f"{self.file} is being written by another process; end that one first")
        self._rows = self._read()  # what the one before wrote since we looked

    def close(self) -> None:
        """Let another process label."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def film(self, number: int) -> bytes:
        """The film as JPEG.

        Raises:
            InvalidValueError: No such film.
            ImageError: It cannot be read.
        """
        path = os.path.join(self._folder, self._name(number))
        with turn_of(path):
            grey, _ = read_grey(read_file(path), (_SHOWN, _SHOWN))
        grey.thumbnail((_SHOWN, _SHOWN))
        buffer = io.BytesIO()
        grey.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    def _name(self, number: int) -> str:
        if not 0 <= number < len(self.names):
            raise InvalidValueError(f"there is no film {number}; there are {len(self.names)}")
        return self.names[number]


def _as_csv(rows: dict[str, dict[str, str]]) -> bytes:
    columns = list(COLUMNS)
    for row in rows.values():
        columns += [key for key in row if key not in columns]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue().encode("utf-8", "surrogateescape")


def parse_label(body: bytes) -> str:
    """The label of a PUT.

    Raises:
        InvalidValueError: Not {"label": …}.
    """
    try:
        told = json.loads(body)
        label = told["label"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidValueError('send {"label": "1"}, "0", "?" or ""') from error
    if not isinstance(label, str):
        raise InvalidValueError("a label is text")
    return label
