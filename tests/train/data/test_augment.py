"""Random changes: nothing where nothing is asked, repeatable, and in range."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_runtime.images.phantom import draw_phantom
from train.data.augment import augment, augment_with_places
from train.data.swaps import match_histogram, mix_spectrum, swap_frame
from train.fit.batches import TrainingBatches
from train.recipe import Augmentation, load_recipe

IMAGE = draw_phantom(1, True, 96, 112)[:, :, np.newaxis]
DONOR = 255 - draw_phantom(2, False, 96, 112)[:, :, np.newaxis]


def apply(policy: Augmentation, seed: int = 0) -> np.ndarray:
    return augment(IMAGE, policy, np.random.default_rng(seed), DONOR)


def test_no_policy_changes_nothing() -> None:
    np.testing.assert_array_equal(apply(Augmentation()), IMAGE)


def test_strength_zero_changes_almost_nothing() -> None:
    policy = Augmentation(strength=(0, 0), rotation_degrees=20, zoom=(0.5, 2), gamma=(0.3, 3),
                          contrast=1, brightness=1, noise=1, blur=9, downscale=0.1)  # fmt: skip
    # Rounding of the tone curve may move a value by one.
    assert np.abs(apply(policy).astype(int) - IMAGE).max() <= 1


def test_a_certain_flip_is_the_mirror_image() -> None:
    np.testing.assert_array_equal(apply(Augmentation(flip=1.0)), IMAGE[:, ::-1])


def test_zoom_keeps_the_centre() -> None:
    dot = np.zeros((101, 101, 1), np.uint8)
    dot[48:53, 48:53] = 255
    zoomed = augment(dot, Augmentation(zoom=(2.0, 2.0)), np.random.default_rng(0))[:, :, 0]
    rows, columns = np.nonzero(zoomed > 127)
    assert (rows.mean(), columns.mean()) == pytest.approx((50, 50), abs=0.6)
    assert 9 <= np.ptp(rows) + 1 <= 11


CHANGES = {
    "shear": Augmentation(shear_degrees=20),
    "rotation": Augmentation(rotation_degrees=20),
    "aspect": Augmentation(aspect=0.5),
    "shift": Augmentation(shift=0.2),
    "gamma": Augmentation(gamma=(0.5, 0.6)),
    "contrast": Augmentation(contrast=0.9),
    "brightness": Augmentation(brightness=0.5),
    "noise": Augmentation(noise=0.2),
    "blur": Augmentation(blur=5),
    "jpeg": Augmentation(jpeg_quality=5),
    "downscale": Augmentation(downscale=0.2),
    "erase": Augmentation(erase=1.0),
    "histogram": Augmentation(histogram_swap=1.0),
    "spectrum": Augmentation(spectrum_swap=1.0),
    "frame": Augmentation(frame_swap=1.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_changes_something_and_repeats(name: str) -> None:
    results = [apply(CHANGES[name], seed) for seed in range(8)]
    assert any(not np.array_equal(result, IMAGE) for result in results)
    for seed, result in enumerate(results):
        assert (result.shape, result.dtype) == (IMAGE.shape, np.uint8)
        np.testing.assert_array_equal(result, apply(CHANGES[name], seed))


def test_a_swap_with_itself_changes_nothing() -> None:
    own, rng = IMAGE[:, :, 0], np.random.default_rng(0)
    for result in (
        match_histogram(own, own, 1.0),
        mix_spectrum(own, own, 1.0),
        swap_frame(own, own, rng),
        match_histogram(own, DONOR[:, :, 0], 0.0),
        mix_spectrum(own, DONOR[:, :, 0], 0.0),
    ):
        np.testing.assert_allclose(result.astype(int), own, atol=1)


def test_grey_levels_become_the_donors() -> None:
    own, donor = IMAGE[:, :, 0], DONOR[:, :, 0] // 2 + 100
    matched = match_histogram(own, donor, 1.0)
    for percentile in (10, 30, 50):
        level = np.percentile(donor, percentile)
        assert abs(np.percentile(own, percentile) - level) > 20
        assert np.percentile(matched, percentile) == pytest.approx(level, abs=6)


def test_the_spectrum_keeps_the_phase() -> None:
    own, donor = IMAGE[:, :, 0], IMAGE[::-1, :, 0] // 2 + 60
    mixed = mix_spectrum(own, donor, 0.5)
    assert np.corrcoef(mixed.ravel(), own.ravel())[0, 1] > 0.8
    assert mixed.mean() == pytest.approx((own.mean() + donor.mean()) / 2, abs=3)


def test_the_frame_is_the_donors_and_the_middle_stays() -> None:
    own, donor = np.full((100, 100), 200, np.uint8), np.full((100, 100), 50, np.uint8)
    for seed in range(10):
        swapped = swap_frame(own, donor, np.random.default_rng(seed))
        assert (swapped[25:75, 25:75] == 200).all()
        assert (swapped[0] == 50).all() and (swapped[:, 0] == 50).all()


def test_donors_come_from_both_classes_alike() -> None:
    recipe = dataclasses.replace(load_recipe("smoke"), augmentation=Augmentation(frame_swap=1.0))
    # One image in eight is normal; the corner of a swapped image tells whose frame it got.
    target = np.ones((64, 1), np.float32)
    target[::8] = 0
    pixels = np.where(target[:, :, None, None] > 0, 200, 50) * np.ones((64, 32, 32, 1))
    batches = TrainingBatches(pixels.astype(np.uint8), target, target[:, 0], recipe, 0)
    corners = np.concatenate([batches[i][0] for i in range(len(batches))])[:, 0, 0, 0]
    assert 0.25 < (corners == 50).mean() < 0.75


def test_batches_depend_on_seed_and_epoch_alone_and_use_every_image_once() -> None:
    recipe = load_recipe("default")
    pixels = np.stack([IMAGE + np.uint8(i) for i in range(64)])
    marks = np.arange(64, dtype=np.float32)[:, None]
    weight = np.ones(64, np.float32)

    def batches(epoch: int) -> list[tuple[np.ndarray, ...]]:
        made = TrainingBatches(pixels, marks, weight, recipe, epoch)
        return [made[i] for i in range(len(made))]

    first, again, next_epoch = batches(0), batches(0), batches(1)
    assert len(first) == 2
    for a, b in zip(first, again, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.array_equal(first[0][1], next_epoch[0][1])
    plain = TrainingBatches(pixels, marks, weight, load_recipe("smoke"), 0)
    seen = np.concatenate([plain[i][1] for i in range(len(plain))])
    assert sorted(seen[:, 0].tolist()) == list(range(64))


def test_places_move_with_the_film() -> None:
    policy = dataclasses.replace(
        Augmentation(), rotation_degrees=20, zoom=(0.7, 1.4), aspect=0.2, shift=0.1, flip=0.5,
        shear_degrees=5,
    )  # fmt: skip
    at = (np.arange(112) + 0.5) / 112
    for seed in range(20):
        x, y = np.random.default_rng((9, seed)).uniform(0.35, 0.65, 2)
        spot = np.exp(-((at[np.newaxis] - x) ** 2 + (at[:, np.newaxis] - y) ** 2) / 0.005)
        coarse = spot.reshape(56, 2, 56, 2).mean(axis=(1, 3)).astype(np.float32)
        film = (spot * 255).astype(np.uint8)[:, :, np.newaxis]
        moved, places, _ = augment_with_places(
            film, coarse[np.newaxis], policy, np.random.default_rng(seed)
        )
        assert places is not None and places.shape == (1, 56, 56)
        same = moved[:, :, 0].reshape(56, 2, 56, 2).mean(axis=(1, 3)) / 255
        assert np.abs(same - places[0]).max() < 0.12
        assert places.max() > 0.5  # it is still on the film


def test_places_change_nothing_of_the_film() -> None:
    film = draw_phantom(1, True, 96, 96)[:, :, np.newaxis]
    policy = load_recipe("default").augmentation
    for seed in range(10):
        alone = augment(film, policy, np.random.default_rng(seed))
        ones = np.ones((2, 56, 56), np.float32)
        beside = augment_with_places(film, ones, policy, np.random.default_rng(seed)).pixels
        np.testing.assert_array_equal(alone, beside)


def test_it_says_which_films_it_has_mirrored() -> None:
    film = draw_phantom(1, True, 96, 96)[:, :, np.newaxis]
    only_flips = Augmentation(flip=0.5)
    said = []
    for seed in range(40):
        plain = augment_with_places(film, None, only_flips, np.random.default_rng(seed))
        np.testing.assert_array_equal(plain.pixels, film[:, ::-1] if plain.mirrored else film)
        said.append(plain.mirrored)
    assert 10 < sum(said) < 30
