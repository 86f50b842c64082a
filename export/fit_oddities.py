"""Fits the discriminants that tell what is wrong with a film; see `quality.Oddities`."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.judge.quality import Oddities
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import proportion
from export.spoilt import SPOILT

# Of good films, that any of the discriminants may call odd; shared by the kinds.
_FALSE_ALARMS = 0.008
# A kind that is found less often than this is left out: what it would add is false alarms.
_LEAST_FOUND = 0.5
_SHRINKAGE = 0.05
_SEED = 20261124


@dataclasses.dataclass(frozen=True)
class Rate:
    """How often films of one kind are refused by the whole gate, on films not fitted on."""

    kind: str
    flag: str
    refused: Estimate


def spoil(pixels: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """(n, h, w, 1): every film spoilt in one way, the same at each call."""
    change = SPOILT[kind][1]
    place = list(SPOILT).index(kind)
    return np.stack(
        [change(p, np.random.default_rng((_SEED, place, i))) for i, p in enumerate(pixels)]
    )


def fit_oddities(
    good: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    features_of: Callable[[NDArray[np.uint8], str], NDArray[np.float32]],
    drawn: NDArray[np.float32] | None = None,
) -> Oddities | None:
    """Discriminants from good films and spoilt ones; None where none of them is found.

    Half of the films fit them, the other half sets the limits; kinds that are rarely found then
    are left out, and the rest is fitted again.

    Args:
        good: (n, channels) features of films as they should be.
        pixels: (m, h, w, 1) of training films to spoil, other than these or some of them.
        features_of: Pooled features of films; its second argument names them for a progress bar.
        drawn: (k, channels) features of drawings that prove an installation: all of them pass.
    """
    bad = {
        kind: features_of(spoil(pixels, kind), f"gate: {kind}")
        for kind in tqdm(SPOILT, "spoilt films", leave=False, disable=None)
    }
    kinds = list(bad)
    while kinds:
        fitted, found = _fit(good, {kind: bad[kind] for kind in kinds}, drawn)
        kept = [kind for kind in kinds if found[kind] >= _LEAST_FOUND]
        if kept == kinds:
            return fitted
        kinds = kept
    return None


def refusal_rates(
    pixels: NDArray[np.uint8], refused: Callable[[NDArray[np.uint8], str], NDArray[np.bool_]]
) -> tuple[Rate, ...]:
    """How often the gate refuses films as they are, and spoilt in each way."""
    hits = refused(pixels, "gate: good films")
    rates = [Rate("as they are", "", proportion(int(hits.sum()), len(hits)))]
    for kind, (flag, _) in SPOILT.items():
        hits = refused(spoil(pixels, kind), f"gate: {kind}, held out")
        rates.append(Rate(kind, flag.value, proportion(int(hits.sum()), len(hits))))
    return tuple(rates)


def _fit(
    good: NDArray[np.float32],
    bad: Mapping[str, NDArray[np.float32]],
    drawn: NDArray[np.float32] | None = None,
) -> tuple[Oddities, dict[str, float]]:
    """Discriminants of these kinds, and how often each kind's films are called anything."""
    groups = [good, *bad.values()]
    weights, biases = _discriminants([group[::2] for group in groups])
    # As they will be stored.
    weights = weights.astype("<f2").astype(np.float64)

    def above(features: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = features.astype(np.float64) @ weights.T + biases
        return np.asarray(scores[:, 1:] - scores[:, :1])

    # The same share of good films may pass each limit; together they pass at most the sum.
    limits = np.quantile(above(good[1::2]), 1 - _FALSE_ALARMS / len(bad), axis=0)
    limits = np.maximum(limits, 0)
    if drawn is not None:
        limits = np.maximum(limits, above(drawn).max(axis=0))
    found = {
        kind: float(((above(features[1::2]) - limits).max(axis=1) > 0).mean())
        for kind, features in bad.items()
    }
    return (
        Oddities(
            tuple(SPOILT[kind][0].value for kind in bad),
            base64.b64encode(weights.astype("<f2").tobytes()).decode(),
            tuple(round(float(b), 5) for b in biases),
            tuple(math.ceil(float(limit) * 1e4) / 1e4 for limit in limits),
        ),
        found,
    )


def _discriminants(
    groups: list[NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k, channels) and (k,): linear discriminants with one shrunk covariance for all groups."""
    means = np.stack([group.mean(axis=0, dtype=np.float64) for group in groups])
    spread = np.concatenate(
        [group - mean for group, mean in zip(groups, means, strict=True)]
    ).astype(np.float64)
    covariance = spread.T @ spread / len(spread)
    level = np.trace(covariance) / len(covariance)
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * level * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, means.T).T
    return weights, -0.5 * (weights * means).sum(axis=1)
