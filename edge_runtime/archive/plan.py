"""What a run has to do: everything listed, less what has its row already, in parts.

DuckDB compares the two, so neither has to fit into memory.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_runtime.archive.folder import PLANS, ArchiveFolder
from edge_runtime.archive.sources import Listed
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH = 10_000
_LEAST_PART, _MOST_PART = 16, 1024  # films
_PARTS_PER_WORKER = 16
_PARTS_PER_FILE = 1000
# What another time may read: a disk that was away, a film that took too much memory.
_RETRIED = (ErrorCode.UNREADABLE_FILE.value, ErrorCode.SET_ASIDE.value)


@frozen
class Plan:
    """What is written under plans/RUN."""

    run: str
    parts: int
    inputs: int  # to be screened: films, and shards
    shards: int
    done: int  # inputs that have their rows


def make_plan(
    folder: ArchiveFolder,
    run: str,
    listed: Iterable[Listed],
    workers: int,
    check_content: bool = False,
    step: Callable[[int], object] = lambda count: None,
) -> Plan:
    """Write the plan of a run.

    An input has its row where one of its name holds the same size and time of change; where these
    differ its content is compared when it is read. What could not be read is tried again, and its
    row goes.

    Args:
        folder: Of the archive.
        run: Its name.
        listed: Everything there is.
        workers: How many will share the parts.
        check_content: Read everything again, whatever size and time say.
        step: Called with the number of inputs listed so far.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="cxr-edge-") as temporary:
        listing = os.path.join(temporary, "listing.parquet")
        _write_listing(listing, listed, step)
        connection = duckdb.connect(config=quiet_duckdb(temporary))
        try:
            connection.read_parquet(listing).create_view("listing")
            _drop_retried(connection, folder)
            return _write_plan(connection, folder, run, workers, check_content)
        finally:
            connection.close()


def quiet_duckdb(temporary: str) -> dict[str, str]:
    """DuckDB's settings: it spills to a disk, and fetches no extension."""
    return {
        "temp_directory": temporary,
        "memory_limit": "1GB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }


def _write_listing(path: str, listed: Iterable[Listed], step: Callable[[int], object]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [("number", pa.int64()), ("source", pa.string()), ("path", pa.binary()),
         ("store", pa.string()), ("origin", pa.string()), ("size", pa.int64()),
         ("stamp", pa.string()), ("error", pa.string()), ("shard", pa.bool_())]
    )  # fmt: skip
    number = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for batch in _batches(listed):
            rows = []
            for one in batch:
                stamp = f"{one.size} {one.stamp}" if one.stamp else ""
                rows.append((number, one.source, os.fsencode(one.path), one.store, one.origin,
                             one.size, stamp, one.error, one.is_shard))  # fmt: skip
                number += 1
            columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), schema,
                                                           strict=True)]  # fmt: skip
            writer.write_table(pa.table(columns, schema=schema))
            step(number)


def _batches(listed: Iterable[Listed]) -> Iterator[list[Listed]]:
    rest = iter(listed)
    while batch := [*itertools.islice(rest, _BATCH)]:
        yield batch


def _drop_retried(connection: Any, folder: ArchiveFolder) -> None:
    """Take the rows away of what could not be read and is listed again.

    A shard that could not be read to its end goes as a whole.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    results = folder.results()
    if results is None:
        return
    failed = ds.field("sha256").is_null() & ds.field("error_code").isin(_RETRIED)
    sources = results.to_table(columns=["source"], filter=failed)
    if not sources.num_rows:
        return
    connection.register("failed", sources)
    again = connection.sql(
        "SELECT DISTINCT source FROM failed SEMI JOIN listing USING (source)"
    ).to_arrow_table()["source"]
    again = pa.array(again.to_pylist(), pa.string())
    own = ds.field("source").isin(again) | ds.field("shard").isin(again)
    for fragment in results.get_fragments():
        if fragment.count_rows(filter=own):
            table = fragment.to_table()
            folder.rewrite(fragment.path, table.filter(_kept(table, again)))


def _kept(table: Any, again: Any) -> Any:
    import pyarrow.compute as pc

    gone = pc.or_(
        pc.is_in(table["source"], again),
        pc.fill_null(pc.is_in(table["shard"], again, skip_nulls=True), False),
    )
    return pc.invert(gone)


def _write_plan(
    connection: Any, folder: ArchiveFolder, run: str, workers: int, check_content: bool
) -> Plan:
    import pyarrow as pa

    results = folder.results()
    connection.execute(
        "CREATE TEMP TABLE firsts AS SELECT min(number) AS number FROM listing GROUP BY source"
    )
    if results is None:
        results = pa.table({name: pa.array([], pa.string())
                            for name in ("source", "shard", "sha256", "stamp", "run")})  # fmt: skip
    connection.register("rows", results)
    connection.execute(
        "CREATE TEMP TABLE stamps AS SELECT coalesce(shard, source) AS source, "
        "arg_max(stamp, run) AS done_stamp FROM rows GROUP BY 1"
    )
    is_done = "done_stamp IS NOT NULL AND (stamp = '' OR stamp = done_stamp)"
    if check_content:
        is_done = "false"
    connection.execute(
        "CREATE TEMP TABLE todo AS SELECT listing.* FROM listing SEMI JOIN firsts USING (number) "
        f"LEFT JOIN stamps USING (source) WHERE NOT coalesce({is_done}, false)"
    )
    connection.execute(
        "CREATE TEMP TABLE known AS SELECT coalesce(shard, source) AS source, "
        "list(CASE WHEN shard IS NULL THEN sha256 ELSE sha256 || ' ' || rows.source END) AS known "
        "FROM rows WHERE sha256 IS NOT NULL AND coalesce(shard, source) IN "
        "(SELECT source FROM todo) GROUP BY 1"
    )
    total, inputs, shards = connection.execute(
        "SELECT (SELECT count(*) FROM firsts), count(*), count(*) FILTER (shard) FROM todo"
    ).fetchone()
    films = inputs - shards
    size = min(_MOST_PART, max(_LEAST_PART, -(-films // (max(1, workers) * _PARTS_PER_WORKER))))
    parts = 0
    with _PlanWriter(folder, run) as writer:
        groups = connection.execute(
            "SELECT DISTINCT shard, origin FROM todo ORDER BY shard, origin"
        ).fetchall()
        for is_shard, origin in groups:
            reader = connection.sql(
                "SELECT todo.source, path, store, origin, size, stamp, error, shard, "
                "coalesce(known, []) AS known FROM todo LEFT JOIN known USING (source) "
                "WHERE shard = ? AND origin = ? ORDER BY number",
                params=[is_shard, origin],
            ).to_arrow_reader(_MOST_PART)
            for table in _cut(reader, 1 if is_shard else size):
                writer.write(table)
                parts += 1
    return Plan(run, parts, inputs, shards, total - inputs)


def _cut(reader: Any, size: int) -> Iterator[Any]:
    """Tables of `size` rows, the last shorter, from batches of any length."""
    import pyarrow as pa

    rest = None
    for batch in reader:
        table = pa.Table.from_batches([batch])
        rest = table if rest is None else pa.concat_tables([rest, table])
        while rest.num_rows >= size:
            yield rest.slice(0, size)
            rest = rest.slice(size)
    if rest is not None and rest.num_rows:
        yield rest


class _PlanWriter:
    """Parts as row groups of files of a thousand."""

    def __init__(self, folder: ArchiveFolder, run: str) -> None:
        self._folder, self._run = folder, run
        self._parts = 0
        self._stream: Any = None
        self._writer: Any = None

    def __enter__(self) -> _PlanWriter:
        self._folder.make_folder(self._folder.path(PLANS, self._run))
        return self

    def write(self, table: Any) -> None:
        from pyarrow import parquet

        if self._parts % _PARTS_PER_FILE == 0:
            self._close()
            path = plan_path(self._folder, self._run, self._parts)
            self._stream = self._folder.filesystem.open_output_stream(path)
            self._writer = parquet.ParquetWriter(self._stream, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._parts += 1

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._stream.close()

    def __exit__(self, *error: object) -> None:
        self._close()


def plan_path(folder: ArchiveFolder, run: str, part: int) -> str:
    """Where a part's row group is."""
    return folder.path(PLANS, run, f"{part // _PARTS_PER_FILE:05d}.parquet")


class PlanReader:
    """The items of a part, for whoever screens it."""

    def __init__(self, folder: ArchiveFolder, run: str) -> None:
        self._folder, self._run = folder, run
        self._open: tuple[str, Any] | None = None

    def items(self, part: int) -> list[dict[str, Any]]:
        """In order; see `process` for the keys.

        Raises:
            OSError: The plan is gone: another run has begun.
        """
        from pyarrow import parquet

        path = plan_path(self._folder, self._run, part)
        if self._open is None or self._open[0] != path:
            self._open = (path, parquet.ParquetFile(self._folder.filesystem.open_input_file(path)))
        rows: Sequence[Mapping[str, Any]] = (
            self._open[1].read_row_group(part % _PARTS_PER_FILE).to_pylist()
        )
        return [
            {**row, "path": os.fsdecode(row["path"]), "number": number, "skip": 0}
            for number, row in enumerate(rows)
        ]

    def is_there(self) -> bool:
        """Whether the run still goes on."""
        return self._folder.exists(plan_path(self._folder, self._run, 0))
