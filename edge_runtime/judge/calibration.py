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
    corrupted: NDArray[np.float64] | None = None,
) -> tuple[OperatingPoint, ...]:
    """`screening`, `balanced` and `triage`, which has a grey band.

    A threshold lies midway between two neighbouring logits, so that the small shifts of
    quantisation seldom move an image across it.

    Args:
        logits: (n,) of validation images.
        positive: (n,) of 0 and 1.
        temperature: Divides the logits.
        corrupted: (n,) logits of a corrupted copy of the same images. Held-out patients of the same
            hospital are so easy that many thresholds balance them equally; the copy makes the
            choice among these a firm one.
    """
    both = rising = _Cuts(logits / temperature, positive)
    copies = ""
    if corrupted is not None:
        both = _Cuts(np.concatenate([logits, corrupted]) / temperature, np.tile(positive, 2))
        copies = " and its corrupted copy"
    youden = both.sensitivity + both.specificity
    best = np.flatnonzero(youden >= youden.max() - 1e-12)
    balanced = both.cuts[best[len(best) // 2]]
    aimed, aim = _screening_cut(rising.missed, int(positive.sum()))
    screening = min(rising.cuts[aimed], balanced)
    certain = np.flatnonzero(rising.specificity >= RULE_IN_SPECIFICITY)
    rule_in = max(rising.cuts[certain[0] if len(certain) else -1], balanced)

    def threshold(cut: float) -> float:
        return round(probability(cut), 6)

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
            f"the largest sum of sensitivity and specificity on validation{copies} "
            "(Youden's index)",
        ),
        dataclasses.replace(triage, uncertain=(threshold(screening), threshold(rule_in))),
    )


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
