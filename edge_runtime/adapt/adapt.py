"""From a site's labelled films to a correction of the score, or to the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.adapt.film import Seen, as_facts
from edge_runtime.adapt.guard import FOR_FACTS, Guarded, guard
from edge_runtime.adapt.labels import SiteLabels
from edge_runtime.adapt.prove import (
    FOLDS,
    REPEATS,
    Chosen,
    CurvePoint,
    Labelled,
    choose,
    folds_of,
    learning_curve,
    prove,
    twice_as_many,
)
from edge_runtime.adapt.ridge import Basis
from edge_runtime.basics.frozen import frozen
from edge_runtime.bundle.correction import (
    LABELS,
    Correction,
    encode_weights,
    mean_correction,
)
from edge_runtime.bundle.site_profile import SCHEMA, SiteProfile, ThresholdRow
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.reference import make_reference
from edge_runtime.screener import Screener
from edge_runtime.site.thresholds import (
    MIN_OF_EACH,
    Policy,
    choose_row,
    strata_of,
    table_of_thresholds,
)
from edge_runtime.statistics.adjusted import adjusted_auc_difference, adjusted_auc_interval
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import confusion
from edge_runtime.statistics.odds import probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_PATIENTS = 20  # of either kind
FEWEST_GIVEN = 100  # films of a profile that another site begins from
HOLDOUT = "holdout"  # a refusal: worse on films that were set aside
THRESHOLD = "threshold"  # no threshold fulfils the policy
_MOST_SUSPICIOUS = 20
_DOUBT = 0.25  # a label that its film's neighbours give less is worth a second look


@frozen
class Suspicious:
    """A film whose label the others speak against."""

    path: str
    positive: bool
    chance: float  # of its label, by fits that did not know its patient


@frozen
class AtPoint:
    """What a threshold does; films of patients that it was not chosen on."""

    threshold: float
    sensitivity: Estimate
    specificity: Estimate


@frozen
class FinalLook:
    """Films that were set aside before anything was fitted."""

    films: int
    positives: int
    before: Estimate  # AUC
    after: Estimate
    gain: PairedDifference
    at_point: AtPoint


@frozen
class Adaptation:
    """Everything that was measured; `profile` is None where the adaptation is refused."""

    name: str
    model: str
    engine: str
    films: int
    patients: int
    positives: int
    refused: int
    unreadable: int
    unsure: int
    knows_patients: bool
    prevalence: float
    policy: Policy
    before: Estimate  # AUC of the bundle's score
    after: Estimate  # AUC of films by fits that did not know their patients
    guarded: Guarded
    strength: float | None
    curve: tuple[CurvePoint, ...]
    twice: float | None  # AUC to expect of twice as many films
    bundled: AtPoint  # the bundle's own point
    adapted: AtPoint | None  # None where no threshold fulfils the policy
    suspicious: tuple[Suspicious, ...]
    final_look: FinalLook | None
    refusal: str | None  # guard.CHANCE, CONFOUNDED, INCOMPARABLE, HOLDOUT or THRESHOLD
    accepted_confounding: bool
    profile: SiteProfile | None
    scores_before: NDArray[np.float64]  # (films,) for plots
    scores_after: NDArray[np.float64]
    positive: NDArray[np.int64]


def check_enough(seen: Seen) -> None:
    """Raise InvalidValueError where there are too few films to learn anything of a site."""
    positives = [s.film.patient for s in seen.kept if s.film.positive]
    normals = [s.film.patient for s in seen.kept if not s.film.positive]
    if min(len(positives), len(normals)) < MIN_OF_EACH or (
        min(len(set(positives)), len(set(normals))) < FEWEST_PATIENTS
    ):
        raise InvalidValueError(
            f"{len(positives)} films with disease of {len(set(positives))} patients and "
            f"{len(normals)} without of {len(set(normals))} could be screened ({seen.refused} "
            f"refused, {seen.unreadable} unreadable); at least {MIN_OF_EACH} films of "
            f"{FEWEST_PATIENTS} patients of each kind are needed, and about 200 films to gain "
            "anything"
        )


@frozen
class Start:
    """What other sites learned: a fit begins from it instead of from the bundle's score."""

    slope: float
    bias: float
    weights: NDArray[np.float64]  # (channels,)
    profiles: tuple[str, ...]  # SHA-256


def start_from(screener: Screener, profiles: Sequence[SiteProfile]) -> Start:
    """The mean of what other sites learned of the same bundle, each weighing as its films.

    Raises:
        InvalidValueError: A profile of another bundle or engine, of films without labels, or of
            fewer than FEWEST_GIVEN films.
    """
    for profile in profiles:
        profile.check_made_for(screener.bundle.sha256, screener.engine_family)
        correction = profile.correction
        if correction is None or correction.source != LABELS:
            raise InvalidValueError(
                f"--from: the site profile {profile.name!r} corrects no score from labels"
            )
        if profile.images < FEWEST_GIVEN:
            raise InvalidValueError(
                f"--from: the site profile {profile.name!r} is of {profile.images} films; one of "
                f"fewer than {FEWEST_GIVEN} says too much of each of them, and too little"
            )
        profile.check_corrects(screener.bundle.manifest)
    corrections = [p.correction for p in profiles if p.correction is not None]
    slope, bias, weights = mean_correction(corrections, [p.images for p in profiles])
    return Start(slope, bias, weights, tuple(p.sha256 for p in profiles))


def begun(data: Labelled, start: Start | None) -> Labelled:
    """The films with the score that a fit begins from: the bundle's, where there is no start."""
    if start is None:
        return data
    moved = data.features @ start.weights if len(start.weights) else 0.0
    logits = start.slope * data.logits + start.bias + moved
    return dataclasses.replace(data, logits=logits, slope=1.0)


def labelled_of(screener: Screener, seen: Seen) -> Labelled:
    """The films that could be judged, with the bundle's score."""
    return Labelled(
        np.array([s.logit for s in seen.kept]),
        np.array([s.features for s in seen.kept], np.float64),
        np.array([s.film.positive for s in seen.kept], np.int64),
        tuple(s.film.patient for s in seen.kept),
        1 / screener.bundle.manifest.calibration.temperature,
    )


def adapt(
    screener: Screener,
    labels: SiteLabels,
    seen: Seen,
    policy: Policy,
    prevalence: float | None = None,
    name: str = "site",
    held: Seen | None = None,
    accept_confounding: bool = False,
    step: Callable[[], object] = lambda: None,
    start: Start | None = None,
) -> Adaptation:
    """Fit, prove, guard; a profile comes of it only where the gain is believed.

    Args:
        screener: Of the bundle, without a site.
        labels: What `seen` was made of.
        seen: The films (`film.look_at`).
        policy: Chooses the threshold, on scores of films that the fits did not know.
        prevalence: Share of disease among those who will be screened; by default that among the
            films.
        name: Of the site.
        held: Films that were set aside for a final look.
        accept_confounding: Keep what the guard refuses for its facts; the profile says so.
        step: Called as the work goes on, FOLDS * REPEATS times.
        start: What other sites learned, to begin from; the gain is still over the bundle's score.

    Raises:
        InvalidValueError: Too few films, or a model of several findings.
    """
    manifest = screener.bundle.manifest
    if not manifest.tells_one_score:
        raise InvalidValueError("adapting needs a model of one score; this one tells several")
    check_enough(seen)
    raw = labelled_of(screener, seen)
    data = begun(raw, start)
    basis = Basis(data.features)
    proven = prove(basis, data, REPEATS, step)
    people = list(data.patients)
    positives = int(data.positive.sum())
    share = prevalence if prevalence is not None else positives / len(data)
    guarded = guard(data.positive, raw.logits, proven, as_facts(seen.kept), people)
    chosen = choose(basis.coordinates(data.features), data, np.arange(len(data)))
    accepted = accept_confounding and guarded.refusal in FOR_FACTS
    everything = np.zeros(len(data), np.int64)
    before = adjusted_auc_interval(data.positive, raw.logits, everything, people)
    correction = _correction(basis, chosen, before, guarded, accepted, start)
    after = adjusted_auc_interval(data.positive, proven, everything, people)
    curve = learning_curve(basis, data)
    curve = (*curve, CurvePoint(len(data) * (FOLDS - 1) // FOLDS, after.value))
    chance = np.round(probabilities(proven), 8)
    row, refusal = _point(data.positive, chance, share, policy)
    refusal = guarded.refusal or refusal
    look = None
    if held is not None and row is not None:
        look = _final_look(labelled_of(screener, held), held, correction, row.threshold)
        if refusal is None and look.gain.high < 0:
            refusal = HOLDOUT
    profile = None
    if row is not None and (refusal is None or accepted):
        profile = _profile(
            screener, name, data, seen, proven, row, correction, share, policy, after
        )
    bundled = np.round(probabilities(raw.logits * raw.slope), 8)
    return Adaptation(
        name=name,
        model=f"{manifest.name} {manifest.version}",
        engine=screener.engine_name,
        films=len(data),
        patients=len(set(people)),
        positives=positives,
        refused=seen.refused,
        unreadable=seen.unreadable,
        unsure=labels.unsure,
        knows_patients=labels.knows_patients,
        prevalence=share,
        policy=policy,
        before=before,
        after=after,
        guarded=guarded,
        strength=chosen.strength,
        curve=curve,
        twice=twice_as_many(curve),
        bundled=_at(data.positive, bundled, screener.operating_point.threshold),
        adapted=_nested_point(data, chance, share, policy, row),
        suspicious=_suspicious(seen, proven),
        final_look=look,
        refusal=refusal,
        accepted_confounding=accepted,
        profile=profile,
        scores_before=raw.logits,
        scores_after=proven,
        positive=data.positive,
    )


def _correction(
    basis: Basis,
    chosen: Chosen,
    before: Estimate,
    guarded: Guarded,
    accepted: bool,
    start: Start | None,
) -> Correction:
    fit = chosen.fit
    slope, bias = fit.slope, fit.bias
    weights = np.zeros(0)
    if fit.weights:
        weights, moved = basis.weights(fit)
        bias += moved
    if start is not None:  # a straight line of a straight line
        slope, bias = fit.slope * start.slope, bias + fit.slope * start.bias
        if len(start.weights):
            weights = fit.slope * start.weights + (weights if len(weights) else 0.0)
    return Correction(
        source=LABELS,
        slope=slope,
        bias=bias,
        weights_base64=encode_weights(weights) if len(weights) else "",
        strength=chosen.strength,
        before=before,
        gain=guarded.gain,
        within=guarded.after,
        strongest_fact=guarded.strongest,
        facts=guarded.together,
        accepted_confounding=accepted,
        begun_from=start.profiles if start else (),
    )


def _point(
    positive: NDArray[np.int64], chance: NDArray[np.float64], prevalence: float, policy: Policy
) -> tuple[ThresholdRow | None, str | None]:
    costs = None
    if policy.cost_missed is not None and policy.cost_false_alarm is not None:
        costs = (policy.cost_missed, policy.cost_false_alarm)
    rows = table_of_thresholds(positive, chance, prevalence, costs, limit=10**9)
    try:
        return choose_row(rows, policy, int(positive.sum())), None
    except InvalidValueError:
        return None, THRESHOLD


def _nested_point(
    data: Labelled,
    chance: NDArray[np.float64],
    prevalence: float,
    policy: Policy,
    row: ThresholdRow | None,
) -> AtPoint | None:
    """What the policy's threshold does to films of patients that did not choose it."""
    if row is None:
        return None
    fold = folds_of(data.patients, data.positive, FOLDS, 7)
    called = np.zeros(len(data), bool)
    for k in range(FOLDS):
        others, here = fold != k, fold == k
        found, _ = _point(data.positive[others], chance[others], prevalence, policy)
        called[here] = chance[here] >= (found or row).threshold
    counts = confusion(data.positive, called, 1.0)
    return AtPoint(row.threshold, counts.sensitivity, counts.specificity)


def _at(positive: NDArray[np.int64], chance: NDArray[np.float64], threshold: float) -> AtPoint:
    counts = confusion(positive, chance, threshold)
    return AtPoint(threshold, counts.sensitivity, counts.specificity)


def _final_look(data: Labelled, held: Seen, correction: Correction, threshold: float) -> FinalLook:
    if len(np.unique(data.positive)) < 2:
        raise InvalidValueError("the films set aside hold one kind only; a look needs both")
    scores = np.array([correction.apply(s.logit, s.features) for s in held.kept], np.float64)
    people, strata = list(data.patients), np.zeros(len(data), np.int64)
    return FinalLook(
        len(data),
        int(data.positive.sum()),
        adjusted_auc_interval(data.positive, data.logits, strata, people),
        adjusted_auc_interval(data.positive, scores, strata, people),
        adjusted_auc_difference(data.positive, data.logits, scores, strata, people),
        _at(data.positive, np.round(probabilities(scores), 8), threshold),
    )


def _suspicious(seen: Seen, scores: NDArray[np.float64]) -> tuple[Suspicious, ...]:
    """The films whose label is least likely, the worst first."""
    signed = np.where([s.film.positive for s in seen.kept], scores, -scores)
    chance = probabilities(signed)
    order = np.argsort(chance, kind="stable")[:_MOST_SUSPICIOUS]
    return tuple(
        Suspicious(seen.kept[i].film.path, seen.kept[i].film.positive, float(chance[i]))
        for i in order
        if chance[i] < _DOUBT
    )


def _profile(
    screener: Screener,
    name: str,
    data: Labelled,
    seen: Seen,
    scores: NDArray[np.float64],
    row: ThresholdRow,
    correction: Correction,
    prevalence: float,
    policy: Policy,
    after: Estimate,
) -> SiteProfile:
    manifest = screener.bundle.manifest
    columns: dict[str, Sequence[str]] = {}
    views = [s.words.get("view", "") for s in seen.kept]
    if len(set(views)) > 1:
        columns["view"] = [view or "unknown" for view in views]
    chance = np.round(probabilities(scores), 8)
    return SiteProfile(
        schema=SCHEMA,
        name=name,
        bundle_sha256=screener.bundle.sha256,
        model=f"{manifest.name} {manifest.version}",
        engine=screener.engine_name,
        engine_family=screener.engine_family,
        images=len(data),
        positives=int(data.positive.sum()),
        refused=seen.refused,
        prevalence=prevalence,
        temperature=1.0,  # the correction's slope is it
        temperature_refitted=True,
        operating_point=OperatingPoint(
            "site", row.threshold, policy.describe(), name, row.sensitivity, row.specificity
        ),
        auc=after,
        chosen=row,
        strata=strata_of(columns, data.positive, chance, row.threshold),
        reference=make_reference(name, scores, seen.distances, seen.refused),
        correction=correction,
    )
