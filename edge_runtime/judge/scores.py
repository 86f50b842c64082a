"""From a model's logits to one score; the one definition for training, export and devices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.statistics.odds import probability

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


def map_logits(evidence_map: NDArray[np.float32], offset: tuple[float, ...] = ()) -> list[float]:
    """(units,) logits before temperature of one image: the mean of its map plus the file's offset.

    Args:
        evidence_map: (rows, columns, units).
        offset: (units,); () is none.

    Returns:
        nan where the map holds infinities of both signs.
    """
    rows, columns, units = evidence_map.shape
    # As Python's floats: a few dozen numbers are summed before an array function has begun.
    # `fsum` is exact, so the order of summation cannot show in the record.
    values = evidence_map.ravel().tolist()
    try:
        return [
            math.fsum(values[unit::units]) / (rows * columns) + shift
            for unit, shift in enumerate(offset or (0.0,) * units)
        ]
    except (ValueError, OverflowError):  # infinities of both signs
        return [math.nan]


def disease_map(evidence_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns, units) -> (rows, columns) log odds of the likeliest pneumonia by region."""
    if evidence_map.shape[2] == 1:
        return evidence_map[:, :, 0]
    return np.asarray(evidence_map[:, :, 1:].max(axis=2) - evidence_map[:, :, 0])


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
    pneumonia = probability(odds)
    if one_unit:
        return [1 - pneumonia, pneumonia]
    share = np.exp(logits[1:] - logits[1:].max())
    return [1 - pneumonia, *(pneumonia * share / share.sum()).tolist()]
