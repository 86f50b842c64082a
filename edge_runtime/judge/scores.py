"""From a model's logits to one score; the one definition for training, export and devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.statistics.odds import probability

if TYPE_CHECKING:
    from numpy.typing import NDArray


def disease_logit(logits: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    """Log odds of any disease.

    Args:
        logits: (n, units): with "softmax" a unit per label, normal first; with "sigmoid" a unit
            per finding, each for itself.
        activation: Of the model.

    Returns:
        (n,) log(p / (1 - p)), where 1 - p is the probability of normal. Of findings that are
        judged each for itself it is that of none of them, as if they were independent (noisy or;
        Pearl, Probabilistic Reasoning in Intelligent Systems, 1988): one finding that is sure is
        enough, and a temperature calibrates the rest.
    """
    if activation == "sigmoid":
        if logits.shape[1] == 1:
            return logits[:, 0]
        # -log of the probability of no finding.
        none = np.maximum(np.logaddexp(0, logits).sum(axis=1), 1e-300)
        return np.asarray(none + np.log(-np.expm1(-none)))
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


def finding_maps(evidence_map: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """(rows, columns, units) -> (rows, columns, findings) log odds of each finding by region."""
    if activation == "sigmoid":
        return evidence_map
    return np.asarray(evidence_map[:, :, 1:] - evidence_map[:, :, :1])


def disease_map(evidence_map: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """(rows, columns, units) -> (rows, columns) log odds of the likeliest finding by region."""
    maps = finding_maps(evidence_map, activation)
    return maps[:, :, 0] if maps.shape[2] == 1 else np.asarray(maps.max(axis=2))


def finding_probabilities(
    logits: NDArray[np.float64], activation: str, temperatures: Sequence[float], temperature: float
) -> list[float]:
    """Calibrated probability of each finding, from one image's logits.

    Args:
        logits: (units,) of one image.
        activation: Of the model.
        temperatures: Of each finding's own logit, where each is judged for itself ("sigmoid").
        temperature: Of the log odds of any disease, where labels exclude each other ("softmax").
    """
    if activation == "sigmoid":
        return [probability(z / t) for z, t in zip(logits.tolist(), temperatures, strict=True)]
    return label_probabilities(logits, temperature, activation)[1:]


def label_probabilities(
    logits: NDArray[np.float64], temperature: float, activation: str
) -> list[float]:
    """Calibrated probability of each label, normal first, from one image's logits.

    Of labels that exclude each other, that is: two, or softmax's. The temperature acts on the log
    odds of any disease, so that a threshold chosen on them means the same for two labels and for
    more. Kinds of disease share its probability by their softmax.

    Args:
        logits: (units,) of one image.
        temperature: Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
        activation: Of the model.
    """
    disease = disease_probability(logits, temperature, activation)
    if len(logits) == 1:
        return [1 - disease, disease]
    share = np.exp(logits[1:] - logits[1:].max())
    return [1 - disease, *(disease * share / share.sum()).tolist()]


def disease_probability(logits: NDArray[np.float64], temperature: float, activation: str) -> float:
    """Calibrated probability of any disease, from one image's (units,) logits."""
    if len(logits) == 1:
        return probability(float(logits[0]) / temperature)
    return probability(float(disease_logit(logits[np.newaxis], activation)[0]) / temperature)
