"""Random changes: nothing where nothing is asked, repeatable, and in range."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.phantom import draw_phantom
from train.augment import augment
from train.batches import TrainingBatches
from train.recipe import Augmentation, load_recipe

IMAGE = draw_phantom(1, True, 96, 112)[:, :, np.newaxis]


def apply(policy: Augmentation, seed: int = 0) -> np.ndarray:
    return augment(IMAGE, policy, np.random.default_rng(seed))


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
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_changes_something_and_repeats(name: str) -> None:
    results = [apply(CHANGES[name], seed) for seed in range(8)]
    assert any(not np.array_equal(result, IMAGE) for result in results)
    for seed, result in enumerate(results):
        assert (result.shape, result.dtype) == (IMAGE.shape, np.uint8)
        np.testing.assert_array_equal(result, apply(CHANGES[name], seed))


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
