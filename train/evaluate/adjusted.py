"""AUC within strata of what facts of the film alone predict.

Where the classes of a set come from different machines, file size, sharpness or borders tell the
label, and a plain AUC says as much of the machines as of the model. Within strata of films that
look equally likely to be positive by such facts, only the rest can count.

Source: Janes and Pepe, Adjusting for covariate effects on classification accuracy using the
covariate-adjusted receiver operating characteristic curve, Biometrika 96:371 (2009).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc

STRATA = 5


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
    _, index = np.unique(np.asarray(patients), return_inverse=True)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    rng = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < resamples:
        drawn = rng.integers(len(members), size=len(members))
        chosen = np.concatenate([members[i] for i in drawn])
        try:
            values.append(adjusted_auc(positive[chosen], scores[chosen], strata[chosen]))
        except InvalidValueError:
            continue
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(adjusted_auc(positive, scores, strata), float(low), float(high))
