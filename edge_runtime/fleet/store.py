"""The days of all boxes as one Parquet file, replaced as a whole."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

from edge_runtime.basics.files import write_whole
from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.install import install_extra
from edge_runtime.errors import InvalidValueError
from edge_runtime.fleet.days import DISTANCE_EDGES, SCORE_EDGES, Day

EXTRA = "fleet"
SCHEMA = "cxr-edge/fleet/1"
FILE = "days.parquet"
BOXES = "boxes.parquet"
_TEXTS = ("box", "date", "bundle", "engine", "site")
_COUNTS = ("results", "positive", "uncertain", "normal", "rejected", "errors")
_LISTS = ("scores", "distances")


@frozen
class Box:
    """Where the last collection left off with one box."""

    box: str
    last_n: int
    last_hash: str


def _arrow() -> tuple[Any, Any]:
    if importlib.util.find_spec("pyarrow") is None:
        raise InvalidValueError(f"fleet needs: {install_extra(EXTRA)}")
    import pyarrow
    from pyarrow import parquet

    return pyarrow, parquet


def read_days(folder: str) -> list[Day]:
    """All days that were collected; [] of a new folder.

    Raises:
        InvalidValueError: pyarrow is missing, or the file is not one of ours.
    """
    rows = _read(os.path.join(folder, FILE), {*_TEXTS, *_COUNTS, *_LISTS})
    lengths = {"scores": len(SCORE_EDGES) - 1, "distances": len(DISTANCE_EDGES) - 1}
    days = []
    for row in rows:
        for name, length in lengths.items():
            if len(row[name]) != length:
                raise InvalidValueError(f"{folder}/{FILE}: {name} of another version")
            row[name] = tuple(row[name])
        days.append(Day(**row))
    return days


def read_boxes(folder: str) -> dict[str, Box]:
    """Where each box was left; {} of a new folder.

    Raises:
        InvalidValueError: As for `read_days`.
    """
    rows = _read(os.path.join(folder, BOXES), {"box", "last_n", "last_hash"})
    return {row["box"]: Box(**row) for row in rows}


def _read(path: str, columns: set[str]) -> list[dict[str, Any]]:
    _, parquet = _arrow()
    if not os.path.exists(path):
        return []
    try:
        table = parquet.read_table(path)
        metadata = table.schema.metadata or {}
        if metadata.get(b"schema") != SCHEMA.encode() or set(table.column_names) != columns:
            raise InvalidValueError(f"{path} holds no days of boxes; name another folder")
        rows: list[dict[str, Any]] = table.to_pylist()
    except InvalidValueError:
        raise
    except Exception as error:  # pyarrow raises classes of its own on damage
        raise InvalidValueError(f"{path}: {error}") from error
    return rows


def write_store(folder: str, days: Sequence[Day], boxes: Iterable[Box]) -> None:
    """Replace both files; the days first, so that a cut leaves what is collected again.

    Raises:
        OSError: They cannot be written.
    """
    pyarrow, _ = _arrow()
    os.makedirs(folder, exist_ok=True)
    ordered = sorted(days, key=lambda d: (d.box, d.date, d.bundle, d.engine, d.site))
    fields = [pyarrow.field(name, pyarrow.string()) for name in _TEXTS]
    fields += [pyarrow.field(name, pyarrow.int32()) for name in _COUNTS]
    fields += [pyarrow.field(name, pyarrow.list_(pyarrow.int32())) for name in _LISTS]
    columns = {f.name: [getattr(day, f.name) for day in ordered] for f in fields}
    _write(os.path.join(folder, FILE), columns, fields)
    told = sorted(boxes, key=lambda b: b.box)
    fields = [
        pyarrow.field("box", pyarrow.string()),
        pyarrow.field("last_n", pyarrow.int64()),
        pyarrow.field("last_hash", pyarrow.string()),
    ]
    columns = {f.name: [getattr(b, f.name) for b in told] for f in fields}
    _write(os.path.join(folder, BOXES), columns, fields)


def _write(path: str, columns: dict[str, list[Any]], fields: Sequence[Any]) -> None:
    pyarrow, parquet = _arrow()
    schema = pyarrow.schema(fields, metadata={"schema": SCHEMA})
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns, schema=schema), buffer, compression="zstd")
    write_whole(path, buffer.getvalue())
