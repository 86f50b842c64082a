"""Two runs on films of sources that neither learned from: the comparisons of `train elsewhere`,
paired, and the difference of their means, over draws of patients.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.adjusted import (
    adjusted_auc,
    bootstrap_difference,
    cross_validated_scores,
    strata_of,
)
from edge_runtime.statistics.estimates import PairedDifference
from edge_runtime.statistics.metrics import auc
from train.data.dataset import NORMAL
from train.data.fields import Fields
from train.data.source import Source
from train.data.table import Table
from train.evaluate.elsewhere import (
    Pairing,
    as_told,
    disease_logits,
    facts_of_films,
    mean_over_sources,
    new_films,
    pairings,
    prepared_films,
)
from train.evaluate.ranked import RankedByBoth, ranked_plainly, ranked_within
from train.run.finished import FinishedRun

_RESAMPLES = 500


@dataclasses.dataclass(frozen=True)
class Paired(RankedByBoth):
    """One finding against normal films of one source (and view), ranked by both."""

    source: str
    view: str  # "" is any
    finding: str
    against: str


@dataclasses.dataclass(frozen=True)
class ComparedElsewhere:
    films: int  # of the sources that were asked for
    a: float  # mean over sources, as `train unseen` takes it
    b: float
    difference: PairedDifference  # of the means, b minus a; patients are drawn
    pairs: tuple[Paired, ...]


@dataclasses.dataclass(frozen=True)
class _Task:
    """The films of one comparison, and how the mean counts it."""

    pairing: Pairing
    rows: NDArray[np.int64]  # of all films
    strata: NDArray[np.int64] | None

    def auc(self, scores: NDArray[np.float64], chosen: NDArray[np.int64]) -> float:
        """Of some of its films, as often as they are named; NaN without either class."""
        positive = self.pairing.positive[chosen]
        if not 0 < positive.sum() < len(positive):
            return math.nan
        if self.strata is None:
            return auc(positive, scores[self.rows[chosen]])
        try:
            return adjusted_auc(positive, scores[self.rows[chosen]], self.strata[chosen])
        except InvalidValueError:  # no stratum that was drawn holds both
            return math.nan


def compare_elsewhere(
    runs: tuple[FinishedRun, FinishedRun],
    data: Sequence[Path],
    sources: Sequence[str],
    fields: Fields | None = None,
) -> ComparedElsewhere:
    """Let both judge the films of some sources, cut lungs in the same frames.

    Args:
        runs: a and b.
        data: Data sets, as for `fit`.
        sources: Those to compare on.
        fields: Where the lungs are; without them cut lungs are not judged.

    Raises:
        InvalidValueError: A run learned from one of the sources, or there is nothing to compare.
    """
    table = as_told(runs[0], data)
    taught = {sample.patient for run in runs for sample in run.splits.train}
    refuse_known(table, taught, sources)
    whole, cut = new_films(table, taught)
    source = Source.of(table)
    judged = [prepared_films(source, whole, cut, fields, run.input) for run in runs]
    facts = facts_of_films(table, whole, judged[0][1])
    # Which cut lungs are worth judging is seen in their pixels, and these differ by size.
    places = [{f.sample.path: i for i, f in enumerate(films)} for films, _ in judged]
    shared = [path for path in places[0] if path in places[1]]
    order = [[place[path] for path in shared] for place in places]
    films = [judged[0][0][i] for i in order[0]]
    facts = facts[order[0]]
    scores = np.array(
        [
            disease_logits(run, pixels[rows])
            for run, (_, pixels), rows in zip(runs, judged, order, strict=True)
        ]
    )
    patients = np.array([f.sample.patient for f in films])
    tasks = []
    for pairing in pairings(films, [NORMAL]):
        if pairing.source in sources and not pairing.age:
            rows = np.flatnonzero(pairing.rows)
            told = cross_validated_scores(pairing.positive, facts[rows], patients[rows].tolist())
            strata = None if told is None else strata_of(told, pairing.positive)
            tasks.append(_Task(pairing, rows, strata))
    if not tasks:
        raise InvalidValueError("too few films of either kind to compare any")
    means, difference = _mean_difference(tasks, scores, patients)
    pairs = tuple(pair for task in tasks for pair in _paired(task, scores, patients))
    count = sum(f.source in sources for f in films)
    return ComparedElsewhere(count, *means, difference, pairs)


def refuse_known(table: Table, taught: set[str], sources: Sequence[str]) -> None:
    """Raise InvalidValueError for a source without films, or with patients who taught a run."""
    for name in sources:
        of_source = [f.sample.patient for f in table.films if f.source == name]
        if not of_source:
            raise InvalidValueError(f"no films of {name} in the data")
        if learned := sum(patient in taught for patient in of_source):
            raise InvalidValueError(
                f"{learned} films of {name} are of patients whom a run learned from: compare on "
                "sources that both were trained without"
            )


def _paired(
    task: _Task, scores: NDArray[np.float64], patients: NDArray[np.str_]
) -> Iterator[Paired]:
    """Plain, and within strata where the facts of the films can be fitted."""
    p, of_both = task.pairing, scores[:, task.rows]
    found = [ranked_plainly(p.positive, of_both)]
    if task.strata is not None:
        people = patients[task.rows].tolist()
        found.append(ranked_within(p.positive, of_both, task.strata, people))
    for ranks in found:
        yield Paired(
            **vars(ranks), source=p.source, view=p.view, finding=p.finding, against=p.against
        )


def _mean_difference(
    tasks: Sequence[_Task], scores: NDArray[np.float64], patients: NDArray[np.str_]
) -> tuple[tuple[float, float], PairedDifference]:
    """Both means over sources, and b minus a over draws of patients of all of them at once."""

    def means(chosen: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        return np.array(
            [
                mean_over_sources(
                    (task.pairing.source, task.pairing.view, task.auc(each, picked))
                    for task, picked in zip(tasks, chosen, strict=True)
                )
                for each in scores
            ]
        )

    everyone = means([np.arange(len(task.rows)) for task in tasks])
    who, whose = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(0)
    values: list[float] = []
    for _ in tqdm(range(_RESAMPLES), "drawing patients", leave=False, disable=None):
        times = np.bincount(rng.integers(len(who), size=len(who)), minlength=len(who))
        drawn = means([np.repeat(np.arange(len(t.rows)), times[whose[t.rows]]) for t in tasks])
        if np.isfinite(drawn).all():
            values.append(float(drawn[1] - drawn[0]))
    if len(values) < _RESAMPLES / 2:
        raise InvalidValueError("too few patients of either kind to compare the means of")
    a, b = everyone.tolist()
    return (a, b), bootstrap_difference(b - a, values)
