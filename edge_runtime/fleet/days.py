"""One box's log to one row a day: counts and distributions, nothing of any single film.

A day's scores and feature distances are kept as histograms; logs of years become kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.statistics.odds import log_odds

# Edges of the histograms; what lies outside is counted in the first or last cell.
SCORE_EDGES = tuple(float(v) for v in np.linspace(-8, 8, 65))
DISTANCE_EDGES = tuple(float(v) for v in np.linspace(0, 3, 61))


@frozen
class Day:
    """What one box did on one day with one model, engine, and site profile."""

    box: str
    date: str  # YYYY-MM-DD, UTC
    bundle: str  # SHA-256
    engine: str
    site: str  # SHA-256 of the profile, "" without one
    results: int
    positive: int
    uncertain: int
    normal: int
    rejected: int
    errors: int
    scores: tuple[int, ...]  # (cells,) log odds of disease
    distances: tuple[int, ...]  # (cells,) of features


def days_of(box: str, entries: Iterable[Mapping[str, Any]]) -> list[Day]:
    """Rows of one box, by day and by what judged.

    An image that is in the log twice on a day, as after a crash, counts once.

    Args:
        box: What the box is called.
        entries: Of its audit log; results alone are looked at.
    """
    groups: dict[tuple[str, str, str, str], dict[str, _Told]] = {}
    for number, entry in enumerate(entries):
        if entry.get("event") != "result":
            continue
        key = (
            str(entry.get("time"))[:10],
            str(entry.get("bundle")),
            str(entry.get("engine")),
            str(entry.get("site") or ""),
        )
        image = entry.get("image") or f"unread {number}"
        groups.setdefault(key, {})[str(image)] = _Told(
            entry.get("status"),
            entry.get("decision"),
            _number(entry.get("probability")),
            _number(entry.get("ood_score")),
        )
    return [_day(box, key, list(held.values())) for key, held in sorted(groups.items())]


class _Told(NamedTuple):
    """What is counted of one result."""

    status: object
    decision: object
    probability: float | None
    distance: float | None


def _day(box: str, key: tuple[str, str, str, str], entries: list[_Told]) -> Day:
    decisions = [entry.decision for entry in entries]
    scores = [log_odds(e.probability) for e in entries if e.probability is not None]
    distances = [e.distance for e in entries if e.distance is not None]
    return Day(
        box,
        *key,
        results=len(entries),
        positive=sum(d not in (None, "normal", "uncertain") for d in decisions),
        uncertain=decisions.count("uncertain"),
        normal=decisions.count("normal"),
        rejected=sum(e.status == "rejected" for e in entries),
        errors=sum(e.status == "error" for e in entries),
        scores=histogram(scores, SCORE_EDGES),
        distances=histogram(distances, DISTANCE_EDGES),
    )


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
        return found if np.isfinite(found) else None
    return None


def histogram(values: Iterable[float], edges: tuple[float, ...]) -> tuple[int, ...]:
    """(len(edges) - 1,) counts; values outside are in the outermost cells."""
    clipped = np.clip(np.asarray(list(values), np.float64), edges[0], edges[-1])
    return tuple(int(v) for v in np.histogram(clipped, edges)[0])
