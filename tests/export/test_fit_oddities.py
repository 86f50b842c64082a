"""What is wrong with a film: spoilt films keep their form, and discriminants find what differs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.judge.quality import Flag, Oddities
from export.fit_oddities import _fit, fit_oddities, refusal_rates, spoil
from export.spoilt import SPOILT

CHANNELS = 24


def films(count: int, side: int = 64) -> np.ndarray:
    return np.stack([draw_phantom(i, i % 2 == 1, side, side) for i in range(count)])[..., None]


@pytest.mark.parametrize("kind", list(SPOILT))
def test_spoilt_films_keep_their_form_and_repeat(kind: str) -> None:
    pixels = films(6)
    first, again = spoil(pixels, kind), spoil(pixels, kind)
    assert first.shape == pixels.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert all(np.abs(a.astype(int) - b).mean() > 0.5 for a, b in zip(first, pixels, strict=True))


def features(count: int, seed: int, shift: int | None = None) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, CHANNELS)).astype(np.float32)
    if shift is not None:
        found[:, shift] += 7
    return found


def test_what_differs_is_found_and_named() -> None:
    bad = {kind: features(200, i, i) for i, kind in enumerate(SPOILT)}
    oddities, found = _fit(features(2000, 99), bad)
    oddities.check(CHANNELS)
    assert min(found.values()) > 0.97
    good = features(4000, 100)
    assert np.mean([oddities.find(one) is not None for one in good]) < 0.02
    for i, (kind, (flag, _)) in enumerate(SPOILT.items()):
        told = [oddities.find(one) for one in features(50, 200 + i, i)]
        assert np.mean([t == flag for t in told]) > 0.9, kind


def test_drawings_pass_whatever_they_look_like() -> None:
    bad = {"upside down": features(200, 1, 1)}
    odd_drawings = features(20, 3, 1)
    strict, _ = _fit(features(2000, 99), bad)
    assert all(strict.find(one) == Flag.ROTATED for one in odd_drawings)
    lenient, _ = _fit(features(2000, 99), bad, odd_drawings)
    assert all(lenient.find(one) is None for one in odd_drawings)


def test_kinds_that_cannot_be_told_are_left_out() -> None:
    pixels = films(60)

    def features_of(spoilt: np.ndarray, description: str) -> np.ndarray:
        # Only films that are upside down look different to these features.
        return features(len(spoilt), 5, 3 if "upside down" in description else None)

    oddities = fit_oddities(features(600, 6), pixels, features_of)
    assert oddities is not None and oddities.flags == (Flag.ROTATED.value,)
    blind = fit_oddities(features(600, 6), pixels, lambda spoilt, _: features(len(spoilt), 7))
    assert blind is None


def test_rates_are_of_each_kind() -> None:
    rates = refusal_rates(films(10), lambda spoilt, told: spoilt[:, 0, 0, 0] >= 0)
    assert [r.kind for r in rates] == ["as they are", *SPOILT]
    assert all(r.refused.value == 1 for r in rates)


def test_arrays_that_do_not_fit_are_refused() -> None:
    whole, _ = _fit(features(200, 1), {"mirrored": features(50, 2, 1)})
    for broken in (
        {"flags": ("rotated", "mirrored")},
        {"flags": ("colour",)},
        {"biases": (0.0,)},
        {"limits": (0.0, 0.0)},
        {"weights_base64": "AAAA"},
        {"weights_base64": "?"},
    ):
        with pytest.raises(InvalidValueError, match="oddities"):
            dataclasses.replace(whole, **broken).check(CHANNELS)
    with pytest.raises(InvalidValueError, match="channels"):
        whole.check(CHANNELS + 1)
    assert isinstance(whole, Oddities)
