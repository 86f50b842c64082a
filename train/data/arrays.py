"""What a run trains on: the split, its prepared images, targets and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from train.data.augment import augment
from train.data.dataset import (
    Split,
    fingerprint,
    phantom_samples,
    split_by_batch,
    split_by_block,
    split_by_patient,
    targets,
)
from train.data.fields import Fields
from train.data.mixture import Mixture
from train.data.source import Source
from train.data.table import read_table
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
    mixture: Mixture | None = None  # where a recipe mixes sources; of the images in `train`

    @staticmethod
    def load(
        recipe: Recipe,
        source: Source,
        split: Split,
        stream: Path | None = None,
        fields: Sequence[Path] = (),
        sides: Sequence[Path] = (),
    ) -> Arrays:
        """Read everything.

        Args:
            recipe: Input size, labels and weights.
            source: Where the images are, and what is known of them.
            split: The images.
            stream: A folder for the prepared training images, which then stay on the disk and are
                read as batches need them; without it they are held in memory.
            fields: Files of lung fields (`train.data.fields`), for grafts.
            sides: The same of each lung's own hull, for where evidence may lie.

        Raises:
            InvalidValueError: An image or a file of fields cannot be read, or the recipe mixes
                sources that there are no films of.
        """
        store = stream / "train-pixels.npy" if stream else None
        train = source.pixels(split.train, recipe.input, "reading train", store)
        validation = source.pixels(split.validation, recipe.input, "reading validation")
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
        digest = fingerprint(split.train + split.validation, (train, validation))
        mixture = None
        if recipe.data.mix:
            films = [source.films[sample.path] for sample in split.train]
            policy = recipe.augmentation
            mixture = Mixture(train, films, Fields(fields), recipe.data.mix, policy, Fields(sides))
        return Arrays(
            train,
            target.astype(np.float32),
            weight,
            validation,
            corrupted,
            (targets(split.validation, labels) > 0).astype(np.int64),
            digest,
            mixture,
        )


def split_data(recipe: Recipe, data: Sequence[Path]) -> tuple[Split, Source]:
    """The images of training and validation, by the recipe's rules.

    Held-out sources are in neither. Lungs that were cut out only train: nobody is screened so.

    Raises:
        InvalidValueError: The data cannot be read, or the recipe asks for what they do not have.
    """
    source = Source()
    if recipe.data.source == "phantoms":
        samples = phantom_samples(recipe.data.phantom_count)
    elif recipe.data.source == "folder":
        if not data:
            raise InvalidValueError(f"recipe {recipe.name} needs --data DIR or FILE.csv")
        table = read_table(data, recipe.data.findings)
        if table.guessed:
            tqdm.write(
                f"{table.guessed} of {len(table.films)} films: the patient is a guess from the "
                "file's name; a column `patient` would say"
            )
        films = {f.sample.path: f for f in table.films if f.source not in recipe.data.held_out}
        source = Source(table.root, films)
        # The public `val` part has 16 images; it joins `train` before the split by patient.
        samples = [s for s in table.samples(("train", "val", "")) if s.path in films]
    else:
        raise InvalidValueError(f"data.source must be folder or phantoms: {recipe.data.source!r}")
    if recipe.data.block[1]:
        split = split_by_block(samples, *recipe.data.block)
    elif recipe.data.holdout:
        split = split_by_batch(samples, recipe.data.holdout)
    else:
        seed = recipe.data.split_seed or recipe.seed
        split = split_by_patient(samples, recipe.data.validation_fraction, seed)
    return Split(split.train, tuple(filter(source.is_whole, split.validation))), source
