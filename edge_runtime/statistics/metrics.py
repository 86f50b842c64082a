"""Binary-classification statistics, numpy only; the one definition for every part of the project.

Scores are higher for disease. Ranks, never bins: a trapezoid over 101 thresholds is not the AUC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.odds import probability

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
_EXACT_TRIALS = 20_000


@frozen
class Confusion:
    """Counts at a threshold: a score >= threshold is called positive."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def sensitivity(self) -> Estimate:
        return proportion(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Estimate:
        return proportion(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> Estimate:
        return proportion(self.true_positive, self.true_positive + self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and sensitivity; 0 where nothing was called rightly."""
        return (
            2
            * self.true_positive
            / max(1, 2 * self.true_positive + self.false_positive + self.false_negative)
        )

    @property
    def accuracy(self) -> Estimate:
        correct = self.true_positive + self.true_negative
        return proportion(correct, correct + self.false_negative + self.false_positive)


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: P(positive scores higher) + P(tie) / 2.

    Args:
        labels: (n,) of 0 (normal) and 1 (disease).
        scores: (n,) finite, higher means disease.

    Raises:
        InvalidValueError: Only one class, lengths that differ, or scores that are not finite.
    """
    positive, negative = _split(labels, scores)
    ranks = _midranks(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def auc_interval(labels: ArrayLike, scores: ArrayLike) -> Estimate:
    """AUC with DeLong's 95 % interval, on the logit scale so that it stays within [0, 1].

    Source: DeLong, DeLong, Clarke-Pearson, Biometrics 44:837 (1988); the fast form by midranks,
    Sun and Xu, IEEE Signal Processing Letters 21:1389 (2014); logit transform, Pepe (2003) 5.2.
    """
    values, covariance = _delong([_split(labels, scores)])
    value, variance = float(values[0]), float(covariance[0, 0])
    if value in (0.0, 1.0):
        # DeLong's variance is 0 here, which claims certainty; Hanley-McNeil's rule of three does
        # not: with m x n pairs and no error seen, use the smaller class as the effective count.
        positive, negative = _split(labels, scores)
        margin = 1 - 0.05 ** (1 / min(len(positive), len(negative)))
        return Estimate(value, max(0.0, value - margin), min(1.0, value + margin))
    logit = math.log(value / (1 - value))
    half = Z_95 * math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, probability(logit - half), probability(logit + half))


def auc_difference(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> PairedDifference:
    """DeLong's paired test: AUC(b) - AUC(a) on the same images."""
    values, covariance = _delong([_split(labels, scores_a), _split(labels, scores_b)])
    difference = float(values[1] - values[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-18:  # the two rank every image alike
        return PairedDifference(difference, difference, difference, 1.0)
    deviation = math.sqrt(variance)
    p_value = math.erfc(abs(difference) / deviation / math.sqrt(2))
    half = Z_95 * deviation
    return PairedDifference(difference, difference - half, difference + half, p_value)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64], NDArray[np.float64]], float],
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """A statistic with its 95 % percentile bootstrap interval.

    Groups (patients) are drawn with replacement, not images: images of one patient resemble one
    another. Resamples without both classes are drawn again.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.

    Args:
        statistic: Of (labels, scores).
        labels: (n,) of 0 and 1.
        scores: (n,).
        groups: (n) names; without them each image is its own.
        resamples: Their number.
        seed: Of the draws.
    """
    label, score = _checked(labels, scores)
    names = np.arange(len(label)) if groups is None else np.asarray(groups)
    _, index = np.unique(names, return_inverse=True)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for i in range(resamples):
        while True:
            drawn = rng.integers(len(members), size=len(members))
            chosen = np.concatenate([members[k] for k in drawn])
            if 0 < label[chosen].sum() < len(chosen):
                break
        values[i] = statistic(label[chosen].astype(np.int64), score[chosen])
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(statistic(label.astype(np.int64), score)), float(low), float(high))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve as the step sum of precision over recall increments.

    Tied scores form one step, so the order of the input never matters.
    """
    recall, precision = precision_recall_curve(labels, scores)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Confusion:
    """Counts with `score >= threshold` called positive."""
    label, score = _checked(labels, scores)
    called = score >= threshold
    return Confusion(
        true_positive=int(np.sum(called & label)),
        false_negative=int(np.sum(~called & label)),
        true_negative=int(np.sum(~called & ~label)),
        false_positive=int(np.sum(called & ~label)),
    )


def roc_curve(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false positive rates, true positive rates), each (k,), from (0, 0) to (1, 1)."""
    true_positive, false_positive = _cumulative(labels, scores)
    tpr = true_positive / true_positive[-1]
    fpr = false_positive / false_positive[-1]
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])


def precision_recall_curve(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(recall, precision), each (k,), recall rising; tied scores form one step."""
    true_positive, false_positive = _cumulative(labels, scores)
    return true_positive / true_positive[-1], true_positive / (true_positive + false_positive)


def _cumulative(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True and false positives as the threshold falls, a step for each distinct score."""
    label, score = _checked(labels, scores)
    order = np.argsort(-score, kind="stable")
    label, score = label[order], score[order]
    last_of_tie = np.append(np.diff(score) != 0, True)
    return np.cumsum(label)[last_of_tie], np.cumsum(~label)[last_of_tie]


# Tables of thresholds ask for the same counts again and again.
@lru_cache(maxsize=4096)
def proportion(successes: int, trials: int) -> Estimate:
    """A proportion with its exact 95 % interval; (nan, 0, 1) where there were no trials.

    Of more than 20,000 trials the interval is the score interval: it is the same to three digits,
    and takes no time.

    Source: Clopper and Pearson, Biometrika 26:404 (1934), solved by bisection; Wilson, JASA 22:209
    (1927).
    """
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0)
    if trials > _EXACT_TRIALS:
        share, z2 = successes / trials, Z_95**2
        middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
        half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
        half /= 1 + z2 / trials
        return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))
    low = 0.0 if successes == 0 else _solve(lambda p: 1 - _binomial_cdf(successes - 1, trials, p))
    high = 1.0
    if successes < trials:
        high = 1 - _solve(lambda q: _binomial_cdf(successes, trials, 1 - q))
    return Estimate(successes / trials, low, high)


def binary_cross_entropy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood in nats, probabilities clipped to [1e-7, 1 - 1e-7]."""
    label, probability = _checked(labels, probabilities)
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(label, np.log(clipped), np.log1p(-clipped))))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and outcome. Source: Brier (1950)."""
    label, probability = _checked(labels, probabilities)
    return float(np.mean((probability - label) ** 2))


@frozen
class Bin:
    """Images whose probability lies in one of equal parts of [0, 1]."""

    images: int
    positives: int
    mean_probability: float


def calibration_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> tuple[Bin, ...]:
    """What a calibration curve is drawn from; empty bins are left out."""
    label, probability = _checked(labels, probabilities)
    index = np.minimum((probability * bins).astype(int), bins - 1)
    masks = (index == b for b in range(bins))
    return tuple(
        Bin(int(mask.sum()), int(label[mask].sum()), float(probability[mask].mean()))
        for mask in masks
        if mask.any()
    )


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> float:
    """Mean |observed rate - mean probability| over equal-width bins, weighted by their counts.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (15 bins).
    """
    found = calibration_bins(labels, probabilities, bins)
    total = sum(b.images for b in found)
    return sum(b.images / total * abs(b.positives / b.images - b.mean_probability) for b in found)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    label = np.asarray(labels)
    score = np.asarray(scores, dtype=np.float64)
    if label.shape != score.shape or label.ndim != 1:
        raise InvalidValueError(
            f"labels {label.shape} and scores {score.shape} must be of one length"
        )
    if not np.isin(label, (0, 1)).all() or len(np.unique(label)) != 2:
        raise InvalidValueError("labels must hold both 0 and 1, and nothing else")
    if not np.isfinite(score).all():
        raise InvalidValueError("scores must be finite")
    return label.astype(bool), score


def _split(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    label, score = _checked(labels, scores)
    return score[label], score[~label]


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _delong(
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUCs (k,) and their covariance (k, k) for k score sets over the same images."""
    m, n = len(pairs[0][0]), len(pairs[0][1])
    if m < 2 or n < 2:
        raise InvalidValueError(f"intervals need two images per class, got {m} and {n}")
    v10 = np.empty((len(pairs), m))
    v01 = np.empty((len(pairs), n))
    for k, (positive, negative) in enumerate(pairs):
        pooled = _midranks(np.concatenate([positive, negative]))
        v10[k] = (pooled[:m] - _midranks(positive)) / n
        v01[k] = 1 - (pooled[m:] - _midranks(negative)) / m
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(axis=1), covariance


def _binomial_cdf(k: int, n: int, p: float) -> float:
    if p <= 0:
        return 1.0
    if p >= 1:
        return 1.0 if k >= n else 0.0
    i = np.arange(k + 1)
    log_factorials = _log_factorials(n)
    log_choose = log_factorials[n] - log_factorials[i] - log_factorials[n - i]
    return float(np.exp(log_choose + i * math.log(p) + (n - i) * math.log1p(-p)).sum())


@lru_cache(maxsize=64)
def _log_factorials(n: int) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def _solve(tail: Callable[[float], float]) -> float:
    """The p in (0, 1) at which the increasing function `tail` reaches 0.025."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if tail(middle) < 0.025:
            low = middle
        else:
            high = middle
    return (low + high) / 2
