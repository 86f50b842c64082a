"""Logistic regression that is shrunk towards no change; numpy only, and fast for hundreds of films.

score = slope * logit + bias + weights . features

The features of a site's films, a thousand numbers each, lie close to a few dozen directions, which
are found without looking at labels. In these coordinates a fit is a few small linear systems, so
that nested cross-validation takes seconds on a small board.

Source: Hoerl and Kennard, Technometrics 12:55 (1970); le Cessie and van Houwelingen, Ridge
Estimators in Logistic Regression, Applied Statistics 41:191 (1992); the slope and bias alone:
Platt, Advances in Large Margin Classifiers (1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECTIONS = 64
# Of the shrinkage; the squared length of a film's coordinates is 1 on average.
# Weaker ones win where they are fitted, and lose at the next hospital (docs/adapting.md).
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
_SLOPE_PRIOR = 2.0  # films' worth of belief that the bundle's own scale is right
_STEPS = 30


@frozen
class Fit:
    """In the coordinates of a `Basis`: score = slope * logit + bias + weights . coordinates."""

    slope: float
    bias: float
    weights: tuple[float, ...]

    def scores(
        self, logits: NDArray[np.float64], coordinates: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(n,) corrected log odds; those of either kind of film weigh the same in them."""
        moved = coordinates @ np.array(self.weights) if self.weights else 0.0
        return np.asarray(self.slope * logits + self.bias + moved)


class Basis:
    """The main directions of films' features.

    Args:
        features: (n, channels) pooled features.
    """

    def __init__(self, features: NDArray[np.float64], directions: int = DIRECTIONS) -> None:
        self.mean = features.mean(axis=0)
        spread = features - self.mean
        # A channel that hardly moves is not blown up.
        deviation = spread.std(axis=0)
        self.scale = np.maximum(deviation, max(float(np.median(deviation)), 1e-12))
        spread = spread / self.scale
        few = len(spread) < spread.shape[1]  # the smaller of the two squares
        values, vectors = np.linalg.eigh(spread @ spread.T if few else spread.T @ spread)
        order = np.argsort(values)[::-1][:directions]
        kept = order[values[order] > values[order[0]] * 1e-9]
        axes = vectors[:, kept]
        if few:
            axes = spread.T @ axes / np.sqrt(values[kept])
        # The sign of an eigenvector is the library's whim; profiles shall not depend on it.
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        self.axes = axes * signs
        self.unit = float(np.sqrt(((spread @ self.axes) ** 2).sum(axis=1).mean())) or 1.0

    def coordinates(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, channels) -> (n, directions)."""
        return np.asarray(((features - self.mean) / self.scale) @ self.axes / self.unit)

    def weights(self, fit: Fit) -> tuple[NDArray[np.float64], float]:
        """(channels,) weights of the features themselves, and what they add to the bias."""
        found = self.axes @ np.array(fit.weights) / self.unit / self.scale
        return found, -float(found @ self.mean)


def fit_scale(logits: NDArray[np.float64], positive: NDArray[np.int64], slope: float) -> Fit:
    """Slope and bias alone: what can be said without another ranking.

    Args:
        logits: (n,) of the model.
        positive: (n,) of 0 and 1, both there.
        slope: The bundle's own, 1 / temperature; the slope found is drawn to it.
    """
    design = np.column_stack([logits, np.ones(len(logits))])
    unit = 1 / max(float(np.std(logits)), 1e-6)  # of the slope's prior deviation
    penalty = np.array([_SLOPE_PRIOR / unit**2, 0.0])
    offset, centre = np.zeros(len(logits)), np.array([slope, 0.0])
    found = fit_logistic(design, positive, balance(positive), offset, penalty, centre)
    return Fit(max(float(found[0]), 0.0), float(found[1]), ())


def fit_ridge(
    logits: NDArray[np.float64],
    coordinates: NDArray[np.float64],
    positive: NDArray[np.int64],
    slope: float,
    strengths: Sequence[float] = STRENGTHS,
) -> list[Fit]:
    """A fit for each strength, the strongest first; arguments as of `fit_scale`."""
    scaled = fit_scale(logits, positive, slope)
    design = np.column_stack([coordinates, np.ones(len(logits))])
    offset = scaled.slope * logits
    weight = balance(positive)
    fits, start = [], np.append(np.zeros(coordinates.shape[1]), scaled.bias)
    for strength in sorted(strengths, reverse=True):
        penalty = np.append(np.full(coordinates.shape[1], strength), 0.0)
        start = fit_logistic(design, positive, weight, offset, penalty, np.zeros(len(start)), start)
        fits.append(Fit(scaled.slope, float(start[-1]), tuple(start[:-1].tolist())))
    return fits


def log_loss(scores: NDArray[np.float64], positive: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) loss of each film, either kind weighing the same."""
    signed = np.where(positive == 1, scores, -scores)
    return np.asarray(balance(positive) * np.logaddexp(0, -signed))


def balance(positive: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) weights with which both kinds count as half of the films, as in training."""
    share = float(positive.mean())
    return np.where(positive == 1, 0.5 / share, 0.5 / (1 - share))


def fit_logistic(
    design: NDArray[np.float64],
    positive: NDArray[np.int64],
    weight: NDArray[np.float64],
    offset: NDArray[np.float64],
    penalty: NDArray[np.float64],
    centre: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The (k,) minimum of the weighted log loss plus penalty * (beta - centre)^2 / 2.

    Args:
        design: (n, k).
        positive: (n,) of 0 and 1.
        weight: (n,) of each film's loss.
        offset: (n,) added to every score.
        penalty: (k,).
        centre: (k,) what the penalty draws to.
        start: (k,) where to begin; by default at the centre.
    """
    beta = centre.copy() if start is None else start.copy()

    def loss(at: NDArray[np.float64]) -> float:
        score = offset + design @ at
        signed = np.where(positive == 1, score, -score)
        return float(
            (weight * np.logaddexp(0, -signed)).sum() + (penalty * (at - centre) ** 2).sum() / 2
        )

    now = loss(beta)
    for _ in range(_STEPS):
        chance = 0.5 * (1 + np.tanh((offset + design @ beta) / 2))
        slope = design.T @ (weight * (chance - positive)) + penalty * (beta - centre)
        curve = (design * (weight * chance * (1 - chance))[:, None]).T @ design
        curve[np.diag_indices_from(curve)] += penalty + 1e-9
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-4 and loss(beta - size * step) > now:
            size /= 2  # a full step can leap over the minimum
        beta = beta - size * step
        then, now = now, loss(beta)
        if then - now < 1e-10 * max(1.0, abs(then)):
            break
    return beta
