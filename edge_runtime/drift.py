"""Do recent images still look like those that the model was calibrated on?

Three comparisons with a reference: the scores, the distances in feature space, and the share of
refused images; by the two-sample Kolmogorov-Smirnov test for the first two and Fisher's exact test
for the third. Each is held to a third of ALPHA (Bonferroni), so that on unchanged images a false
alarm comes in fewer than ALPHA of all looks. It tells that something changed, not that the model is
wrong: more sick children than usual move the scores as well.

Source: Massey, JASA 46:68 (1951); Fisher, The Design of Experiments (1935).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.frozen import frozen
from edge_runtime.reference import POINTS, Reference
from edge_runtime.scores import log_odds

ALPHA = 0.04
MIN_IMAGES = 50


@frozen
class Finding:
    """One comparison."""

    what: str  # scores | feature distances | refusals
    recent: float  # median, or share
    reference: float
    p_value: float
    changed: bool
    text: str


@frozen
class DriftReport:
    images: int
    reference: str
    findings: tuple[Finding, ...]

    @property
    def changed(self) -> bool:
        return any(finding.changed for finding in self.findings)


def measure_drift(entries: Iterable[Mapping[str, Any]], reference: Reference) -> DriftReport:
    """Compare audit entries of event "result" with a reference.

    Raises:
        InvalidValueError: Fewer than MIN_IMAGES images.
    """
    results = [e for e in entries if e.get("event") == "result" and e.get("ood_score") is not None]
    # The same image twice says nothing new.
    unique = {str(entry.get("image")): entry for entry in results}
    recent = list(unique.values())
    if len(recent) < MIN_IMAGES:
        raise InvalidValueError(
            f"{len(recent)} different images are in the log; at least {MIN_IMAGES} are needed"
        )
    scores = [log_odds(e["probability"]) for e in recent if e.get("probability") is not None]
    distances = [float(e["ood_score"]) for e in recent]
    refused = sum(e.get("status") == "rejected" for e in recent)
    findings = []
    if len(scores) >= MIN_IMAGES:
        findings.append(_scores(scores, reference))
    findings += [_distances(distances, reference), _refusals(refused, len(recent), reference)]
    return DriftReport(len(recent), reference.name, tuple(findings))


def _scores(recent: Sequence[float], reference: Reference) -> Finding:
    p = ks_p_value(recent, reference.logits, reference.images - reference.refused)
    now, then = float(np.median(recent)), float(np.median(reference.logits))
    changed = p < ALPHA / 3
    way = "higher" if now > then else "lower"
    text = (
        f"Scores are {way} than they were (median probability {_probability(now):.2f}, before "
        f"{_probability(then):.2f}): more or sicker patients, another device, or another way of "
        "taking the picture."
        if changed
        else "Scores are as they were."
    )
    return Finding("scores", _probability(now), _probability(then), p, changed, text)


def _distances(recent: Sequence[float], reference: Reference) -> Finding:
    p = ks_p_value(recent, reference.ood_scores, reference.images)
    now, then = float(np.median(recent)), float(np.median(reference.ood_scores))
    changed = p < ALPHA / 3
    way = "less" if now > then else "more"
    text = (
        f"Images are {way} like those of the calibration (median distance {now:.2f}, before "
        f"{then:.2f}; 1 is the limit): look for other patients (age), another device, export "
        "setting or projection, and calibrate the site again."
        if changed
        else "Images are as like those of the calibration as they were."
    )
    return Finding("feature distances", now, then, p, changed, text)


def _refusals(refused: int, images: int, reference: Reference) -> Finding:
    p = fisher_p_value(refused, images, reference.refused, reference.images)
    now, then = refused / images, reference.refused / reference.images
    changed = p < ALPHA / 3
    way = "More" if now > then else "Fewer"
    text = (
        f"{way} images are refused than before ({now:.0%}, before {then:.0%})."
        if changed
        else "As many images are refused as before."
    )
    return Finding("refusals", now, then, p, changed, text)


def ks_p_value(recent: Sequence[float], quantiles: Sequence[float], images: int) -> float:
    """Two-sided p-value of the two-sample Kolmogorov-Smirnov test, asymptotic.

    Args:
        recent: The values.
        quantiles: Of the other sample, at POINTS equal steps.
        images: Size of the other sample.
    """
    values = np.sort(np.asarray(recent, np.float64))
    expected = _cdf(values, quantiles)
    n = len(values)
    above = np.arange(1, n + 1) / n - expected
    below = expected - np.arange(n) / n
    # The reference is known to a step of its quantiles only.
    distance = max(0.0, float(max(above.max(), below.max())) - 1 / (POINTS - 1))
    size = math.sqrt(n * images / (n + images))
    x = (size + 0.12 + 0.11 / size) * distance
    if x < 0.2:
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return float(min(1.0, max(0.0, 2 * sum(terms))))


def _cdf(values: NDArray[np.float64], quantiles: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(np.interp(values, quantiles, np.linspace(0, 1, POINTS), left=0, right=1))


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


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
