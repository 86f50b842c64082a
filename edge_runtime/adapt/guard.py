"""Is it the disease that an adaptation learned, or the machine that the ill were filmed on?

Facts of the file that are no medicine (see `film.facts_of`, and every column of the labels' table)
are asked what they tell of the label. Where they tell anything, a gain counts only among films that
look equally likely to be ill by these facts, and only beyond what the facts themselves add.

Source: strata, Janes and Pepe, Biometrika 96:371 (2009); the share of bias that five strata leave
over, which is why a regression looks too: Cochran, Biometrics 24:295 (1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.adapt.film import Fact
from edge_runtime.adapt.ridge import fit_logistic
from edge_runtime.basics.frozen import frozen
from edge_runtime.statistics.adjusted import (
    adjusted_auc_difference,
    adjusted_auc_interval,
    cross_validated_scores,
    strata_of,
)
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import Z_95, auc_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

TELLING = 0.6  # an AUC of facts alone from which on they are looked into
_FEWEST_COMPARABLE = 0.5  # of the ill, in strata that hold enough of either kind
_ENOUGH = 5
_TRIFLE = 1e-3

# Why a gain is not believed.
CHANCE, CONFOUNDED, INCOMPARABLE = "chance", "confounded", "incomparable"
FOR_FACTS = (CONFOUNDED, INCOMPARABLE)  # these a person may accept


@frozen
class FactFound:
    """What one fact alone tells of the label, judged on other patients."""

    name: str
    auc: Estimate


@frozen
class Guarded:
    """What facts tell, and the gain that is left within them."""

    facts: tuple[FactFound, ...]  # the most telling first
    together: Estimate | None  # None where there are none
    gain: PairedDifference  # in AUC, of all films; whole patients drawn
    telling: bool  # whether facts tell anything: then the next four count
    comparable: float  # share of the ill films in strata that hold enough of either kind
    before: Estimate | None  # AUC within strata
    after: Estimate | None
    gain_within: PairedDifference | None
    beyond: float | None  # z of the change of score, beside what facts and score told before
    refusal: str | None  # CHANCE, CONFOUNDED, INCOMPARABLE; None: the gain is believed

    @property
    def strongest(self) -> str | None:
        """Name of the fact that tells most."""
        return self.facts[0].name if self.facts else None


def guard(
    positive: NDArray[np.int64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    facts: Sequence[Fact],
    patients: Sequence[str],
) -> Guarded:
    """Whether a gain is one of medicine.

    Args:
        positive: (n,) of 0 and 1.
        before: (n,) scores without the adaptation.
        after: (n,) with it, of films that it was not fitted on.
        facts: Of the same films.
        patients: (n) identifiers.
    """
    people = list(patients)
    everything = np.zeros(len(positive), np.int64)
    gain = adjusted_auc_difference(positive, before, after, everything, people)
    found, told = [], []
    for fact in facts:
        scores = cross_validated_scores(positive, fact.values, people)
        if scores is not None:
            found.append(FactFound(fact.name, auc_interval(positive, scores)))
            told.append(scores)
    found.sort(key=lambda f: -f.auc.value)
    together, propensity = _together(positive, facts, people)
    telling = together is not None and tells(together)
    telling = telling or any(tells(f.auc) for f in found)
    if not telling or propensity is None:
        refusal = None if gain.low > 0 else CHANCE
        return Guarded(tuple(found), together, gain, False, 1.0, None, None, None, None, refusal)
    strata = strata_of(propensity, positive)
    comparable = _comparable(positive, strata)
    if comparable == 0:
        return Guarded(
            tuple(found), together, gain, True, 0.0, None, None, None, None, INCOMPARABLE
        )
    within = adjusted_auc_difference(positive, before, after, strata, people)
    beyond = _beyond(positive, before, after, propensity)
    refusal = None
    if gain.low <= 0:
        refusal = CHANCE
    elif comparable < _FEWEST_COMPARABLE:
        refusal = INCOMPARABLE
    elif within.low <= 0 or beyond < Z_95:
        refusal = CONFOUNDED
    return Guarded(
        tuple(found),
        together,
        gain,
        True,
        comparable,
        adjusted_auc_interval(positive, before, strata, people),
        adjusted_auc_interval(positive, after, strata, people),
        within,
        beyond,
        refusal,
    )


def tells(found: Estimate) -> bool:
    """Whether an AUC of facts is worth a look."""
    return found.value >= TELLING and found.low > 0.5


def _together(
    positive: NDArray[np.int64], facts: Sequence[Fact], patients: list[str]
) -> tuple[Estimate | None, NDArray[np.float64] | None]:
    """AUC and scores of all facts and their squares, judged on other patients."""
    if not facts:
        return None, None
    values = np.column_stack([fact.values for fact in facts])
    level = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
    scores = cross_validated_scores(positive, np.column_stack([level, level**2]), patients)
    if scores is None:
        return None, None
    return auc_interval(positive, scores), scores


def _comparable(positive: NDArray[np.int64], strata: NDArray[np.int64]) -> float:
    """Share of the ill films that have normal ones to be compared with."""
    ill = np.bincount(strata, positive)
    normal = np.bincount(strata, 1 - positive, len(ill))
    return float(ill[(ill >= _ENOUGH) & (normal >= _ENOUGH)].sum() / ill.sum())


def _beyond(
    positive: NDArray[np.int64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    propensity: NDArray[np.float64],
) -> float:
    """Z of the change of score in a regression that knows the old one and the facts.

    The signed root of the likelihood ratio: Wald's z falls towards 0 where films separate well
    (Hauck and Donner, JASA 72:851, 1977).
    """

    def standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((values - values.mean()) / (values.std() + 1e-9))

    p = standard(propensity)
    known = np.column_stack([standard(before), p, p**2, p**3, np.ones(len(p))])
    change = standard(after - before)
    without, _ = _fitted(known, positive)
    with_it, beta = _fitted(np.column_stack([change, known]), positive)
    return float(np.copysign(np.sqrt(max(0.0, 2 * (with_it - without))), beta[0]))


def _fitted(
    design: NDArray[np.float64], positive: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Log likelihood and coefficients of a logistic regression, a trifle shrunk."""
    films, columns = design.shape
    penalty, nothing = np.full(columns, _TRIFLE), np.zeros(films)
    beta = fit_logistic(design, positive, np.ones(films), nothing, penalty, np.zeros(columns))
    signed = np.where(positive == 1, design @ beta, -(design @ beta))
    likelihood = -float(np.logaddexp(0, -signed).sum()) - _TRIFLE * float(beta @ beta) / 2
    return likelihood, beta
