"""What a run trains on: the split, its prepared images, targets and weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.data.augment import augment
from train.data.dataset import (
    Split,
    fingerprint,
    load_pixels,
    phantom_samples,
    read_folder,
    split_by_batch,
    split_by_block,
    split_by_patient,
    targets,
)
from train.recipe import Augmentation, Recipe

# The same for every recipe, so that validation scores of recipes can be compared.
VALIDATION_CORRUPTION = Augmentation(
    rotation_degrees=8,
    zoom=(0.8, 1.25),
    aspect=0.2,
    shift=0.08,
    gamma=(0.5, 2.0),
    contrast=0.4,
    brightness=0.15,
    noise=0.05,
    blur=2.0,
    jpeg_quality=15,
    downscale=0.4,
)
_VALIDATION_SEED = 20260101


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Prepared images (n, h, w, 1) uint8 with training targets (n, units) and sample weights."""

    train: NDArray[np.uint8]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    validation: NDArray[np.uint8]
    corrupted: NDArray[np.uint8]
    validation_positive: NDArray[np.int64]  # 0 normal, 1 any pneumonia
    fingerprint: str

    @staticmethod
    def load(recipe: Recipe, data: Path | None, split: Split, stream: Path | None = None) -> Arrays:
        """Read everything.

        Args:
            recipe: Input size, labels and weights.
            data: The data folder; not needed for phantoms.
            split: The images.
            stream: A folder for the prepared training images, which then stay on the disk and are
                read as batches need them; without it they are held in memory.
        """
        store = stream / "train-pixels.npy" if stream else None
        train = load_pixels(data, split.train, recipe.input, "reading train", store)
        validation = load_pixels(data, split.validation, recipe.input, "reading validation")
        labels = recipe.network.labels
        classes = targets(split.train, labels)
        count = np.bincount(classes, minlength=len(labels))
        weight = np.ones(len(classes), np.float32)
        if recipe.optimisation.class_weights:
            weight = (len(classes) / (len(labels) * count))[classes].astype(np.float32)
        one_hot = np.eye(len(labels), dtype=np.float32)[classes]
        target = one_hot[:, 1:] if recipe.network.units == 1 else one_hot
        smoothing = recipe.optimisation.label_smoothing
        target = target * (1 - smoothing) + smoothing / len(labels)
        corrupted = np.stack(
            [
                augment(image, VALIDATION_CORRUPTION, np.random.default_rng((_VALIDATION_SEED, i)))
                for i, image in enumerate(validation)
            ]
        )
        return Arrays(
            train,
            target.astype(np.float32),
            weight,
            validation,
            corrupted,
            (targets(split.validation, labels) > 0).astype(np.int64),
            fingerprint(split.train + split.validation, (train, validation)),
        )


def split_data(recipe: Recipe, data: Path | None) -> Split:
    if recipe.data.source == "phantoms":
        samples = phantom_samples(recipe.data.phantom_count)
    elif recipe.data.source == "folder":
        if data is None:
            raise InvalidValueError(f"recipe {recipe.name} needs --data DIR")
        # The public `val` part has 16 images; it joins `train` before the split by patient.
        samples = read_folder(data, ("train", "val"))
    else:
        raise InvalidValueError(f"data.source must be folder or phantoms: {recipe.data.source!r}")
    if recipe.data.block[1]:
        return split_by_block(samples, *recipe.data.block)
    if recipe.data.holdout:
        return split_by_batch(samples, recipe.data.holdout)
    return split_by_patient(
        samples, recipe.data.validation_fraction, recipe.data.split_seed or recipe.seed
    )
