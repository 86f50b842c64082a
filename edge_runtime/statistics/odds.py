"""Probabilities and their log odds; the one definition of either direction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOWEST = -700.0  # exp() of more is no number


def probability(log_odds: float) -> float:
    """1 / (1 + exp(-log_odds)), in [0, 1] for every finite number."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds > _LOWEST else 0.0


def probabilities(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of an array of any shape."""
    return np.asarray(1 / (1 + np.exp(-np.maximum(log_odds, _LOWEST))))


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), finite also where a record's probability was rounded to 0 or 1."""
    clipped = min(max(probability, 1e-8), 1 - 1e-8)
    return math.log(clipped / (1 - clipped))
