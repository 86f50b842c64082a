"""AUC within strata of what facts of the film alone predict.

Where the classes of a set come from different machines, file size, sharpness or borders tell the
label, and a plain AUC says as much of the machines as of the model. Within strata of films that
look equally likely to be positive by such facts, only the rest can count.

Source: Janes and Pepe, Adjusting for covariate effects on classification accuracy using the
covariate-adjusted receiver operating characteristic curve, Biometrika 96:371 (2009).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.grey import read_grey
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc, auc_interval
from train.data.facts import FULL_SIZE, cross_validated_scores, trivial_features

STRATA = 5


@dataclasses.dataclass(frozen=True)
class WithinFacts:
    """Of the same films: what their files tell of the label, and the AUC within strata of that."""

    facts_auc: Estimate  # of a ridge regression on the facts, fitted on other patients
    adjusted_auc: Estimate


def facts_of(contents: Iterable[bytes], count: int) -> NDArray[np.float64]:
    """(n, facts) of image files, given one after the other.

    Args:
        contents: The files' bytes.
        count: How many there are, for the progress bar.

    Raises:
        ImageError: One cannot be read.
    """
    rows = []
    for content in tqdm(contents, "film facts", count, unit="film", leave=False, disable=None):
        grey, _ = read_grey(content, FULL_SIZE)
        rows.append(list(trivial_features(len(content), grey).values()))
    return np.array(rows)


def within_facts(
    positive: NDArray[np.int64],
    scores: NDArray[np.float64],
    facts: NDArray[np.float64],
    patients: list[str],
) -> WithinFacts | None:
    """None where the facts cannot be fitted: too few patients of a class.

    Args:
        positive: (n,) of 0 and 1.
        scores: (n,) of the model.
        facts: (n, facts), see `facts_of`.
        patients: (n) identifiers.
    """
    told = cross_validated_scores(positive, facts, patients)
    if told is None:
        return None
    adjusted = adjusted_auc_interval(positive, scores, strata_of(told, positive), patients)
    return WithinFacts(auc_interval(positive, told), adjusted)


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
