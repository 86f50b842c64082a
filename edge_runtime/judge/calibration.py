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
    corrupted: NDArray[np.float64] | None = None,
    disease: str = "pneumonia",
) -> tuple[OperatingPoint, ...]:
    """`screening`, `balanced` and `triage`, which has a grey band.

    A threshold lies midway between two neighbouring logits, so that the small shifts of
    quantisation seldom move an image across it.

    Args:
        logits: (n,) of validation images.
        positive: (n,) of 0 and 1.
        temperature: Divides the logits.
        corrupted: (n,) logits of a corrupted copy of the same images. Held-out patients of the same
            hospital are so easy that many thresholds balance them nearly equally; the copy makes
            the choice among these a firm one.
        disease: What the rule calls that which is ruled in or out.
    """
    rising = _Cuts(logits / temperature, positive)
    balanced, rule = _balanced_cut(
        logits / temperature, positive, None if corrupted is None else corrupted / temperature
    )
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
        point("balanced", balanced, rule),
        dataclasses.replace(triage, uncertain=(threshold(screening), threshold(rule_in))),
    )


def _balanced_cut(
    scores: NDArray[np.float64],
    positive: NDArray[np.int64],
    corrupted: NDArray[np.float64] | None,
) -> tuple[float, str]:
    """The cut of `balanced`, and by what rule.

    Of the cuts whose Youden index on the images themselves is within a standard error of the best,
    the copy chooses: one that shifts all scores shall not choose a threshold that is bad for
    images as they come. Source of the rule: Breiman et al., Classification and Regression Trees
    (1984), section 3.4.3.
    """
    index = "the largest sum of sensitivity and specificity on validation"
    if corrupted is None:
        alone = _Cuts(scores, positive)
        return _middle(alone.cuts, alone.sensitivity + alone.specificity), f"{index} (Youden)"
    cuts = _Cuts(np.concatenate([scores, corrupted]), np.tile(positive, 2)).cuts
    shares = [_shares(scores[positive == kind], cuts) for kind in (1, 0)]
    youden = shares[0] - shares[1]
    best = int(youden.argmax())
    error = sum(
        _squared_error(float(share[best]), int((positive == kind).sum()))
        for kind, share in zip((1, 0), shares, strict=True)
    )
    near = youden >= youden[best] - np.sqrt(error)
    copy = _shares(corrupted[positive == 1], cuts) - _shares(corrupted[positive == 0], cuts)
    rule = (
        f"of the thresholds within a standard error of {index} (Youden), that with the largest on "
        "its corrupted copy"
    )
    return _middle(cuts[near], copy[near]), rule


def _middle(cuts: NDArray[np.float64], index: NDArray[np.float64]) -> float:
    """Of the cuts where `index` is largest, the middle one."""
    best = np.flatnonzero(index >= index.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def _shares(scores: NDArray[np.float64], cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(cuts,) share of the scores at or above each."""
    return 1 - np.searchsorted(np.sort(scores), cuts, side="left") / len(scores)


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
