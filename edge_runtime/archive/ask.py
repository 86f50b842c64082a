"""What one asks of an archive, by DuckDB over its rows.

Of a film that was screened again because it had changed, the last row counts.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.archive.folder import ArchiveFolder
from edge_runtime.archive.plan import quiet_duckdb
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import proportion
from edge_runtime.statistics.two_samples import kolmogorov_p_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = 0.05  # of all comparisons of a report together
LEAST_DISTANCE = 0.1  # between two distributions; of a million films smaller ones are certain too
_FEWEST = 50  # films of a group that is compared
_MOST_GROUPS = 100  # of one kind; the others are counted
_BINS_PER_LOGIT = 8
# Groups are by these, each an expression over the rows.
KINDS = {
    "origin": "origin",
    "month": "month",
    "machine": "machine",
    "view": "view",
    "age": (
        "CASE WHEN age_years IS NULL THEN NULL WHEN age_years < 1 THEN '0' "
        "WHEN age_years < 6 THEN '1 – 5' WHEN age_years < 18 THEN '6 – 17' "
        "WHEN age_years < 65 THEN '18 – 64' ELSE '65 +' END"
    ),
}


@frozen
class Group:
    """Films that have something in common."""

    name: str | None  # None: it is not stated
    films: int
    positive: Estimate  # shares of the films
    uncertain: Estimate
    rejected: Estimate
    errors: Estimate
    flagged: Estimate  # with any flag, whether refused or not
    median: float | None  # probability
    distance: float | None  # largest, of its scores' distribution from all others'; None: few films
    differs: bool = False


@frozen
class Suspect:
    """A film to be looked at."""

    source: str
    sha256: str
    probability: float
    decision: str
    origin: str
    month: str | None


@frozen
class Answers:
    """An archive on one page."""

    location: str
    made_with: dict[str, Any]
    total: Group
    groups: dict[str, tuple[Group, ...]]  # by kind, see `KINDS`; the largest first, months in order
    smaller: dict[str, int]  # by kind: how many groups are left out
    flags: dict[str, int]  # films by flag
    errors: dict[str, int]  # films by error code
    suspects: tuple[Suspect, ...]
    candidates: int  # films that are not called normal, and were not reported
    reported: int | None  # films that are known to have a report; None: nobody said


def ask(folder: ArchiveFolder, most: int = 1000, reported: str | None = None) -> Answers:
    """Sum an archive up.

    Args:
        folder: Of the archive.
        most: Films of the worklist.
        reported: A file of sources or SHA-256 of films that have a report, one a line.

    Raises:
        InvalidValueError: There are no rows, or the file cannot be read.
    """
    import duckdb

    head, rows = folder.head(), folder.results()
    if head is None or rows is None:
        raise InvalidValueError(f"{folder.location} holds no rows; `cxr-edge archive` makes some")
    with tempfile.TemporaryDirectory(prefix="cxr-edge-") as temporary:
        connection = duckdb.connect(config=quiet_duckdb(temporary))
        try:
            connection.register("rows", rows)
            _take_last(connection)
            known = _take_reported(connection, reported)
            positive = _positive(connection)
            groups, smaller = {}, {}
            for kind in KINDS:
                groups[kind], smaller[kind] = _groups(connection, kind, positive)
            groups = _compared(connection, groups)
            candidates, suspects = _suspects(connection, most, known is not None)
            return Answers(
                folder.location,
                head["made_with"],
                _group(
                    None,
                    connection.execute(f"SELECT {_SUMS} FROM films", [positive]).fetchone(),
                ),
                groups,
                smaller,
                _counted(connection, "unnest(flags)"),
                _counted(connection, "error_code"),
                suspects,
                candidates,
                known,
            )
        finally:
            connection.close()


def _take_last(connection: Any) -> None:
    kinds = ", ".join(f"{expression} AS by_{kind}" for kind, expression in KINDS.items())
    logit = "ln(probability / (1 - probability))"
    connection.execute(
        f"CREATE TEMP TABLE films AS SELECT source, sha256, status, probability, decision, flags, "
        f"error_code, CAST(floor(greatest(-20, least(20, {logit})) * {_BINS_PER_LOGIT}) AS "
        f"INTEGER) AS bin, {kinds} FROM rows "
        "QUALIFY row_number() OVER (PARTITION BY source ORDER BY run DESC) = 1"
    )


def _take_reported(connection: Any, path: str | None) -> int | None:
    if path is None:
        return None
    import pyarrow as pa

    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            names = {line.strip() for line in file}
    except OSError as error:
        raise InvalidValueError(f"{path}: {error.strerror or error}") from error
    connection.register("names", pa.table({"name": pa.array(sorted(names - {""}), pa.string())}))
    connection.execute(
        "CREATE TEMP TABLE reported AS SELECT source FROM films WHERE source IN "
        "(SELECT name FROM names) OR sha256 IN (SELECT name FROM names)"
    )
    return int(connection.execute("SELECT count(*) FROM reported").fetchone()[0])


def _positive(connection: Any) -> str:
    """What this model calls what it looks for."""
    found = connection.execute(
        "SELECT decision FROM films WHERE decision NOT IN ('normal', 'uncertain') LIMIT 1"
    ).fetchone()
    return str(found[0]) if found else "pneumonia"


# Of the films that a query groups; ? is what the model calls what it looks for.
_SUMS = (
    "count(*), count(*) FILTER (decision = ?), count(*) FILTER (decision = 'uncertain'), "
    "count(*) FILTER (status = 'rejected'), count(*) FILTER (status = 'error'), "
    "count(*) FILTER (len(flags) > 0), approx_quantile(probability, 0.5)"
)


def _group(name: str | None, sums: Sequence[Any]) -> Group:
    films, *counts, median = sums
    positive, uncertain, rejected, errors, flagged = (proportion(c, films) for c in counts)
    return Group(name, films, positive, uncertain, rejected, errors, flagged, median, None)


def _groups(connection: Any, kind: str, positive: str) -> tuple[tuple[Group, ...], int]:
    """The largest groups of a kind, and how many more there are."""
    rows = connection.execute(
        f"SELECT by_{kind}, {_SUMS} FROM films GROUP BY 1 ORDER BY 2 DESC, 1", [positive]
    ).fetchall()
    groups = [_group(name, rest) for name, *rest in rows[:_MOST_GROUPS]]
    if kind in ("month", "age"):
        groups.sort(key=lambda group: (group.name is None, _by_number(group.name)))
    return tuple(groups), max(0, len(rows) - _MOST_GROUPS)


def _by_number(name: str | None) -> tuple[int, str]:
    first = (name or "").split()[:1]
    return (int(first[0]) if first and first[0].isdigit() else 0, name or "")


def _compared(
    connection: Any, groups: dict[str, tuple[Group, ...]]
) -> dict[str, tuple[Group, ...]]:
    """Each group's scores against those of all other films, where there are enough of both.

    Two-sample Kolmogorov-Smirnov test on bins of an eighth of a logit; the level is shared by all
    comparisons (Bonferroni).

    Source: Massey, JASA 46:68 (1951).
    """
    everything = _histogram(
        connection.execute(
            "SELECT bin, count(*) FROM films WHERE bin IS NOT NULL GROUP BY 1"
        ).fetchall()
    )
    level = ALPHA / (sum(len(found) for found in groups.values()) or 1)
    compared = {}
    for kind, found in groups.items():
        rows = connection.execute(
            f"SELECT by_{kind}, bin, count(*) FROM films WHERE bin IS NOT NULL GROUP BY 1, 2"
        ).fetchall()
        by_name: dict[str | None, list[tuple[int, int]]] = {}
        for name, place, count in rows:
            by_name.setdefault(name, []).append((place, count))
        compared[kind] = tuple(
            _with_distance(group, _histogram(by_name.get(group.name, ())), everything, level)
            for group in found
        )
    return compared


def _with_distance(
    group: Group, own: NDArray[np.int64], everything: NDArray[np.int64], level: float
) -> Group:
    others = everything - own
    n, m = int(own.sum()), int(others.sum())
    if min(n, m) < _FEWEST:
        return group
    distance = float(np.abs(np.cumsum(own) / n - np.cumsum(others) / m).max())
    differs = distance >= LEAST_DISTANCE and kolmogorov_p_value(distance, n, m) < level
    return dataclasses.replace(group, distance=distance, differs=differs)


def _histogram(bins: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    counts = np.zeros(40 * _BINS_PER_LOGIT + 1, np.int64)
    for place, count in bins:
        counts[place + 20 * _BINS_PER_LOGIT] += count
    return counts


def _counted(connection: Any, expression: str) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT name, count(*) FROM (SELECT {expression} AS name FROM films) "
        "WHERE name IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    return {str(name): int(count) for name, count in rows}


def _suspects(connection: Any, most: int, has_reported: bool) -> tuple[int, tuple[Suspect, ...]]:
    """The highest probabilities of what is not called normal; of equals by name."""
    condition = "status = 'ok' AND decision <> 'normal'"
    if has_reported:
        condition += " AND source NOT IN (SELECT source FROM reported)"
    count = connection.execute(f"SELECT count(*) FROM films WHERE {condition}").fetchone()[0]
    rows = connection.execute(
        "SELECT source, sha256, probability, decision, by_origin, by_month FROM films "
        f"WHERE {condition} ORDER BY probability DESC, source LIMIT {int(most)}"
    ).fetchall()
    return int(count), tuple(Suspect(*row) for row in rows)


def write_worklist(path: str, suspects: Sequence[Suspect]) -> None:
    """The worklist as CSV, as programs and spreadsheets read it.

    Raises:
        OSError: It cannot be written.
    """
    from edge_runtime.records.output import csv_line, csv_text

    columns = ("source", "sha256", "probability", "decision", "origin", "month")
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(csv_line(columns) + "\n")
        for one in suspects:
            score, month = f"{one.probability:.8f}", one.month or ""
            values = (csv_text(one.source), one.sha256, score, one.decision, one.origin, month)
            file.write(csv_line(values) + "\n")
        file.flush()
        os.fsync(file.fileno())
