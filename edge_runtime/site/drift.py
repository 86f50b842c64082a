"""Do recent images still look like those that the model was calibrated on?

Three comparisons with a reference: the scores, the distances in feature space, and the share of
refused images; by the two-sample Kolmogorov-Smirnov test for the first two and Fisher's exact test
for the third. Each is held to a third of ALPHA (Bonferroni), so that on unchanged images a false
alarm comes in fewer than ALPHA of all looks. It tells that something changed, not that the model is
wrong: more sick children than usual move the scores as well.

Source: Massey, JASA 46:68 (1951); Fisher, The Design of Experiments (1935).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.reference import Reference
from edge_runtime.statistics.odds import log_odds, probability
from edge_runtime.statistics.two_samples import fisher_p_value, ks_p_value

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
        f"Scores are {way} than they were (median probability {probability(now):.2f}, before "
        f"{probability(then):.2f}): more or sicker patients, another device, or another way of "
        "taking the picture."
        if changed
        else "Scores are as they were."
    )
    return Finding("scores", probability(now), probability(then), p, changed, text)


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
