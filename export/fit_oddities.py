"""Fits the classifier that tells what is wrong with a film; see `quality.Oddities`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.judge.quality import Flag, Oddities, distant_view
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import proportion
from export.odd_head import Films, train_head
from export.spoilt import SPOILT

# Of good films, that may be called anything. Mirrored ones are hard to tell: they have a limit of
# their own, and a part of the share, so that they do not cost the other kinds any of theirs.
_FALSE_ALARMS = 0.0095
_OF_THEM_MIRRORED = tuple(step / 10 for step in range(2, 8))  # parts that are tried
# A kind that is found less often than this is left out: what it would add is false alarms.
_LEAST_FOUND = 0.5
_FITTED, _HELD = (0, 1, 2), (3,)  # of each four films
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
    good: Films,
    pixels: NDArray[np.uint8],
    features_of: Callable[[NDArray[np.uint8], str], NDArray[np.float32]],
    drawn: Films,
) -> Oddities | None:
    """A classifier from good films and spoilt ones; None where no kind of these is found.

    Three quarters of the films fit it, the others set the limits; kinds that are rarely found then
    are left out, and the rest is fitted again.

    Args:
        good: Films as they should be.
        pixels: (m, h, w, 1) of training films to spoil, other than these or some of them.
        features_of: Pooled features of films; its second argument names them for a progress bar.
        drawn: Drawings that prove an installation: good, all of them.
    """
    bad = {}
    for kind in tqdm(SPOILT, "spoilt films", leave=False, disable=None):
        spoilt = spoil(pixels, kind)
        bad[kind] = Films(features_of(spoilt, f"gate: {kind}"), distant_views(spoilt))
    kinds = list(bad)
    while kinds:
        fitted, found = _fit(good, {kind: bad[kind] for kind in kinds}, drawn)
        kept = [kind for kind in kinds if found[kind] >= _LEAST_FOUND]
        if kept == kinds:
            return fitted
        kinds = kept
    return None


def distant_views(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, DISTANT_VIEW) of (n, h, w, 1)."""
    return np.stack([distant_view(one) for one in pixels])


def refusal_rates(
    good: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
    refused: Callable[[NDArray[np.uint8], str], NDArray[np.bool_]],
) -> tuple[Rate, ...]:
    """How often the gate refuses the good films as they are, and the others spoilt in each way."""
    hits = refused(good, "gate: good films")
    rates = [Rate("as they are", "", proportion(int(hits.sum()), len(hits)))]
    for kind, (flag, _) in SPOILT.items():
        hits = refused(spoil(pixels, kind), f"gate: {kind}, held out")
        rates.append(Rate(kind, flag.value, proportion(int(hits.sum()), len(hits))))
    return tuple(rates)


def _fit(good: Films, bad: Mapping[str, Films], drawn: Films) -> tuple[Oddities, dict[str, float]]:
    """A classifier of these kinds, and how often each kind's films are called anything."""
    groups = [good.part(_FITTED), *(films.part(_FITTED) for films in bad.values())]
    groups[0] = groups[0].and_also(drawn, drawn)
    fitted = train_head(groups, np.random.default_rng(_SEED))
    flags = tuple(SPOILT[kind][0].value for kind in bad)
    without = Oddities(flags, *fitted.linear(), (0.0,) * len(flags), fitted.pixels())

    def above(films: Films) -> NDArray[np.float64]:
        return np.stack([without.above(*one) for one in zip(films.features, films.views)])  # noqa: B905

    others = np.array([flag != Flag.MIRRORED for flag in flags])
    found_good, found_drawn = above(good.part(_HELD)), above(drawn)
    found_bad = {kind: above(films.part(_HELD)) for kind, films in bad.items()}

    def limited(mirrored: float) -> NDArray[np.float64]:
        limits = np.zeros(len(flags))
        for group, part in ((others, 1 - mirrored), (~others, mirrored)):
            if group.any():
                share = _FALSE_ALARMS * part
                highest = np.quantile(found_good[:, group].max(axis=1), 1 - share)
                limits[group] = max(0.0, highest, found_drawn[:, group].max())
        return np.ceil(limits * 1e4) / 1e4

    def found_by(limits: NDArray[np.float64]) -> dict[str, float]:
        return {
            kind: float(((scores - limits).max(axis=1) > 0).mean())
            for kind, scores in found_bad.items()
        }

    # The kind that is found least decides how the share is divided.
    limits = max(map(limited, _OF_THEM_MIRRORED), key=lambda tried: min(found_by(tried).values()))
    found = found_by(limits)
    return dataclasses.replace(without, limits=tuple(float(limit) for limit in limits)), found
