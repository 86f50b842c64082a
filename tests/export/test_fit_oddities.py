"""What is wrong with a film: spoilt films keep their form, and a classifier finds what differs."""

from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.judge.quality import DISTANT_VIEW, Flag, Oddities, PixelHead, distant_view
from export.fit_oddities import _fit, fit_oddities, refusal_rates, spoil
from export.odd_head import Films
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


def described(count: int, seed: int, shift: int | None = None, seen: int | None = None) -> Films:
    """Films whose features, or whose distant views, differ in one number."""
    views = np.zeros((count, DISTANT_VIEW))
    views[:, :12] = np.random.default_rng(seed + 1000).normal(size=(count, 12))
    if seen is not None:
        views[:, seen] = np.sign(views[:, seen]) * 6  # not linear: both ways
    return Films(features(count, seed, shift), views)


def told(oddities: Oddities, films: Films) -> list[Flag | None]:
    return [oddities.find(f, v) for f, v in zip(films.features, films.views, strict=True)]


NOTHING_DRAWN = described(8, 5)


def test_what_differs_is_found_and_named() -> None:
    bad = {kind: described(300, i, i) for i, kind in enumerate(SPOILT)}
    bad["mirrored"] = described(300, 50, None, 7)  # nothing in its features
    oddities, found = _fit(described(2000, 99), bad, NOTHING_DRAWN)
    oddities.check(CHANNELS)
    assert min(found.values()) > 0.9
    assert np.mean([flag is not None for flag in told(oddities, described(4000, 100))]) < 0.02
    for i, (kind, (flag, _)) in enumerate(SPOILT.items()):
        films = described(50, 200 + i, i) if kind != "mirrored" else described(50, 200, None, 7)
        assert np.mean([t == flag for t in told(oddities, films)]) > 0.8, kind


def test_the_same_films_give_the_same_classifier() -> None:
    bad = {"mirrored": described(100, 1, 1)}
    once, again = (_fit(described(400, 2), bad, NOTHING_DRAWN)[0] for _ in range(2))
    assert once == again


def test_drawings_pass_whatever_they_look_like() -> None:
    bad = {"upside down": described(300, 1, 1)}
    odd_drawings = described(20, 3, 1)
    strict, _ = _fit(described(2000, 99), bad, NOTHING_DRAWN)
    assert np.mean([flag == Flag.ROTATED for flag in told(strict, odd_drawings)]) > 0.8
    lenient, _ = _fit(described(2000, 99), bad, odd_drawings)
    assert all(flag is None for flag in told(lenient, odd_drawings))


def test_kinds_that_cannot_be_told_are_left_out() -> None:
    # All alike, however they are spoilt: only features tell.
    pixels = np.zeros_like(films(80))

    def features_of(spoilt: np.ndarray, description: str) -> np.ndarray:
        # Only films that are upside down look different to these features.
        return features(len(spoilt), 5, 3 if "upside down" in description else None)

    good = Films(features(600, 6), np.zeros((600, DISTANT_VIEW)))
    drawn = Films(features(8, 8), np.zeros((8, DISTANT_VIEW)))
    kinds = {"upside down": SPOILT["upside down"], "leaning": SPOILT["leaning"]}
    with mock.patch("export.fit_oddities.SPOILT", kinds):
        oddities = fit_oddities(good, pixels, features_of, drawn)
        assert oddities is not None and oddities.flags == (Flag.ROTATED.value,)
        blind = fit_oddities(good, pixels, lambda spoilt, _: features(len(spoilt), 7), drawn)
        assert blind is None


def test_the_distant_view_is_of_where_things_are_and_of_detail() -> None:
    pixels = films(1)[0]
    view, mirrored = distant_view(pixels), distant_view(pixels[:, ::-1])
    assert view.shape == (DISTANT_VIEW,) and np.isfinite(view).all()
    np.testing.assert_allclose(
        view[:256].reshape(16, 16)[:, ::-1], mirrored[:256].reshape(16, 16), atol=0.2
    )
    assert distant_view(np.zeros_like(pixels))[256:].max() == 0
    noise = np.random.default_rng(1).integers(0, 256, pixels.shape, dtype=np.uint8)
    assert distant_view(noise)[256:].min() > view[256:].max()


def test_rates_are_of_each_kind() -> None:
    rates = refusal_rates(films(20), films(10), lambda spoilt, told: spoilt[:, 0, 0, 0] >= 0)
    assert [r.kind for r in rates] == ["as they are", *SPOILT]
    assert all(r.refused.value == 1 for r in rates)


def test_arrays_that_do_not_fit_are_refused() -> None:
    whole, _ = _fit(described(200, 1), {"mirrored": described(50, 2, 1)}, NOTHING_DRAWN)
    for broken in (
        {"flags": ("rotated", "mirrored")},
        {"flags": ("colour",)},
        {"biases": (0.0,)},
        {"limits": (0.0, 0.0)},
        {"weights_base64": "AAAA"},
        {"weights_base64": "?"},
        {"pixels": PixelHead("AAAA", (0.0,), "AAAA")},
        {"pixels": PixelHead("", (), "")},
    ):
        with pytest.raises(InvalidValueError, match="oddities"):
            dataclasses.replace(whole, **broken).check(CHANNELS)
    with pytest.raises(InvalidValueError, match="channels"):
        whole.check(CHANNELS + 1)
    assert isinstance(whole, Oddities)
