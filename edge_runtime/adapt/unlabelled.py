"""How many are ill here, from films without labels: a prior shift, and a test of that assumption.

If the ill and the healthy of a site look to the model as those of its validation films did, and
only their shares differ, then the scores are a mixture of two known kinds, and the shares can be
found by expectation maximisation. Nothing else can be: no new ranking comes of films without
labels. Whether the scores are such a mixture at all is tested first.

Source: Saerens, Latinne and Decaestecker, Neural Computation 14:21 (2002).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.progress import Progress
from edge_runtime.bundle.correction import PREVALENCE, Correction
from edge_runtime.bundle.site_profile import SCHEMA, SiteProfile
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import find_inputs
from edge_runtime.judge.reference import Reference, make_reference
from edge_runtime.records.messages import say, say_of
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.odds import log_odds, probabilities, probability
from edge_runtime.statistics.two_samples import kolmogorov_p_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 100  # films, to say anything of a share
ALPHA = 0.05
_RESAMPLES = 200
_ROUNDS = 500


@frozen
class PriorShift:
    """What films without labels say."""

    films: int
    prevalence: Estimate  # of disease among them
    p_value: float  # that the scores are a mixture of the two known kinds
    bias: float  # to add to the calibrated log odds, in which both kinds weigh the same

    @property
    def holds(self) -> bool:
        """Whether the assumption is not refuted."""
        return self.p_value >= ALPHA


@frozen
class Unlabelled:
    """Films of a site, screened."""

    shift: PriorShift
    scores: NDArray[np.float64]  # (films,) calibrated log odds, both kinds weighing the same
    distances: tuple[float, ...]
    refused: int


def examine_unlabelled(screener: Screener, folder: str, workers: int) -> Unlabelled:
    """Screen a folder, and say how many are ill.

    Raises:
        InvalidValueError: Too few films, a bundle without a reference, or of several findings.
    """
    manifest = screener.bundle.manifest
    if manifest.reference is None or not manifest.tells_one_score:
        raise InvalidValueError(
            "a share needs a model of one score whose validation scores are in its bundle"
        )
    progress = Progress(None)
    scores, distances, refused = [], [], 0
    for found in screener.examine_many(find_inputs([folder]), workers):
        progress.step()
        distance = found.record.quality.ood_score
        if distance is not None:
            distances.append(distance)
        refused += found.record.status == "rejected"
        if found.record.status == "ok" and found.logit is not None:
            scores.append(found.logit / manifest.calibration.temperature)
    progress.clear()
    values = np.array(scores)
    shift = estimate_prevalence(values, manifest.reference)
    return Unlabelled(shift, values, tuple(distances), refused)


def told_in_words(shift: PriorShift, positive: str) -> str:
    """What was found, at a terminal."""
    share = shift.prevalence
    told = say_of("adapt.prevalence", positive, "en").format(
        films=shift.films, share=f"{share.value:.1%}", low=f"{share.low:.1%}",
        high=f"{share.high:.1%}",
    )  # fmt: skip
    verdict = "adapt.mixture" if shift.holds else "adapt.no_mixture"
    return f"{told}\n{say(verdict, 'en').format(p=f'{shift.p_value:.3f}')}\n"


def profile_of(screener: Screener, found: Unlabelled, name: str) -> SiteProfile:
    """A profile in which probabilities are those of this site; decisions stay as they were.

    The thresholds move with the probabilities, and no two films change places.
    """
    manifest, bias = screener.bundle.manifest, found.shift.bias
    point = screener.operating_point
    band = point.uncertain
    moved = dataclasses.replace(
        point,
        name="site",
        threshold=_moved(point.threshold, bias),
        uncertain=None if band is None else (_moved(band[0], bias), _moved(band[1], bias)),
        rule=f"{point.name} of the bundle, moved to the share of the ill at this site",
    )
    reference = make_reference(name, found.scores + bias, found.distances, found.refused)
    return SiteProfile(
        schema=SCHEMA,
        name=name,
        bundle_sha256=screener.bundle.sha256,
        model=f"{manifest.name} {manifest.version}",
        engine=screener.engine_name,
        engine_family=screener.engine_family,
        images=found.shift.films,
        positives=0,
        refused=found.refused,
        prevalence=found.shift.prevalence.value,
        temperature=1.0,
        temperature_refitted=False,
        operating_point=moved,
        auc=None,
        chosen=None,
        strata=(),
        reference=reference,
        correction=Correction(PREVALENCE, 1 / manifest.calibration.temperature, bias, "", None),
    )


def _moved(threshold: float, bias: float) -> float:
    return round(probability(log_odds(threshold) + bias), 8)


def estimate_prevalence(scores: NDArray[np.float64], reference: Reference) -> PriorShift:
    """The share of the ill among films that nobody labelled.

    Args:
        scores: (n,) calibrated log odds, in which both kinds weigh the same.
        reference: Quantiles of such scores of the bundle's validation films.

    Raises:
        InvalidValueError: Fewer than FEWEST films.
    """
    if len(scores) < FEWEST:
        raise InvalidValueError(
            f"{len(scores)} films could be screened; a share needs {FEWEST} at least"
        )
    chance = probabilities(scores)
    share = _maximise(chance)
    rng = np.random.default_rng(0)
    drawn = [
        _maximise(chance[rng.integers(len(chance), size=len(chance))]) for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    p_value = _mixture_p_value(scores, share, np.array(reference.logits), reference.images)
    estimate = Estimate(share, min(share, float(low)), max(share, float(high)))
    return PriorShift(len(scores), estimate, p_value, log_odds(min(max(share, 1e-4), 1 - 1e-4)))


def _maximise(chance: NDArray[np.float64]) -> float:
    """The share that explains the probabilities best, where a half was assumed for them."""
    share = 0.5
    for _ in range(_ROUNDS):
        ill = share * chance
        found = float((ill / (ill + (1 - share) * (1 - chance) + 1e-300)).mean())
        done = abs(found - share) < 1e-8
        share = found
        if done:
            break
    return share


def _mixture_p_value(
    scores: NDArray[np.float64], share: float, known: NDArray[np.float64], films: int
) -> float:
    """Kolmogorov-Smirnov: the scores, against the known ones weighed to another share of the ill.

    The known scores are one sample of both kinds; calibration says how likely each is to be of
    either, which makes two weighted samples of it.
    """
    chance = probabilities(known)
    ill, healthy = chance / chance.sum(), (1 - chance) / (1 - chance).sum()
    weight = share * ill + (1 - share) * healthy
    order = np.argsort(known, kind="stable")
    grid, mass = known[order], np.cumsum(weight[order])
    # Between quantiles the mass rises evenly.
    expected = np.interp(np.sort(scores), grid, mass - weight[order] / 2, left=0.0, right=1.0)
    n = len(scores)
    steps = np.arange(n + 1) / n
    distance = max(float((steps[1:] - expected).max()), float((expected - steps[:-1]).max()))
    distance = max(0.0, distance - 1 / len(known))
    effective = 1 / float((weight**2).sum()) / len(known) * films
    return kolmogorov_p_value(distance, n, effective)
