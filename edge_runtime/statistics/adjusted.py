"""AUC within strata of what facts of the film alone predict.

Where the classes of a set come from different machines, file size, sharpness or borders tell the
label, and a plain AUC says as much of the machines as of the model. Within strata of films that
look equally likely to be positive by such facts, only the rest can count.

Source: Janes and Pepe, Adjusting for covariate effects on classification accuracy using the
covariate-adjusted receiver operating characteristic curve, Biometrika 96:371 (2009).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import auc

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRATA = 5
_FOLDS = 5
_RIDGE = 10.0  # values are standardised; keeps 256 weights from fitting the noise


def cross_validated_scores(
    positive: NDArray[np.int64], x: NDArray[np.float64], patients: list[str]
) -> NDArray[np.float64] | None:
    """Out-of-fold scores (n,) of ridge regression on the class; None if a fold lacks a class.

    Args:
        positive: (n,) of 0 and 1.
        x: (n, values).
        patients: (n) identifiers; nobody is scored by a model that saw another film of theirs.
    """
    fold = np.array([zlib.crc32(p.encode("utf-8", "replace")) % _FOLDS for p in patients])
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    scores = np.zeros(len(x))
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        if len(np.unique(positive[train])) < 2:
            return None
        # Each class weighs the same, whatever its size.
        weight = np.where(
            positive == 1, 0.5 / positive[train].mean(), 0.5 / (1 - positive[train].mean())
        )[train]
        design = np.column_stack([x[train], np.ones(train.sum())])
        weighted = design * weight[:, None]
        penalty = _RIDGE * np.eye(design.shape[1])
        penalty[-1, -1] = 0
        beta = np.linalg.solve(design.T @ weighted + penalty, weighted.T @ positive[train])
        scores[test] = np.column_stack([x[test], np.ones(test.sum())]) @ beta
    return scores


def strata_of(propensity: NDArray[np.float64], positive: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) stratum of each film: between equal parts of the positive films' propensities.

    Args:
        propensity: (n,) scores of film facts alone, fitted on other patients.
        positive: (n,) of 0 and 1.
    """
    edges = np.quantile(propensity[positive == 1], np.arange(1, STRATA) / STRATA)
    return np.searchsorted(edges, propensity, side="right").astype(np.int64)


def adjusted_auc(
    positive: NDArray[np.int64], scores: NDArray[np.float64], strata: NDArray[np.int64]
) -> float:
    """The mean over strata of the AUC within, weighted by their positive films.

    Strata without films of either class count for nothing.

    Raises:
        InvalidValueError: No stratum has both.
    """
    total = weight = 0.0
    for stratum in np.unique(strata):
        inside = strata == stratum
        cases = int(positive[inside].sum())
        if 0 < cases < inside.sum():
            total += cases * auc(positive[inside], scores[inside])
            weight += cases
    if not weight:
        raise InvalidValueError("no stratum holds both classes")
    return total / weight


def adjusted_auc_interval(
    positive: NDArray[np.int64],
    scores: NDArray[np.float64],
    strata: NDArray[np.int64],
    patients: list[str],
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    """The same with its 95 % percentile bootstrap interval; whole patients are drawn."""
    found, values = _bootstrap(
        lambda rows: adjusted_auc(positive[rows], scores[rows], strata[rows]),
        _draws(positive, strata, patients, resamples, seed),
        len(positive),
    )
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(found, float(low), float(high))


def adjusted_auc_difference(
    positive: NDArray[np.int64],
    scores_a: NDArray[np.float64],
    scores_b: NDArray[np.float64],
    strata: NDArray[np.int64],
    patients: list[str],
    resamples: int = 500,
    seed: int = 0,
) -> PairedDifference:
    """Adjusted AUC of b minus that of a; interval and p-value by the same bootstrap, paired."""
    found, values = _bootstrap(
        lambda rows: (
            adjusted_auc(positive[rows], scores_b[rows], strata[rows])
            - adjusted_auc(positive[rows], scores_a[rows], strata[rows])
        ),
        _draws(positive, strata, patients, resamples, seed),
        len(positive),
    )
    return bootstrap_difference(found, values)


def bootstrap_difference(found: float, values: Sequence[float]) -> PairedDifference:
    """A paired difference, of all films and of each draw: percentile interval, normal p-value."""
    low, high = np.percentile(values, [2.5, 97.5])
    error = float(np.std(values))
    p_value = math.erfc(abs(found) / error / math.sqrt(2)) if error > 0 else 1.0
    return PairedDifference(found, float(low), float(high), p_value)


def _bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    draws: Iterator[NDArray[np.int64]],
    films: int,
) -> tuple[float, list[float]]:
    """A statistic of all films, and of each draw of them."""
    return statistic(np.arange(films)), [statistic(rows) for rows in draws]


def _draws(
    positive: NDArray[np.int64],
    strata: NDArray[np.int64],
    patients: Sequence[str],
    resamples: int,
    seed: int,
) -> Iterator[NDArray[np.int64]]:
    """Films of patients drawn with replacement, wherever a stratum holds both classes."""
    _, index = np.unique(np.asarray(patients), return_inverse=True)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    rng = np.random.default_rng(seed)
    given = 0
    while given < resamples:
        drawn = rng.integers(len(members), size=len(members))
        chosen = np.concatenate([members[i] for i in drawn])
        ill = np.bincount(strata[chosen], positive[chosen])
        both = (ill > 0) & (ill < np.bincount(strata[chosen]))
        if both.any():
            given += 1
            yield chosen
