"""The folder of an archive's results, here or in an object store: one Parquet file per part.

archive.json                                 what all rows are made with
plans/RUN/00000.parquet                      what a run still has to do; gone when it is done
results/origin=NAME/RUN-00000017.parquet     rows, whole or not there
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from edge_runtime.archive.rows import NAMED, SCHEMA, arrow_schema
from edge_runtime.archive.stores import Store, divide
from edge_runtime.basics.files import hold, write_whole
from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.record import Conditions

HEAD = "archive.json"
PLANS = "plans"
RESULTS = "results"
_LOCK = ".lock"


def new_run() -> str:
    """A name for a run that sorts by time."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def made_with(conditions: Conditions) -> dict[str, Any]:
    """What every process and every later run has to find too, as JSON keeps it."""
    return {
        "model_sha256": conditions.model_sha256,
        "engine": conditions.engine,
        "operating_point": conditions.operating_point,
        "thresholds": [[whose, value] for whose, value in conditions.thresholds.items()],
        "site": conditions.site,
    }


class ArchiveFolder:
    """Where an archive's results are."""

    def __init__(self, location: str) -> None:
        """Open it; nothing is made yet.

        Raises:
            InvalidValueError: No such filesystem.
        """
        self.store: Store
        self.store, self._base = divide(location)
        self.location = location if self.store.uri else self._base
        self.filesystem = self.store.open()
        self._lock: int | None = None

    @property
    def is_local(self) -> bool:
        return not self.store.uri

    def path(self, *parts: str) -> str:
        return "/".join((self._base, *parts))

    # ---- what all rows are made with

    def head(self) -> dict[str, Any] | None:
        """`archive.json`; None of a new archive.

        Raises:
            InvalidValueError: It is not ours.
        """
        data = self._read(self.path(HEAD))
        if data is None:
            return None
        try:
            found = strict_loads(data.decode())
        except ValueError as error:
            raise InvalidValueError(f"{self.location}/{HEAD}: {error}") from error
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise InvalidValueError(f"{self.location} holds no archive of ours; name another")
        return found

    def begin(self, made_with: Mapping[str, Any], columns: Sequence[str]) -> None:
        """Hold the archive, and write `archive.json`, or check that it says the same.

        Raises:
            InvalidValueError: Another run holds it, it was made otherwise, or it holds other files.
        """
        if self.is_local:
            os.makedirs(self._base, exist_ok=True)
            self._lock = hold(self.path(_LOCK))
            if self._lock is None:
                raise InvalidValueError(f"another run writes into {self.location}; wait for it")
        try:
            self._begin(made_with, columns)
        except BaseException:
            self.end()
            raise

    def _begin(self, made_with: Mapping[str, Any], columns: Sequence[str]) -> None:
        head = {"schema": SCHEMA, "made_with": dict(made_with), "columns": list(columns)}
        before = self.head()
        if before is None:
            if self._has_other_files():
                raise InvalidValueError(f"{self.location} holds other files; name a new folder")
            self.write(self.path(HEAD), json.dumps(head, indent=1).encode())
            return
        for name, value in made_with.items():
            then = before["made_with"].get(name)
            if then != value:
                raise InvalidValueError(
                    f"{self.location} was made with {name} {then}, now it is {value}; name another "
                    "--output, or screen as before"
                )
        if before["columns"] != list(columns):
            raise InvalidValueError(
                f"{self.location} has the further columns {before['columns']}, now they are "
                f"{list(columns)}; name another --output, or the same --column"
            )

    def end(self) -> None:
        """Let go of it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _has_other_files(self) -> bool:
        from pyarrow import fs

        found = self.filesystem.get_file_info(fs.FileSelector(self._base, allow_not_found=True))
        return any(not each.base_name.startswith(".") for each in found)

    # ---- rows

    def results(self) -> Any | None:
        """All rows as a `pyarrow.dataset.Dataset`; None where there are none yet."""
        import pyarrow as pa
        from pyarrow import dataset, fs

        folder = self.path(RESULTS)
        selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
        # By their names: what an actor had not yet renamed when it was killed is no row.
        found = self.filesystem.get_file_info(selector)
        files = sorted(each.path for each in found if each.path.endswith(".parquet"))
        if not files:
            return None
        schema = self._schema().append(pa.field("origin", pa.string()))
        partitioning = dataset.partitioning(pa.schema([("origin", pa.string())]), flavor="hive")
        return dataset.dataset(
            files,
            schema,
            format="parquet",
            filesystem=self.filesystem,
            partitioning=partitioning,
            partition_base_dir=folder,
        )

    def _schema(self) -> Any:
        head = self.head()
        return arrow_schema(tuple(head["columns"]) if head else ())

    def result_path(self, origin: str, run: str, part: int) -> str:
        return self.path(RESULTS, f"origin={origin}", f"{run}-{part:08d}.parquet")

    def commit(self, path: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Write the rows of one part, all or none; what stood there is replaced."""
        import pyarrow as pa
        from pyarrow import parquet

        buffer = io.BytesIO()
        schema = arrow_schema(columns)
        with parquet.ParquetWriter(buffer, schema, compression="zstd") as writer:
            for begin in range(0, len(rows), 8192):
                batch = [_in_columns(row, columns) for row in rows[begin : begin + 8192]]
                writer.write_table(pa.Table.from_pylist(batch, schema))
        self.write(path, buffer.getvalue())

    def rewrite(self, path: str, table: Any) -> None:
        """Replace a file of rows; where none are left, take it away."""
        from pyarrow import parquet

        if not table.num_rows:
            self.filesystem.delete_file(path)
            return
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        self.write(path, buffer.getvalue())

    # ---- files

    def exists(self, path: str) -> bool:
        from pyarrow import fs

        return bool(self.filesystem.get_file_info(path).type == fs.FileType.File)

    def delete_plans(self) -> None:
        """What earlier runs left: without its plan a part of theirs is not written any more."""
        with contextlib.suppress(OSError):
            self.filesystem.delete_dir_contents(self.path(PLANS), missing_dir_ok=True)

    def make_folder(self, path: str) -> None:
        self.filesystem.create_dir(path, recursive=True)

    def write(self, path: str, data: bytes) -> None:
        """A file that is whole or not there."""
        if self.is_local:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(path, data)
            return
        if self.store.has_folders:
            self.make_folder(path.rpartition("/")[0])
        with self.filesystem.open_output_stream(path) as stream:  # one request makes it visible
            stream.write(data)

    def _read(self, path: str) -> bytes | None:
        if not self.exists(path):
            return None
        with self.filesystem.open_input_file(path) as file:
            return bytes(file.read())


def _in_columns(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    wanted = {f"{NAMED}{name}" for name in columns}
    kept = {k: v for k, v in row.items() if not k.startswith(NAMED) or k in wanted}
    if kept.get("probabilities") is not None:
        kept["probabilities"] = [*kept["probabilities"].items()]  # as pyarrow wants a map
    return kept
