"""How two runs rank the same films, paired: plain, or within strata of file facts."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_runtime.statistics.adjusted import adjusted_auc, adjusted_auc_difference
from edge_runtime.statistics.estimates import PairedDifference
from edge_runtime.statistics.metrics import auc, auc_difference


@dataclasses.dataclass(frozen=True)
class RankedByBoth:
    positives: int
    normals: int
    a: float  # AUC, within strata of file facts where `within`
    b: float
    difference: PairedDifference  # of b minus a
    within: bool

    @property
    def is_worse(self) -> bool:
        """b, by more than chance."""
        return self.difference.high < 0

    @property
    def cells(self) -> list[str]:
        """Of a table: which AUC, a, b, difference, p."""
        kind = "within" if self.within else "AUC"
        p_value = f"{self.difference.p_value:.3f}"
        return [kind, f"{self.a:.4f}", f"{self.b:.4f}", f"{self.difference:+.4f}", p_value]


def ranked_plainly(positive: NDArray[np.int64], scores: NDArray[np.float64]) -> RankedByBoth:
    """Of (n,) labels and (2, n) scores of a and b; DeLong's test."""
    a, b = scores
    return RankedByBoth(
        *_sizes(positive), auc(positive, a), auc(positive, b), auc_difference(positive, a, b), False
    )


def ranked_within(
    positive: NDArray[np.int64],
    scores: NDArray[np.float64],
    strata: NDArray[np.int64],
    patients: list[str],
) -> RankedByBoth:
    """The same within strata (n,); patients (n) are drawn."""
    a, b = scores
    return RankedByBoth(
        *_sizes(positive),
        adjusted_auc(positive, a, strata),
        adjusted_auc(positive, b, strata),
        adjusted_auc_difference(positive, a, b, strata, patients),
        True,
    )


def _sizes(positive: NDArray[np.int64]) -> tuple[int, int]:
    ill = int(positive.sum())
    return ill, len(positive) - ill
