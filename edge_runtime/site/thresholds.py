"""A site's own operating point: chosen on its labelled images, tied to one bundle and engine.

Source for PPV and NPV at another prevalence and their intervals: Mercaldo, Lau and Zhou,
Statistics in Medicine 26:2170 (2007).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.bundle.site_profile import Stratum, ThresholdRow
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics import odds
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import Z_95, auc_interval, confusion, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fewer of either kind show nothing of a sensitivity or a specificity.
MIN_OF_EACH = 30
# From so many of each on the temperature is fitted anew.
MIN_FOR_TEMPERATURE = 100


@frozen
class Policy:
    """How a threshold is chosen: the first field that is set decides."""

    min_sensitivity: float | None = None
    max_referred_per_1000: float | None = None
    cost_missed: float | None = None
    cost_false_alarm: float | None = None

    def describe(self) -> str:
        if self.min_sensitivity is not None:
            return (
                "the highest threshold whose lower 95 % limit of sensitivity is at least "
                f"{self.min_sensitivity:g}"
            )
        if self.max_referred_per_1000 is not None:
            return (
                f"the lowest threshold that refers at most {self.max_referred_per_1000:g} of 1,000"
            )
        return (
            f"the least cost, a missed case at {self.cost_missed:g}, a false alarm at "
            f"{self.cost_false_alarm:g}"
        )


def table_of_thresholds(
    positive: NDArray[np.int64],
    probability: NDArray[np.float64],
    prevalence: float,
    costs: tuple[float, float] | None = None,
    limit: int = 400,
) -> tuple[ThresholdRow, ...]:
    """A row for every threshold that decides differently, or for `limit` of them, evenly spread.

    Args:
        positive: (n,) of 0 and 1.
        probability: (n,) calibrated.
        prevalence: Share of disease among the people who will be screened.
        costs: Of a missed case and of a false alarm, in any unit.
        limit: The largest number of rows.
    """
    values = np.unique(probability)
    if len(values) > limit:
        values = values[np.unique(np.linspace(0, len(values) - 1, limit).round().astype(int))]
    return tuple(row_at(positive, probability, float(t), prevalence, costs) for t in values)


def row_at(
    positive: NDArray[np.int64],
    probability: NDArray[np.float64],
    threshold: float,
    prevalence: float,
    costs: tuple[float, float] | None,
) -> ThresholdRow:
    """The row of one threshold; arguments as of `table_of_thresholds`."""
    counts = confusion(positive, probability, threshold)
    sensitivity, specificity = counts.sensitivity, counts.specificity
    missed = _scaled(sensitivity, lambda s: 1000 * prevalence * (1 - s))
    alarms = _scaled(specificity, lambda s: 1000 * (1 - prevalence) * (1 - s))
    return ThresholdRow(
        threshold=threshold,
        true_positive=counts.true_positive,
        false_positive=counts.false_positive,
        true_negative=counts.true_negative,
        false_negative=counts.false_negative,
        sensitivity=sensitivity,
        specificity=specificity,
        ppv=_ppv(counts, prevalence),
        npv=_npv(counts, prevalence),
        found_per_1000=_scaled(sensitivity, lambda s: 1000 * prevalence * s),
        missed_per_1000=missed,
        referred_per_1000=_referred(sensitivity, specificity, prevalence),
        cost_per_1000=None if costs is None else _sum((costs[0], missed), (costs[1], alarms)),
    )


def _scaled(estimate: Estimate, scale) -> Estimate:  # type: ignore[no-untyped-def]
    ends = sorted((scale(estimate.low), scale(estimate.high)))
    return Estimate(scale(estimate.value), ends[0], ends[1])


def _referred(sensitivity: Estimate, specificity: Estimate, prevalence: float) -> Estimate:
    return _sum(
        (1000 * prevalence, sensitivity),
        (1000 * (1 - prevalence), _scaled(specificity, lambda s: 1 - s)),
    )


def _sum(one: tuple[float, Estimate], other: tuple[float, Estimate]) -> Estimate:
    """A weighted sum; intervals in quadrature, as sick and healthy people are independent draws."""
    (a, x), (b, y) = one, other
    value = a * x.value + b * y.value
    down = math.hypot(a * (x.value - x.low), b * (y.value - y.low))
    up = math.hypot(a * (x.high - x.value), b * (y.high - y.value))
    return Estimate(value, max(0.0, value - down), value + up)


def _ppv(counts, prevalence: float) -> Estimate | None:  # type: ignore[no-untyped-def]
    sick = counts.true_positive + counts.false_negative
    healthy = counts.true_negative + counts.false_positive
    return _predictive(counts.true_positive, sick, counts.false_positive, healthy, prevalence)


def _npv(counts, prevalence: float) -> Estimate | None:  # type: ignore[no-untyped-def]
    sick = counts.true_positive + counts.false_negative
    healthy = counts.true_negative + counts.false_positive
    return _predictive(counts.true_negative, healthy, counts.false_negative, sick, 1 - prevalence)


def _predictive(right: int, of: int, wrong: int, other: int, share: float) -> Estimate | None:
    """Share * p / (share * p + (1 - share) * q), p = right / of, q = wrong / other.

    The interval is symmetric on the logit scale; with no count in a cell, the cells are taken with
    Mercaldo's adjustment for it.
    """
    p, q = right / of, wrong / other
    denominator = share * p + (1 - share) * q
    if denominator == 0:
        return None
    value = share * p / denominator
    z = Z_95
    if 0 in (right, wrong) or right == of or wrong == other:
        p, q = (right + z * z / 2) / (of + z * z), (wrong + z * z / 2) / (other + z * z)
        of, other = of + z * z, other + z * z  # type: ignore[assignment]
    centre = math.log(share * p / ((1 - share) * q)) if 0 < share < 1 else math.inf
    half = z * math.sqrt((1 - p) / (p * of) + (1 - q) / (q * other))
    low, high = (odds.probability(centre + sign * half) for sign in (-1, 1))
    return Estimate(value, min(low, value), max(high, value))


def choose_row(rows: Sequence[ThresholdRow], policy: Policy, positives: int) -> ThresholdRow:
    """The row that a policy chooses.

    Raises:
        InvalidValueError: Nothing satisfies it; for a sensitivity the message says how many
            labelled images with disease could show it.
    """
    if policy.min_sensitivity is not None:
        fitting = [r for r in rows if r.sensitivity.low >= policy.min_sensitivity]
        if not fitting:
            needed = images_to_show(policy.min_sensitivity)
            raise InvalidValueError(
                f"no threshold shows a sensitivity of at least {policy.min_sensitivity:g} with "
                f"95 % confidence on {positives} images with disease; with none missed, "
                f"{needed} would be needed"
            )
        return fitting[-1]
    if policy.max_referred_per_1000 is not None:
        fitting = [r for r in rows if r.referred_per_1000.value <= policy.max_referred_per_1000]
        if not fitting:
            raise InvalidValueError(
                f"every threshold refers more than {policy.max_referred_per_1000:g} of 1,000"
            )
        return fitting[0]
    if policy.cost_missed is None or policy.cost_false_alarm is None:
        raise InvalidValueError(
            "a policy is needed: a sensitivity, referrals per 1,000, or both costs"
        )
    return min(rows, key=lambda r: r.cost_per_1000.value if r.cost_per_1000 else 0.0)


def images_to_show(sensitivity: float) -> int:
    """Images with disease, none missed, from which the exact lower 95 % limit reaches it."""
    return math.ceil(math.log(0.025) / math.log(sensitivity)) if 0 < sensitivity < 1 else 10**9


def images_for_precision(expected: float, half_width: float) -> int:
    """Images of one kind for an interval of this half width around an expected proportion."""
    return math.ceil(Z_95**2 * expected * (1 - expected) / half_width**2)


def strata_of(
    columns: Mapping[str, Sequence[str]],
    positive: NDArray[np.int64],
    probability: NDArray[np.float64],
    threshold: float,
) -> tuple[Stratum, ...]:
    """The results of every value of every column."""
    found = []
    for column, values in columns.items():
        array = np.asarray(values)
        for value in sorted(set(values)):
            mask = array == value
            label, score = positive[mask], probability[mask]
            both = 0 < label.sum() < len(label)
            hit = int((score[label == 1] >= threshold).sum())
            clear = int((score[label == 0] < threshold).sum())
            found.append(
                Stratum(
                    column,
                    value,
                    len(label),
                    int(label.sum()),
                    auc_interval(label, score) if both else None,
                    proportion(hit, int(label.sum())) if label.any() else None,
                    proportion(clear, int((label == 0).sum())) if not label.all() else None,
                )
            )
    return tuple(found)
