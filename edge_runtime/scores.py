"""From a model's logits to one score; the one definition for training, export and devices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def disease_logit(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds of any pneumonia.

    Args:
        logits: (n, units): one unit for two labels, else a softmax unit per label, normal first.

    Returns:
        (n,) log(p / (1 - p)), where 1 - p is the probability of normal.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    return np.asarray(np.logaddexp.reduce(logits[:, 1:], axis=1) - logits[:, 0])


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), finite also where a record's probability was rounded to 0 or 1."""
    clipped = min(max(probability, 1e-8), 1 - 1e-8)
    return math.log(clipped / (1 - clipped))


def label_probabilities(logits: NDArray[np.float64], temperature: float) -> list[float]:
    """Calibrated probability of each label, normal first, from one image's logits.

    The temperature acts on the log odds of any pneumonia, so that a threshold chosen on them means
    the same for two labels and for more. Kinds of pneumonia share its probability by their softmax.

    Args:
        logits: (units,) of one image.
        temperature: Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    one_unit = len(logits) == 1
    odds = float(logits[0] if one_unit else disease_logit(logits[np.newaxis])[0]) / temperature
    pneumonia = 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0
    if one_unit:
        return [1 - pneumonia, pneumonia]
    share = np.exp(logits[1:] - logits[1:].max())
    return [1 - pneumonia, *(pneumonia * share / share.sum()).tolist()]
