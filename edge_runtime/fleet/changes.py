"""Which boxes changed more than chance allows, against their own past and their calibration.

Of each box the last films (whole days, 300 or more) are held against its earlier ones of the same
model, engine and site profile: scores and feature distances by the two-sample Kolmogorov-Smirnov
test on histograms, refusals by Fisher's exact test. All boxes and tests of a report together raise
a false alarm in fewer than ALPHA of reports (Bonferroni), as long as a box's days are alike.

Source: Massey, JASA 46:68 (1951); Fisher, The Design of Experiments (1935).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.fleet.days import DISTANCE_EDGES, SCORE_EDGES, Day
from edge_runtime.judge.reference import Reference
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import proportion
from edge_runtime.statistics.two_samples import fisher_p_value, kolmogorov_p_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = 0.05
RECENT = 300  # films
_FEWEST_BEFORE = 100
_TESTS = 3
SCORES, DISTANCES, REFUSALS = "scores", "distances", "refusals"


@frozen
class Change:
    """One comparison of a box."""

    what: str  # SCORES | DISTANCES | REFUSALS
    recent: float  # median, or share
    before: float
    p_value: float
    changed: bool


@frozen
class BoxReport:
    """One box."""

    box: str
    first: str  # day
    last: str
    bundle: str  # of the last day
    engine: str
    site: str
    films: int
    positive: Estimate | None  # shares of its results of all time
    uncertain: Estimate | None
    rejected: Estimate | None
    recent_films: int
    own_past: tuple[Change, ...]  # () of too few films
    calibration: tuple[Change, ...]  # () where nothing is known of it
    silent_days: int  # since the last day of the whole fleet
    by_week: tuple[tuple[str, int, float], ...]  # Monday, films, share positive

    @property
    def changed(self) -> bool:
        """Whether it changed against its own past."""
        return any(change.changed for change in self.own_past)


def report_boxes(
    days: Sequence[Day], references: Mapping[str, Reference] | None = None
) -> tuple[BoxReport, ...]:
    """Every box; those that changed come first, then those that are silent.

    Args:
        days: Of the store.
        references: By bundle or site profile (SHA-256): what their calibration looked like.
    """
    by_box: dict[str, list[Day]] = {}
    for day in days:
        by_box.setdefault(day.box, []).append(day)
    level = ALPHA / (_TESTS * max(1, len(by_box)))
    latest = max((day.date for day in days), default="")
    found = [
        _report(box, sorted(own, key=lambda d: d.date), level, latest, references or {})
        for box, own in by_box.items()
    ]
    return tuple(sorted(found, key=lambda b: (not b.changed, -b.silent_days, b.box)))


def _report(
    box: str,
    days: Sequence[Day],
    level: float,
    latest: str,
    references: Mapping[str, Reference],
) -> BoxReport:
    last = days[-1]
    films = sum(d.results for d in days)

    def share(name: str) -> Estimate | None:
        return proportion(sum(getattr(d, name) for d in days), films) if films else None

    # What another model, engine or profile said is no past to be compared with.
    alike = [
        d for d in days if (d.bundle, d.engine, d.site) == (last.bundle, last.engine, last.site)
    ]
    recent, before = _divide(alike)
    reference = references.get(last.site or last.bundle)
    return BoxReport(
        box=box,
        first=days[0].date,
        last=last.date,
        bundle=last.bundle,
        engine=last.engine,
        site=last.site,
        films=films,
        positive=share("positive"),
        uncertain=share("uncertain"),
        rejected=share("rejected"),
        recent_films=sum(d.results for d in recent),
        own_past=_changes(recent, before, level),
        calibration=_against(recent, reference, level) if reference else (),
        silent_days=_days_between(last.date, latest),
        by_week=_weeks(days),
    )


def _divide(days: Sequence[Day]) -> tuple[list[Day], list[Day]]:
    """The last days with RECENT films, and those before; by turns, so that no day is in both."""
    count, place = 0, len(days)
    while place > 0 and count < RECENT:
        place -= 1
        count += days[place].results
    return list(days[place:]), list(days[:place])


def _changes(recent: Sequence[Day], before: Sequence[Day], level: float) -> tuple[Change, ...]:
    films, past = (sum(d.results for d in part) for part in (recent, before))
    if films < RECENT or past < _FEWEST_BEFORE:
        return ()
    found = []
    for what, edges in ((SCORES, SCORE_EDGES), (DISTANCES, DISTANCE_EDGES)):
        now, then = (_sum(part, what) for part in (recent, before))
        if now.sum() and then.sum():
            p = _ks(now, then)
            found.append(Change(what, _median(now, edges), _median(then, edges), p, p < level))
    a, b = (sum(d.rejected for d in part) for part in (recent, before))
    p = fisher_p_value(a, films, b, past)
    found.append(Change(REFUSALS, a / films, b / past, p, p < level))
    return tuple(found)


def _against(recent: Sequence[Day], reference: Reference, level: float) -> tuple[Change, ...]:
    films = sum(d.results for d in recent)
    if films < RECENT:
        return ()
    found = []
    for what, edges, values, count in (
        (SCORES, SCORE_EDGES, reference.logits, reference.images - reference.refused),
        (DISTANCES, DISTANCE_EDGES, reference.ood_scores, reference.images),
    ):
        now = _sum(recent, what)
        clipped = np.clip(np.array(values), edges[0], edges[-1])
        then = np.histogram(clipped, edges)[0] / len(values) * count
        p = _ks(now, then)
        found.append(Change(what, _median(now, edges), _median(then, edges), p, p < level))
    rejected = sum(d.rejected for d in recent)
    p = fisher_p_value(rejected, films, reference.refused, reference.images)
    share = reference.refused / max(1, reference.images)
    found.append(Change(REFUSALS, rejected / films, share, p, p < level))
    return tuple(found)


def _sum(days: Sequence[Day], what: str) -> NDArray[np.float64]:
    return np.asarray(np.sum([getattr(day, what) for day in days], axis=0), np.float64)


def _ks(now: NDArray[np.float64], then: NDArray[np.float64]) -> float:
    """p-value of the two-sample test; on histograms it is on the safe side."""
    n, m = float(now.sum()), float(then.sum())
    if not n or not m:
        return 1.0
    distance = float(np.abs(np.cumsum(now) / n - np.cumsum(then) / m).max())
    return kolmogorov_p_value(distance, n, m)


def _median(counts: NDArray[np.float64], edges: Sequence[float]) -> float:
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return float(edges[place] + edges[place + 1]) / 2


def _days_between(one: str, other: str) -> int:
    try:
        first, second = (datetime.date.fromisoformat(day) for day in (one, other))
    except ValueError:
        return 0
    return (second - first).days


def _weeks(days: Sequence[Day]) -> tuple[tuple[str, int, float], ...]:
    found: dict[str, list[int]] = {}
    for day in days:
        try:
            date = datetime.date.fromisoformat(day.date)
        except ValueError:
            continue
        monday = (date - datetime.timedelta(days=date.weekday())).isoformat()
        counts = found.setdefault(monday, [0, 0])
        counts[0] += day.results
        counts[1] += day.positive
    return tuple((week, n, k / n) for week, (n, k) in sorted(found.items()) if n)
