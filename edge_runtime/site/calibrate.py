"""From labelled images to the table of thresholds and, by a policy, to a site profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.progress import Progress
from edge_runtime.bundle.site_profile import SCHEMA, SiteProfile, Stratum, ThresholdRow
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import Input
from edge_runtime.judge.calibration import fit_temperature
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.reference import make_reference
from edge_runtime.screener import Screener
from edge_runtime.site.labels import LabelledImage
from edge_runtime.site.thresholds import (
    MIN_FOR_TEMPERATURE,
    MIN_OF_EACH,
    Policy,
    choose_row,
    images_for_precision,
    row_at,
    strata_of,
    table_of_thresholds,
)
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval, calibration_bins, proportion
from edge_runtime.statistics.odds import log_odds, probabilities
from edge_runtime.statistics.odds import probability as probability_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS = 10
_MOST_ROWS = 2000


@frozen
class CalibrationBin:
    """Images whose probability lies in one tenth."""

    images: int
    mean_probability: float
    share: Estimate  # with disease


@frozen
class SiteCalibration:
    """Everything that was measured; `profile` is None where no threshold could be chosen."""

    name: str
    model: str
    engine: str
    prevalence: float
    images: int
    positives: int
    refused: int
    unreadable: int
    auc: Estimate
    temperature: float
    temperature_refitted: bool
    rows: tuple[ThresholdRow, ...]
    bins: tuple[CalibrationBin, ...]
    # What the bundle's own points would do here, their thresholds in the scale of `temperature`.
    bundled: tuple[tuple[str, ThresholdRow], ...]
    strata: tuple[Stratum, ...]
    policy: Policy | None
    refusal: str | None  # why no threshold was chosen
    profile: SiteProfile | None

    @property
    def chosen(self) -> ThresholdRow | None:
        """What the policy chose."""
        return self.profile.chosen if self.profile else None


@frozen
class _Screened:
    """What the model says of the labelled images that it may judge."""

    kept: tuple[LabelledImage, ...]
    scores: NDArray[np.float64]  # (kept,) log odds before temperature
    distances: tuple[float, ...]  # of every image that has one
    refused: int
    unreadable: int

    @property
    def positive(self) -> NDArray[np.int64]:
        return np.array([image.positive for image in self.kept], dtype=np.int64)


def calibrate(
    screener: Screener,
    labelled: Sequence[LabelledImage],
    prevalence: float,
    policy: Policy | None,
    costs: tuple[float, float] | None = None,
    name: str = "site",
    workers: int = 1,
    refit: bool = True,
) -> SiteCalibration:
    """Screen the images and measure everything.

    Images that the quality gate refuses are left out and counted: the device would refuse them.
    Every threshold in the result is in one scale, that of `temperature`.

    Args:
        screener: Judges them.
        labelled: The images.
        prevalence: Share of disease among the people who will be screened.
        policy: Chooses a threshold.
        costs: Of a missed case and of a false alarm.
        name: What the profile is called.
        workers: Threads.
        refit: Whether a temperature may be fitted here, where there are images enough. Only for a
            profile that is kept: without one, `--threshold` takes probabilities of the bundle's.

    Raises:
        InvalidValueError: Fewer than MIN_OF_EACH images of either kind could be screened, or the
            prevalence is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise InvalidValueError(f"prevalence must lie between 0 and 1, got {prevalence}")
    found = _screen(screener, labelled, workers)
    positive, scores = found.positive, found.scores
    positives = int(positive.sum())
    refitted = refit and min(positives, len(positive) - positives) >= MIN_FOR_TEMPERATURE
    temperature = round(fit_temperature(scores, positive), 4) if refitted else screener.temperature
    probability = np.round(probabilities(scores / temperature), 8)
    chosen, refusal = None, None
    if policy is not None:
        try:
            every = table_of_thresholds(positive, probability, prevalence, costs, limit=10**9)
            chosen = choose_row(every, policy, positives)
        except InvalidValueError as error:
            refusal = str(error)
    columns = {c: [image.strata[c] for image in found.kept] for c in found.kept[0].strata}
    threshold = chosen.threshold if chosen else screener.operating_point.threshold
    manifest = screener.bundle.manifest
    # What the calibration and the profile both say.
    common: dict[str, Any] = {
        "name": name,
        "model": f"{manifest.name} {manifest.version}",
        "engine": screener.engine_name,
        "prevalence": prevalence,
        "images": len(positive),
        "positives": positives,
        "refused": found.refused,
        "auc": auc_interval(positive, scores),
        "temperature": temperature,
        "temperature_refitted": refitted,
        "strata": strata_of(columns, positive, probability, threshold),
    }
    profile = None
    if policy is not None and chosen is not None:
        profile = SiteProfile(
            schema=SCHEMA,
            bundle_sha256=screener.bundle.sha256,
            engine_family=screener.engine_family,
            operating_point=OperatingPoint(
                "site",
                chosen.threshold,
                policy.describe(),
                name,
                chosen.sensitivity,
                chosen.specificity,
            ),
            chosen=chosen,
            reference=make_reference(name, scores / temperature, found.distances, found.refused),
            **common,
        )
    before = np.round(probabilities(scores / screener.temperature), 8)
    return SiteCalibration(
        unreadable=found.unreadable,
        rows=table_of_thresholds(positive, probability, prevalence, costs, _MOST_ROWS),
        bins=tuple(
            CalibrationBin(b.images, b.mean_probability, proportion(b.positives, b.images))
            for b in calibration_bins(positive, probability, _BINS)
        ),
        bundled=tuple(
            (
                p.name,
                dataclasses.replace(
                    row_at(positive, before, p.threshold, prevalence, costs),
                    threshold=_rescaled(p.threshold, screener.temperature / temperature),
                ),
            )
            for p in manifest.operating_points
            if p.uncertain is None
        ),
        policy=policy,
        refusal=refusal,
        profile=profile,
        **common,
    )


def _rescaled(threshold: float, factor: float) -> float:
    """A probability whose log odds are multiplied: the same threshold at another temperature."""
    return round(probability_of(log_odds(threshold) * factor), 8)


def _screen(screener: Screener, labelled: Sequence[LabelledImage], workers: int) -> _Screened:
    progress = Progress(len(labelled))
    kept: list[LabelledImage] = []
    logits, distances = [], []
    refused = unreadable = 0
    inputs = (Input(image.path) for image in labelled)
    for image, result in zip(labelled, screener.examine_many(inputs, workers), strict=True):
        record = result.record
        progress.step()
        if record.quality.ood_score is not None:
            distances.append(record.quality.ood_score)
        if record.status == "rejected":
            refused += 1
        elif record.probability is None:
            unreadable += 1
        else:
            kept.append(image)
            logits.append(log_odds(record.probability) * screener.temperature)
    progress.clear()
    positives = sum(image.positive for image in kept)
    if min(positives, len(kept) - positives) < MIN_OF_EACH:
        raise InvalidValueError(
            f"{positives} images with disease and {len(kept) - positives} without could be "
            f"screened ({refused} refused, {unreadable} unreadable); at least {MIN_OF_EACH} of "
            "each are needed to say anything"
        )
    return _Screened(tuple(kept), np.array(logits), tuple(distances), refused, unreadable)


def render_text(result: SiteCalibration) -> str:
    """The result for people, at a terminal."""
    lines = [
        f"{result.model} on {result.engine}: {result.images} images, {result.positives} with "
        f"disease; {result.refused} refused by the quality gate, {result.unreadable} unreadable",
        f"AUC {result.auc}; temperature {result.temperature:.3f}"
        + (" (fitted here)" if result.temperature_refitted else " (the bundle's: too few images)"),
        f"at a prevalence of {result.prevalence:.1%}, per 1,000 screened; thresholds are "
        "probabilities as records show them "
        + ("with --site and this profile:" if result.profile else "without --site:"),
        "",
        f"{'':12} {'threshold':>9} {'sensitivity':>25} {'specificity':>25} {'found':>6} "
        f"{'missed':>6} {'referred':>8} {'PPV':>6} {'NPV':>6}",
    ]
    rows = [*result.bundled]
    if result.chosen:
        rows.append(("this site", result.chosen))
    for name, row in rows:
        lines.append(
            f"{name:12} {row.threshold:9.4f} {row.sensitivity!s:>25} {row.specificity!s:>25} "
            f"{row.found_per_1000.value:6.1f} {row.missed_per_1000.value:6.1f} "
            f"{row.referred_per_1000.value:8.1f} {told(row.ppv, 3):>6} {told(row.npv, 4):>6}"
        )
    lines.append("")
    for stratum in result.strata:
        auc = f"AUC {stratum.auc}" if stratum.auc else "AUC needs both kinds"
        lines.append(
            f"{stratum.column} = {stratum.value}: {stratum.images} images, {stratum.positives} "
            f"with disease, {auc}, sensitivity {stratum.sensitivity or '–'}, specificity "
            f"{stratum.specificity or '–'}"
        )
    lines.append("images needed, of each kind, for an interval of +-2, 5 and 10 points around 0.9:")
    needed = (str(images_for_precision(0.9, w)) for w in (0.02, 0.05, 0.1))
    lines.append("  " + ", ".join(needed))
    if result.policy:
        chosen = result.chosen.threshold if result.chosen else None
        outcome = f"threshold {chosen:.6f}" if chosen is not None else f"REFUSED: {result.refusal}"
        lines.append(f"policy: {result.policy.describe()}: {outcome}")
    return "\n".join(lines) + "\n"


def told(estimate: Estimate | None, digits: int) -> str:
    """A number for people; a dash for what nothing says anything about."""
    return "–" if estimate is None else f"{estimate.value:.{digits}f}"
