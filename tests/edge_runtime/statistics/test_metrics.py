"""Statistics against brute force, scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics import metrics
from edge_runtime.statistics.estimates import Estimate, PairedDifference

sklearn_metrics = pytest.importorskip("sklearn.metrics")
scipy_stats = pytest.importorskip("scipy.stats")


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels of both classes and scores with many ties."""
    n = draw(st.integers(4, 60))
    scores = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    labels = [*draw(st.lists(st.integers(0, 1), min_size=n - 4, max_size=n - 4)), 0, 0, 1, 1]
    return np.array(labels), np.array(scores, dtype=float)


@given(scored())
@settings(max_examples=200, deadline=None)
def test_auc_is_the_share_of_pairs_in_order_with_ties_at_one_half(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, scores = sample
    differences = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    pairs = (differences > 0).mean() + (differences == 0).mean() / 2
    assert metrics.auc(labels, scores) == pytest.approx(pairs)
    assert metrics.auc(labels, scores) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores)
    )


@given(scored())
@settings(max_examples=100, deadline=None)
def test_average_precision_and_roc_equal_scikit_learn(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, scores = sample
    assert metrics.average_precision(labels, scores) == pytest.approx(
        sklearn_metrics.average_precision_score(labels, scores)
    )
    fpr, tpr = metrics.roc_curve(labels, scores)
    expected_fpr, expected_tpr, _ = sklearn_metrics.roc_curve(
        labels, scores, drop_intermediate=False
    )
    np.testing.assert_allclose(fpr, expected_fpr)
    np.testing.assert_allclose(tpr, expected_tpr)


def test_auc_is_not_binned() -> None:
    # All scores within one hundredth: 101 thresholds would see a coin toss.
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.5001, 0.5002, 0.5003, 0.5004, 0.5005, 0.5006])
    assert metrics.auc(labels, scores) == 1.0


def brute_delong(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """AUC difference and its variance straight from the definition of 1988."""
    values, v10, v01 = [], [], []
    for s in (a, b):
        psi = np.sign(s[labels == 1][:, None] - s[labels == 0][None, :]) / 2 + 0.5
        values.append(psi.mean())
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    s10, s01 = np.cov(v10), np.cov(v01)
    s = s10 / (labels == 1).sum() + s01 / (labels == 0).sum()
    return values[1] - values[0], s[0, 0] + s[1, 1] - 2 * s[0, 1]


@given(scored(), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_paired_difference_is_delongs(sample: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, a = sample
    b = a + np.random.default_rng(seed).integers(-2, 3, size=len(a))
    difference, variance = brute_delong(labels, a, b)
    found = metrics.auc_difference(labels, a, b)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(metrics.Z_95 * np.sqrt(max(variance, 0)), abs=1e-8)
    if variance > 1e-12:
        z = abs(difference) / np.sqrt(variance)
        assert found.p_value == pytest.approx(2 * scipy_stats.norm.sf(z), abs=1e-9)


def test_delong_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = scipy_stats.norm.cdf(1.5 / np.sqrt(2))
    labels = np.repeat([0, 1], 60)
    inside = 0
    for _ in range(1000):
        interval = metrics.auc_interval(labels, rng.normal(size=120) + 1.5 * labels)
        inside += interval.low <= truth <= interval.high
    assert 0.93 <= inside / 1000 <= 0.97


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 17), (386, 390), (1, 1)])
def test_proportion_is_clopper_pearson(successes: int, trials: int) -> None:
    expected = scipy_stats.binomtest(successes, trials).proportion_ci(method="exact")
    found = metrics.proportion(successes, trials)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_perfect_auc_does_not_claim_certainty() -> None:
    interval = metrics.auc_interval([0] * 20 + [1] * 20, [0.0] * 20 + [1.0] * 20)
    assert interval.value == interval.high == 1.0
    assert interval.low < 0.9


def test_losses_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels, probability = rng.integers(0, 2, 200), rng.uniform(0.01, 0.99, 200)
    assert metrics.binary_cross_entropy(labels, probability) == pytest.approx(
        sklearn_metrics.log_loss(labels, probability)
    )
    assert metrics.brier_score(labels, probability) == pytest.approx(
        sklearn_metrics.brier_score_loss(labels, probability)
    )


def test_calibration_error_is_zero_for_honest_and_large_for_false_probabilities() -> None:
    labels = np.array([0] * 25 + [1] * 75)
    assert metrics.expected_calibration_error(labels, np.full(100, 0.75)) == pytest.approx(0)
    assert metrics.expected_calibration_error(labels, np.full(100, 0.25)) == pytest.approx(0.5)


def test_confusion_counts_a_score_at_the_threshold_as_positive() -> None:
    counts = metrics.confusion([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.4], 0.5)
    assert counts == metrics.Confusion(
        true_positive=1, false_negative=1, true_negative=1, false_positive=1
    )
    assert counts.sensitivity.value == counts.specificity.value == 0.5


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([1, 1], [0.1, 0.2], "both 0 and 1"),
        ([0, 2], [0.1, 0.2], "both 0 and 1"),
        ([0, 1], [0.1], "one length"),
        ([0, 1], [0.1, float("nan")], "finite"),
    ],
)
def test_impossible_input_is_refused(labels: list[int], scores: list[float], said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        metrics.auc(labels, scores)


def test_figures_are_shown_with_their_intervals() -> None:
    estimate, difference = (
        Estimate(0.98765, 0.9, 1.0),
        PairedDifference(-0.0005, -0.0014, 3e-4, 0.2),
    )
    assert str(estimate) == f"{estimate}" == "0.9877 (0.9000 to 1.0000)"
    assert f"{estimate:.1%}" == "98.8% (90.0% to 100.0%)"
    assert f"{estimate:.0f}" == "1 (1 to 1)"
    assert f"{difference}" == "-0.0005 (-0.0014 to +0.0003)"
    assert f"{difference:+.5f}" == "-0.00050 (-0.00140 to +0.00030)"


def test_equal_counts_are_computed_once() -> None:
    metrics.proportion.cache_clear()
    metrics._log_factorials.cache_clear()
    found = {metrics.proportion(k, 300) for k in range(0, 300, 7) for _ in range(5)}
    assert len(found) == 43
    assert metrics.proportion.cache_info().misses == 43
    assert metrics._log_factorials.cache_info().misses == 1
