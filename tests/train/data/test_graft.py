"""Lungs moved into another film's frame: where they land, what stays, and nothing leaks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.images.phantom import draw_phantom
from train.data.graft import (
    FIELD_SIDE,
    Lungs,
    cells_of,
    field_box,
    graft,
    place,
    right_way_round,
)

SIDE = 112


def field_of(left: float, top: float, right: float, bottom: float) -> NDArray[np.bool_]:
    at = (np.arange(FIELD_SIDE) + 0.5) / FIELD_SIDE
    inside = ((at > top) & (at < bottom))[:, np.newaxis] & ((at > left) & (at < right))
    return np.asarray(inside)


def film(seed: int, pneumonia: bool = False, **options: object) -> Lungs:
    field = field_of(0.2, 0.2, 0.8, 0.8)
    return Lungs(draw_phantom(seed, pneumonia, SIDE, SIDE), field, **options)  # type: ignore[arg-type]


def test_a_film_grafted_onto_itself_is_that_film() -> None:
    one = film(1)
    pixels, field, _ = graft(one, one, np.random.default_rng(1))
    assert np.abs(pixels.astype(int) - one.pixels).max() <= 1
    np.testing.assert_array_equal(field, one.field)


def test_the_frame_is_the_hosts_and_the_lungs_are_the_others() -> None:
    lungs = Lungs(np.full((SIDE, SIDE), 50, np.uint8), field_of(0.3, 0.3, 0.7, 0.7))
    noise = np.random.default_rng(0).integers(100, 200, (SIDE, SIDE)).astype(np.uint8)
    host = Lungs(noise, field_of(0.1, 0.2, 0.6, 0.9))
    pixels, field, _ = graft(lungs, host, np.random.default_rng(1))
    np.testing.assert_allclose(field_box(field), field_box(host.field), atol=1.5 / FIELD_SIDE)
    far = field_of(0.0, 0.1, 0.75, 1.0).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(pixels[~far], noise[~far])
    middle = pixels[int(0.4 * SIDE) : int(0.7 * SIDE), int(0.25 * SIDE) : int(0.45 * SIDE)]
    assert middle.std() < noise.std() / 4  # the flat lungs, not the host's noise


def test_boxes_move_with_the_lungs() -> None:
    spot = draw_spot(0.4, 0.5)
    lungs = Lungs(spot, field_of(0.2, 0.2, 0.8, 0.8), boxes=((0.35, 0.45, 0.1, 0.1),))
    host = Lungs(np.full((SIDE, SIDE), 100, np.uint8), field_of(0.5, 0.1, 0.9, 0.5))
    pixels, _, ((x, y, width, height),) = graft(lungs, host, np.random.default_rng(2))
    brightest = np.unravel_index(int(pixels.argmax()), pixels.shape)
    assert x * SIDE <= brightest[1] <= (x + width) * SIDE
    assert y * SIDE <= brightest[0] <= (y + height) * SIDE
    assert (width, height) == pytest.approx((0.1 * 0.4 / 0.6, 0.1 * 0.4 / 0.6), rel=0.06)


def draw_spot(x: float, y: float) -> NDArray[np.uint8]:
    at = (np.arange(SIDE) + 0.5) / SIDE
    distance = (at[np.newaxis] - x) ** 2 + (at[:, np.newaxis] - y) ** 2
    return np.asarray(60 + 180 * np.exp(-distance / 0.0006), np.uint8)


def test_no_black_of_a_cut_film_is_blended_in() -> None:
    ellipse = draw_spot(0.5, 0.5) > 0
    at = np.linspace(-1, 1, SIDE)
    ellipse = (at[np.newaxis] / 0.6) ** 2 + (at[:, np.newaxis] / 0.7) ** 2 < 1
    cut = Lungs(
        np.where(ellipse, 140, 0).astype(np.uint8), field_of(0.2, 0.15, 0.8, 0.85), cut=True
    )
    host = Lungs(np.full((SIDE, SIDE), 140, np.uint8), field_of(0.2, 0.15, 0.8, 0.85))
    for seed in range(5):
        pixels, _, _ = graft(cut, host, np.random.default_rng(seed))
        assert pixels.min() > 120


def test_grey_levels_go_part_of_the_way_and_never_out_of_range() -> None:
    dark = Lungs((film(3).pixels // 4).astype(np.uint8), film(3).field)
    host = film(4)
    inside = host.field.repeat(2, axis=0).repeat(2, axis=1)
    means = [graft(dark, host, np.random.default_rng(seed))[0][inside].mean() for seed in range(20)]
    assert dark.pixels[inside].mean() < min(means) < max(means) <= host.pixels[inside].mean() + 2
    assert max(means) - min(means) > 5


def test_the_same_draws_give_the_same_graft() -> None:
    results = [graft(film(5, True), film(6), np.random.default_rng(7))[0] for _ in range(2)]
    np.testing.assert_array_equal(*results)


def test_an_inverted_film_is_put_right_and_black_around_it_stays() -> None:
    pixels = np.array([[0, 5, 200], [11, 255, 10]], np.uint8)
    np.testing.assert_array_equal(right_way_round(pixels, cut=True), [[0, 0, 55], [244, 0, 0]])
    np.testing.assert_array_equal(right_way_round(pixels, cut=False), 255 - pixels)


def test_an_empty_field_is_no_place() -> None:
    with pytest.raises(ValueError, match="empty"):
        field_box(np.zeros((56, 56), bool))


def test_placements_take_one_box_to_the_other() -> None:
    one, other = (0.1, 0.2, 0.3, 0.4), (0.5, 0.1, 0.25, 0.8)
    assert place(one, other).box(one) == pytest.approx(other)


def test_cells_of_boxes_are_shares_of_cells() -> None:
    whole = cells_of(((0.0, 0.0, 1.0, 1.0),), 7, 5)
    np.testing.assert_allclose(whole, 1)
    covered = cells_of(((0.1, 0.2, 0.3, 0.15), (0.1, 0.2, 0.3, 0.15)), 10, 10)
    assert covered.sum() / 100 == pytest.approx(0.3 * 0.15)
    assert cells_of((), 7, 7).sum() == 0
    assert cells_of(((-0.5, -0.5, 0.2, 0.2),), 7, 7).sum() == 0  # outside of the film
