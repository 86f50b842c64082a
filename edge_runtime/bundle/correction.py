"""What a site's films changed of the score: a straight line in the logit and the pooled features.

score = slope * logit + bias + weights . features
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate, PairedDifference

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS, PREVALENCE = "labels", "prevalence"  # what a correction was made from
_LARGEST = 1e6  # of slope, bias and weights; what is beyond is damage


@frozen
class Correction:
    """Applied to the log odds of disease before temperature; records then say which site did it."""

    source: str  # LABELS: fitted on labelled films; PREVALENCE: bias alone, without labels
    slope: float
    bias: float
    weights_base64: str  # float32 (channels,), little endian; "" is no other ranking
    strength: float | None  # of the shrinkage; None: no other ranking
    # What it was worth on films of patients that each fit had not seen.
    before: Estimate | None = None  # AUC
    gain: PairedDifference | None = None
    within: Estimate | None = None  # AUC after, within strata of what facts of the file tell
    strongest_fact: str | None = None
    facts: Estimate | None = None  # AUC of the facts alone
    accepted_confounding: bool = False  # that a person took it in spite of the guard
    begun_from: tuple[str, ...] = ()  # SHA-256 of the profiles of other sites it was begun from

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(channels,), or (0,)."""
        return np.frombuffer(base64.b64decode(self.weights_base64), "<f4").astype(np.float64)

    def check(self, channels: int) -> None:
        """Raise InvalidValueError unless it fits a model with this many pooled features."""
        try:
            weights = self.weights
        except (binascii.Error, ValueError) as error:
            raise InvalidValueError(f"correction: weights: {error}") from error
        if len(weights) not in (0, channels):
            raise InvalidValueError(
                f"correction: {len(weights)} weights, the model has {channels} pooled features"
            )
        if not (np.isfinite(weights).all() and np.abs(weights).max(initial=0) <= _LARGEST):
            raise InvalidValueError("correction: the weights are not finite, or absurdly large")
        if not (0 <= self.slope <= _LARGEST and abs(self.bias) <= _LARGEST):
            raise InvalidValueError(
                f"correction: slope {self.slope} and bias {self.bias} must be finite, the slope "
                "not below 0"
            )

    def apply(self, logit: float, features: NDArray[np.float32]) -> float:
        """The corrected log odds; films of either kind weigh the same in them.

        Args:
            logit: Log odds of disease before temperature.
            features: (channels,) pooled.
        """
        moved = float(self.weights @ features) if len(self.weights) else 0.0
        return self.slope * logit + self.bias + moved


def mean_correction(
    corrections: Sequence[Correction], counts: Sequence[int]
) -> tuple[float, float, NDArray[np.float64]]:
    """Slope, bias and weights of several sites' corrections, each weighing as its films.

    A fit's precision grows with its films, so that this is near to the precision-weighted mean,
    without the matrices that would be needed for more.

    Args:
        corrections: Of one model; without weights they count as none.
        counts: Films of each.
    """
    share = np.array(counts, np.float64) / sum(counts)
    length = max(len(one.weights) for one in corrections)
    weights = np.zeros(length)
    for part, one in zip(share, corrections, strict=True):
        if len(one.weights):
            weights += part * one.weights
    slope = float(share @ np.array([one.slope for one in corrections]))
    bias = float(share @ np.array([one.bias for one in corrections]))
    return slope, bias, weights


def encode_weights(weights: NDArray[np.float64]) -> str:
    """(channels,) as `weights_base64`."""
    return base64.b64encode(weights.astype("<f4").tobytes()).decode("ascii")
