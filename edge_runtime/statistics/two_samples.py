"""Do two samples come from one distribution?

Source: Massey, JASA 46:68 (1951), Kolmogorov-Smirnov; Fisher, The Design of Experiments (1935).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ks_p_value(recent: Sequence[float], quantiles: Sequence[float], images: int) -> float:
    """Two-sided p-value of the two-sample Kolmogorov-Smirnov test, asymptotic.

    Args:
        recent: The values.
        quantiles: Of the other sample, at equal steps from 0 to 1.
        images: Size of the other sample.
    """
    values = np.sort(np.asarray(recent, np.float64))
    expected = _cdf(values, quantiles)
    n = len(values)
    above = np.arange(1, n + 1) / n - expected
    below = expected - np.arange(n) / n
    # The reference is known to a step of its quantiles only.
    distance = max(0.0, float(max(above.max(), below.max())) - 1 / (len(quantiles) - 1))
    return kolmogorov_p_value(distance, n, images)


def kolmogorov_p_value(distance: float, n: float, m: float) -> float:
    """Asymptotic two-sided p-value of a largest distance between samples of n and m."""
    size = math.sqrt(n * m / (n + m))
    x = (size + 0.12 + 0.11 / size) * distance
    if x < 0.2:
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return float(min(1.0, max(0.0, 2 * sum(terms))))


def _cdf(values: NDArray[np.float64], quantiles: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(
        np.interp(values, quantiles, np.linspace(0, 1, len(quantiles)), left=0, right=1)
    )


def fisher_p_value(a: int, n: int, b: int, m: int) -> float:
    """Two-sided p-value of Fisher's exact test for a of n against b of m."""

    def log_choose(total: int, chosen: int) -> float:
        return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)

    successes = a + b
    low, high = max(0, successes - m), min(n, successes)
    logs = [
        log_choose(n, i) + log_choose(m, successes - i) - log_choose(n + m, successes)
        for i in range(low, high + 1)
    ]
    observed = logs[a - low]
    return min(1.0, sum(math.exp(v) for v in logs if v <= observed + 1e-7))
