"""Temperature and operating points from labelled logits; export and evaluation share it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import OperatingPoint
from edge_runtime.metrics import confusion, proportion

SCREENING_SENSITIVITY = 0.98
RULE_IN_SPECIFICITY = 0.98
SPLIT = "validation"


def fit_temperature(logits: NDArray[np.float64], positive: NDArray[np.int64]) -> float:
    """The temperature that minimises cross-entropy, by golden-section search over its logarithm.

    The classes are weighted equally, as in training: the data set's share of disease is that of
    a collection, not of any clinic. Source: Guo et al., ICML 2017.
    """
    share = positive.mean()
    weight = np.where(positive == 1, 0.5 / share, 0.5 / (1 - share))
    signed = np.where(positive == 1, logits, -logits)

    def loss(log_temperature: float) -> float:
        return float(np.mean(weight * np.logaddexp(0, -signed / np.exp(log_temperature))))

    low, high = np.log(0.1), np.log(10.0)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - golden * (high - low), low + golden * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def choose_operating_points(
    logits: NDArray[np.float64], positive: NDArray[np.int64], temperature: float
) -> tuple[OperatingPoint, ...]:
    """`screening`, `balanced` and `triage`, which has a grey band.

    A threshold lies midway between two neighbouring logits, so that the small shifts of
    quantisation seldom move an image across it.
    """
    order = np.argsort(logits, kind="stable")
    scaled = logits[order] / temperature
    # One cut under all images, for a model that separates nothing, and one between each two
    # neighbours that differ.
    apart = np.flatnonzero(np.diff(scaled) > 0)
    cuts = np.append(scaled[0] - 1, (scaled[apart + 1] + scaled[apart]) / 2)
    count = np.append(0, apart + 1)  # images under each cut
    below = np.append(0, positive[order].cumsum()[apart])  # diseased ones among them
    sensitivity = 1 - below / positive.sum()
    specificity = (count - below) / (len(positive) - positive.sum())

    youden = sensitivity + specificity
    best = np.flatnonzero(youden >= youden.max() - 1e-12)
    balanced = int(best[len(best) // 2])
    aimed, aim = _screening_cut(below, int(positive.sum()))
    screening = min(aimed, balanced)
    certain = np.flatnonzero(specificity >= RULE_IN_SPECIFICITY)
    rule_in = max(int(certain[0]) if len(certain) else len(cuts) - 1, balanced)

    def threshold(index: int) -> float:
        return round(float(1 / (1 + np.exp(-cuts[index]))), 6)

    def point(name: str, index: int, rule: str) -> OperatingPoint:
        counts = confusion(positive, logits / temperature, cuts[index])
        return OperatingPoint(
            name=name,
            threshold=threshold(index),
            rule=rule,
            split=SPLIT,
            sensitivity=counts.sensitivity,
            specificity=counts.specificity,
        )

    triage = point(
        "triage",
        balanced,
        "as `balanced`, but uncertain from the threshold of `screening` (below it, pneumonia is "
        f"ruled out) up to the lowest one with a specificity of at least {RULE_IN_SPECIFICITY} on "
        "validation, and never below `balanced` (from it on, pneumonia is ruled in)",
    )
    return (
        point(
            "screening",
            screening,
            f"the highest threshold with {aim} of at least {SCREENING_SENSITIVITY} on validation, "
            "and never above `balanced`",
        ),
        point(
            "balanced",
            balanced,
            "the largest sum of sensitivity and specificity on validation (Youden's index)",
        ),
        dataclasses.replace(triage, uncertain=(threshold(screening), threshold(rule_in))),
    )


def _screening_cut(missed: NDArray[np.int64], diseased: int) -> tuple[int, str]:
    """The last cut that keeps SCREENING_SENSITIVITY, and what of the sensitivity keeps it.

    Held-out patients of the same hospital are easy, so that the sensitivity seen would allow a
    threshold above any balance; its lower 95 % limit is held to the aim instead, where there are
    images enough to show that.

    Args:
        missed: (cuts,) diseased images below each cut, rising.
        diseased: Their number.
    """
    few = int(diseased * (1 - SCREENING_SENSITIVITY))
    for allowed in range(few, -1, -1):
        if proportion(diseased - allowed, diseased).low >= SCREENING_SENSITIVITY:
            return int(np.flatnonzero(missed <= allowed)[-1]), "a lower 95 % limit of sensitivity"
    return int(np.flatnonzero(missed <= few)[-1]), "a sensitivity"
