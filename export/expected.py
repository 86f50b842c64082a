"""What people are told to expect of an operating point: measured on films that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Answers, Expected
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.population import Population
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import confusion, proportion
from edge_runtime.statistics.odds import probabilities
from export.populations import Described
from train.data.source import Source
from train.run.finished import FinishedRun
from train.run.scores import Scores, read_scores

_PARTS = {"test": "test", "external": "held out"}
_FEWEST = 10  # films of either class


def expectations(
    run: FinishedRun,
    source: Source,
    temperature: float,
    points: Sequence[OperatingPoint],
    populations: Sequence[Population] = (),
) -> tuple[Expected, ...]:
    """From the scores that `train evaluate` left beside the run, of the float model; () where
    it did not.

    Args:
        run: A finished run.
        source: Knows whom films show.
        temperature: Divides the logits.
        points: Of the bundle, that decide of all films. Where one has a grey band, its lower end
            says how many of the ill are not ruled out.
        populations: What each one's own points did on its own films follows.
    """
    found: list[Expected] = []
    for part, split in _PARTS.items():
        file = run.folder / f"evaluation-{part}" / "scores.csv"
        if not file.is_file():
            continue
        scores = read_scores(file)
        films = "" if part == "test" else ", ".join(run.recipe.data.held_out)
        groups: list[tuple[str | None, Sequence[OperatingPoint], NDArray[np.bool_]]] = [
            (None, points, np.ones(len(scores.samples), bool))
        ]
        child = _children(run, source, scores)
        for population in populations:
            here = child == (population.name == "children")
            groups.append((population.name, population.operating_points, here))
        for name, own, here in groups:
            if min(np.bincount(scores.positive[here], minlength=2)) < _FEWEST:
                continue
            probability = probabilities(run.disease(scores.logits[here]) / temperature)
            positive = scores.positive[here]
            found += [_measured(probability, positive, p, films, split, name) for p in own]
    return tuple(found)


def _children(run: FinishedRun, source: Source, scores: Scores) -> NDArray[np.object_]:
    """(n,) whether each film shows a child; None where nothing is known of it."""
    return np.array(
        [
            Described.of(s, source, run.recipe).child if s.path in source.films else None
            for s in scores.samples
        ],
        dtype=object,
    )


def _measured(
    probability: NDArray[np.float64],
    positive: NDArray[np.int64],
    point: OperatingPoint,
    films: str,
    split: str,
    population: str | None,
) -> Expected:
    counts = confusion(positive, probability, point.threshold)
    answers = None if point.uncertain is None else _answers(probability, positive, point.uncertain)
    ruled = point.uncertain and confusion(positive, probability, point.uncertain[0])
    normal = int((positive == 0).sum())
    return Expected(
        films,
        split,
        point.name,
        normal,
        len(positive) - normal,
        counts.sensitivity,
        counts.specificity,
        ruled.sensitivity if ruled else None,
        population,
        answers,
    )


def _answers(
    probability: NDArray[np.float64], positive: NDArray[np.int64], band: tuple[float, float]
) -> Answers:
    low, high = band
    ill, normal = probability[positive == 1], probability[positive == 0]

    def share(hits: NDArray[np.bool_]) -> Estimate:
        return proportion(int(hits.sum()), len(hits))

    return Answers(
        share(ill >= high),
        share((ill >= low) & (ill < high)),
        share(normal < low),
        share((normal >= low) & (normal < high)),
    )
