"""What an adaptation is worth: nested cross-validation, whole patients at a time.

The strength of the shrinkage is chosen inside each training part, so that a film is judged by a fit
that knew neither its label nor another film of its patient. Source: Varma and Simon, Bias in error
estimation when using cross-validation for model selection, BMC Bioinformatics 7:91 (2006); the rule
of one standard error: Breiman et al., Classification and Regression Trees (1984), section 3.4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.adapt.ridge import STRENGTHS, Basis, Fit, fit_ridge, fit_scale, log_loss
from edge_runtime.basics.frozen import frozen
from edge_runtime.statistics.metrics import auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
REPEATS = 4
_SHARES = (0.4, 0.6, 0.8)  # of the patients, for the learning curve
_DRAWS = 4


@frozen
class Labelled:
    """The films that an adaptation is fitted on."""

    logits: NDArray[np.float64]  # (n,) of the bundle, before temperature
    features: NDArray[np.float64]  # (n, channels)
    positive: NDArray[np.int64]  # (n,) of 0 and 1
    patients: tuple[str, ...]
    slope: float  # the bundle's own, 1 / temperature

    def __len__(self) -> int:
        return len(self.logits)


@frozen
class Chosen:
    """A fit, and how much it is shrunk; strength None: no other ranking, slope and bias alone."""

    fit: Fit
    strength: float | None


@frozen
class CurvePoint:
    films: int
    auc: float  # of films of other patients


def choose(
    coordinates: NDArray[np.float64], data: Labelled, rows: NDArray[np.int64], seed: int = 0
) -> Chosen:
    """The fit of some films; its strength by cross-validation among them.

    Of all strengths, no other ranking being the strongest, the strongest whose loss is within a
    standard error of the least.
    """
    logits, positive, x = data.logits[rows], data.positive[rows], coordinates[rows]
    fold = folds_of([data.patients[i] for i in rows], positive, FOLDS, seed)
    scores = np.zeros((len(STRENGTHS) + 1, len(rows)))
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        for place, fit in enumerate(_path(logits[train], x[train], positive[train], data.slope)):
            scores[place, test] = fit.scores(logits[test], x[test])
    losses = np.array([log_loss(each, positive) for each in scores])
    mean = losses.mean(axis=1)
    best = int(mean.argmin())
    error = (losses - losses[best]).std(axis=1) / np.sqrt(len(rows))
    place = int(np.flatnonzero(mean - mean[best] <= error)[0])
    if place == 0:
        return Chosen(fit_scale(logits, positive, data.slope), None)
    strength = sorted(STRENGTHS, reverse=True)[place - 1]
    (fit,) = fit_ridge(logits, x, positive, data.slope, [strength])
    return Chosen(fit, strength)


def _path(
    logits: NDArray[np.float64], x: NDArray[np.float64], positive: NDArray[np.int64], slope: float
) -> list[Fit]:
    return [fit_scale(logits, positive, slope), *fit_ridge(logits, x, positive, slope)]


def prove(
    basis: Basis, data: Labelled, repeats: int = REPEATS, step: Callable[[], object] = lambda: None
) -> NDArray[np.float64]:
    """(n,) scores of films by fits that did not know their patients, the mean of several divisions.

    Args:
        basis: Of these films' features; it does not look at labels.
        data: The films.
        repeats: Divisions.
        step: Called after each fold.
    """
    coordinates = basis.coordinates(data.features)
    scores = np.zeros(len(data))
    for repeat in range(repeats):
        fold = folds_of(data.patients, data.positive, FOLDS, 1000 + repeat)
        for k in range(FOLDS):
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            chosen = choose(coordinates, data, train, seed=repeat)
            scores[test] += chosen.fit.scores(data.logits[test], coordinates[test])
            step()
    return scores / repeats


def learning_curve(basis: Basis, data: Labelled) -> tuple[CurvePoint, ...]:
    """AUC of films of other patients, after fits on fewer films."""
    coordinates = basis.coordinates(data.features)
    people = np.unique(np.array(data.patients))
    found = []
    for share in _SHARES:
        sizes, values = [], []
        for draw in range(_DRAWS):
            rng = np.random.default_rng(draw)
            taken = set(rng.permutation(people)[: round(share * len(people))].tolist())
            inside = np.array([p in taken for p in data.patients])
            train, test = np.flatnonzero(inside), np.flatnonzero(~inside)
            enough = min(np.bincount(data.positive[train], minlength=2)) >= FOLDS
            if not enough or len(np.unique(data.positive[test])) < 2:
                continue
            fit = choose(coordinates, data, train, seed=draw).fit
            sizes.append(len(train))
            values.append(
                auc(data.positive[test], fit.scores(data.logits[test], coordinates[test]))
            )
        if values:
            found.append(CurvePoint(round(float(np.mean(sizes))), float(np.mean(values))))
    return tuple(found)


def twice_as_many(curve: Sequence[CurvePoint]) -> float | None:
    """AUC to expect of twice the films of the curve's last point; None of too short a curve.

    By a - b / sqrt(films), with b not below 0: how far estimates err falls with the root.
    """
    if len(curve) < 3:
        return None
    x = np.array([1 / np.sqrt(point.films) for point in curve])
    y = np.array([point.auc for point in curve])
    slope = float(np.cov(x, y, bias=True)[0, 1] / np.var(x)) if np.ptp(x) > 0 else 0.0
    slope = min(slope, 0.0)
    value = float(y.mean() + slope * (1 / np.sqrt(2 * curve[-1].films) - x.mean()))
    return min(1.0, value)


def folds_of(
    patients: Sequence[str], positive: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """(n,) fold of each film; a patient's films share one, and folds hold both kinds alike."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    ill = np.bincount(index, positive, len(names)) > 0
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(names), np.int64)
    for kind in (True, False):
        members = rng.permutation(np.flatnonzero(ill == kind))
        fold[members] = np.arange(len(members)) % folds
    return fold[index]
