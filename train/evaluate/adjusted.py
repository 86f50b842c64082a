"""Facts of many films, and a model's AUC within strata of them (`statistics.adjusted`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.images.film_facts import FULL_SIZE, film_facts
from edge_runtime.images.grey import read_grey
from edge_runtime.statistics.adjusted import (
    adjusted_auc_interval,
    cross_validated_scores,
    strata_of,
)
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval


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
        rows.append(list(film_facts(len(content), grey).values()))
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
