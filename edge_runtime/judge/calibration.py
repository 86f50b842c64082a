"""Temperature and operating points from labelled logits; export and evaluation share it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.statistics.metrics import confusion, proportion
from edge_runtime.statistics.odds import probability

SCREENING_SENSITIVITY = 0.98
RULE_IN_SPECIFICITY = 0.98
SPLIT = "validation"

_BALANCED_RULE = (
    "the highest of the thresholds within a standard error of the largest sum of sensitivity and "
    "specificity on validation (Youden)"
)

_LEAST = 1e-6  # from 0 and from 1


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
    logits: NDArray[np.float64],
    positive: NDArray[np.int64],
    temperature: float,
    disease: str = "pneumonia",
) -> tuple[OperatingPoint, ...]:
    """`screening`, `balanced` and `triage`, which has a grey band.

    A threshold lies midway between two neighbouring logits, so that the small shifts of
    quantisation seldom move an image across it.

    Args:
        logits: (n,) of validation images.
        positive: (n,) of 0 and 1.
        temperature: Divides the logits.
        disease: What the rule calls that which is ruled in or out.
    """
    rising = _Cuts(logits / temperature, positive)
    # Patients of the same hospital are so easy that many thresholds balance them about equally. Of
    # hospitals that nobody learned from normal images score higher (docs/decisions/0041).
    balanced = near_best_cuts(logits / temperature, positive)[-1]
    aimed, aim = _screening_cut(rising.missed, int(positive.sum()))
    screening = min(rising.cuts[aimed], balanced)
    certain = np.flatnonzero(rising.specificity >= RULE_IN_SPECIFICITY)
    rule_in = max(rising.cuts[certain[0] if len(certain) else -1], balanced)

    def threshold(cut: float) -> float:
        # Where the classes lie far apart, never 0 or 1, which are no thresholds.
        return min(max(round(probability(cut), 6), _LEAST), 1 - _LEAST)

    def point(name: str, cut: float, rule: str) -> OperatingPoint:
        counts = confusion(positive, logits / temperature, cut)
        return OperatingPoint(
            name=name,
            threshold=threshold(cut),
            rule=rule,
            split=SPLIT,
            sensitivity=counts.sensitivity,
            specificity=counts.specificity,
        )

    triage = point(
        "triage",
        balanced,
        f"as `balanced`, but uncertain from the threshold of `screening` (below it, {disease} is "
        f"ruled out) up to the lowest one with a specificity of at least {RULE_IN_SPECIFICITY} on "
        f"validation, and never below `balanced` (from it on, {disease} is ruled in)",
    )
    return (
        point(
            "screening",
            screening,
            f"the highest threshold with {aim} of at least {SCREENING_SENSITIVITY} on validation, "
            "and never above `balanced`",
        ),
        point("balanced", balanced, _BALANCED_RULE),
        dataclasses.replace(triage, uncertain=(threshold(screening), threshold(rule_in))),
    )


def near_best_cuts(scores: NDArray[np.float64], positive: NDArray[np.int64]) -> NDArray[np.float64]:
    """The thresholds that balance about as well as the best, rising.

    Those whose Youden index (sensitivity + specificity - 1) is within a standard error of the
    largest. Source: Youden, Cancer 3:32 (1950); Breiman et al., Classification and Regression Trees
    (1984), section 3.4.3, for the standard error.

    Args:
        scores: (n,) of images; higher means more likely diseased.
        positive: (n,) of 0 and 1.
    """
    all_cuts = _Cuts(scores, positive)
    youden = all_cuts.sensitivity + all_cuts.specificity
    best = int(youden.argmax())
    diseased = int(positive.sum())
    error = _squared_error(float(all_cuts.sensitivity[best]), diseased) + _squared_error(
        float(all_cuts.specificity[best]), len(positive) - diseased
    )
    return np.asarray(all_cuts.cuts[youden >= youden[best] - np.sqrt(error)])


def _squared_error(share: float, n: int) -> float:
    """Of a share; half an image is added on either side, or a share of 1 would have none."""
    smoothed = (share * n + 0.5) / (n + 1)
    return smoothed * (1 - smoothed) / n


class _Cuts:
    """Every useful threshold: `cuts` (k,) rising, and what each one does."""

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.int64]) -> None:
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        # One cut under all images, for a model that separates nothing, and one between each two
        # neighbours that differ.
        apart = np.flatnonzero(np.diff(ranked) > 0)
        self.cuts = np.append(ranked[0] - 1, (ranked[apart + 1] + ranked[apart]) / 2)
        below = np.append(0, apart + 1)
        self.missed = np.append(0, positive[order].cumsum()[apart])  # diseased images below
        self.sensitivity = 1 - self.missed / positive.sum()
        self.specificity = (below - self.missed) / (len(positive) - positive.sum())


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
