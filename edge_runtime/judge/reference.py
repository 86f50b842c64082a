"""How scores and feature distances are distributed where a model was calibrated, in a few numbers.

Travels in the manifest (validation images) or in a site profile (the site's own), and is what
`audit drift` compares recent images with.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 201


@frozen
class Reference:
    """Quantiles at equal steps from 0 to 1."""

    name: str  # "validation", or the site's
    images: int
    logits: tuple[float, ...]  # of the calibrated probability of pneumonia
    ood_scores: tuple[float, ...]
    refused: int  # images that the quality gate refused

    def check(self) -> None:
        """Raise InvalidValueError unless the numbers fit each other."""
        for values in (self.logits, self.ood_scores):
            ordered = all(a <= b for a, b in itertools.pairwise(values))
            if len(values) != POINTS or not ordered:
                raise InvalidValueError(f"{POINTS} rising quantiles are needed")
        if not 0 <= self.refused <= self.images:
            raise InvalidValueError(f"{self.refused} refused of {self.images} images")


def make_reference(
    name: str,
    logits: Sequence[float] | NDArray[np.float64],
    ood_scores: Sequence[float] | NDArray[np.float64],
    refused: int,
) -> Reference:
    """From the values of all images; `logits` may be of fewer: refused ones have none."""
    steps = np.linspace(0, 1, POINTS)

    def quantiles(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
        found = np.quantile(np.asarray(values, np.float64), steps)
        return tuple(round(float(v), 5) for v in found)

    return Reference(name, len(ood_scores), quantiles(logits), quantiles(ood_scores), refused)
