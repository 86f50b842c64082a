"""What a model is worth to whom: the validation films by population and by source.

A figure over all films of a mixture says little, for most sources hold one class, and telling them
apart looks like telling disease. So every source has a row of its own, an AUC only where it has
both classes, and of the others what is called pneumonia.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.population import Population
from edge_runtime.judge.quality import Quality
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import auc_difference, auc_interval, proportion
from edge_runtime.statistics.odds import probabilities
from train.data.dataset import NORMAL, Sample
from train.data.source import Source
from train.data.table import shows_a_child
from train.recipe import Recipe
from train.run.finished import FinishedRun

CHILDREN = "children"
_FEWEST = 10  # of either class, for an AUC
_FEWEST_COMPARED = 200  # films, for a difference to float


@dataclasses.dataclass(frozen=True)
class Described:
    """A film and whom it shows."""

    positive: bool
    source: str
    child: bool
    view: str

    @staticmethod
    def of(sample: Sample, source: Source, recipe: Recipe) -> Described:
        film = source.films.get(sample.path)
        name, view = (film.source, film.view) if film else ("", "")
        child = shows_a_child(film, recipe.data.children)
        return Described(sample.kind != NORMAL, name, child, view)


@dataclasses.dataclass(frozen=True)
class AtPoint:
    """Shares called pneumonia at an operating point; None without films of that class."""

    name: str
    sensitivity: Estimate | None
    specificity: Estimate | None


@dataclasses.dataclass(frozen=True)
class PopulationFigures:
    """What the model does with the films of one population or source."""

    name: str
    normal: int
    pneumonia: int
    auc: Estimate | None  # of the int8 .tflite
    differences: Mapping[str, PairedDifference]  # file -> its AUC less float's
    points: tuple[AtPoint, ...]
    refused: int  # by the quality gate
    flagged: int  # and let through, as unlike the training films


def describe_sources(run: FinishedRun, source: Source) -> dict[str, Any]:
    """{"sources": {name: {"train", "validation", "licences"}}}; nothing where none is known."""
    found: dict[str, dict[str, Any]] = {}
    for part, samples in (("train", run.splits.train), ("validation", run.splits.validation)):
        for sample in samples:
            film = source.films.get(sample.path)
            if film is None:
                continue
            row = found.setdefault(film.source, {"train": 0, "validation": 0, "licences": {}})
            row[part] += 1
            licence = film.licence or "not stated in the table"
            row["licences"][licence] = row["licences"].get(licence, 0) + 1
    return {"sources": {name: found[name] for name in sorted(found)}} if found else {}


def measure_populations(
    films: Sequence[Described],
    exact: NDArray[np.float64],
    int8: Mapping[str, NDArray[np.float64]],
    temperature: float,
    points: Sequence[OperatingPoint],
    verdicts: Sequence[Quality],
    own: Sequence[Population] = (),
) -> tuple[PopulationFigures, ...]:
    """A row for each population and each source.

    Args:
        films: (n).
        exact: (n,) logits of the float model.
        int8: (n,) logits by file; the first is what the figures are of.
        temperature: Divides them.
        points: Thresholds without a grey band are looked at.
        verdicts: (n) of the quality gate.
        own: Populations with points of their own, which decide of their films here.
    """
    positive = np.array([f.positive for f in films], np.int64)
    first = next(iter(int8.values()))
    probability = probabilities(first / temperature)
    thresholds = {p.name: np.full(len(films), p.threshold) for p in points if p.uncertain is None}
    for population in own:
        here = np.array([f.child == (population.name == CHILDREN) for f in films])
        for p in population.operating_points:
            if p.uncertain is None:
                thresholds[p.name][here] = p.threshold
    called = {name: probability >= each for name, each in thresholds.items()}
    accepted = np.array([v.accepted for v in verdicts])
    flagged = accepted & np.array([bool(v.flags) for v in verdicts])

    def row(name: str, belongs: Callable[[Described], bool]) -> PopulationFigures | None:
        here = np.array([belongs(f) for f in films])
        if not here.any():
            return None
        sick, well = here & (positive == 1), here & (positive == 0)
        both = min(sick.sum(), well.sum()) >= _FEWEST
        return PopulationFigures(
            name,
            int(well.sum()),
            int(sick.sum()),
            auc_interval(positive[here], first[here]) if both else None,
            {
                label: auc_difference(positive[here], exact[here], logits[here])
                for label, logits in int8.items()
            }
            if both and here.sum() >= _FEWEST_COMPARED
            else {},
            tuple(
                AtPoint(name, _share(hits[sick]), _share(~hits[well]))
                for name, hits in called.items()
            ),
            int((here & ~accepted).sum()),
            int((here & flagged).sum()),
        )

    rows = [row(CHILDREN, lambda f: f.child)]
    for view in ("AP", "PA", ""):
        name = f"adults, {view or 'view not stated'}"
        rows.append(row(name, lambda f, view=view: not f.child and f.view == view))  # type: ignore[misc]
    for name in sorted({f.source for f in films if f.source}):
        rows.append(row(f"source {name}", lambda f, name=name: f.source == name))  # type: ignore[misc]
    return tuple(r for r in rows if r is not None)


def _share(hits: NDArray[np.bool_]) -> Estimate | None:
    return proportion(int(hits.sum()), len(hits)) if len(hits) else None
