"""What a run trains on: the split, its prepared images, targets and weights."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec, prepare_pixels
from train.data.augment import augment
from train.data.dataset import (
    NORMAL,
    Sample,
    Split,
    UnreadableError,
    fingerprint,
    has_findings,
    phantom_samples,
    split_by_batch,
    split_by_block,
    split_by_fold,
    split_by_patient,
    targets,
)
from train.data.duplicates import BITS, near_between, perceptual_hash
from train.data.fields import Fields
from train.data.mixture import Mixture
from train.data.source import Source
from train.data.table import read_table, told_guesses
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

    train: NDArray[np.uint8]  # of `recipe.training_input`, the others of `recipe.input`
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
            UnreadableError: Images cannot be read.
            SameFilmsError: The same pixels are in training and in validation.
            InvalidValueError: A file of fields cannot be read, or the recipe mixes sources that
                there are no films of.
        """
        store = stream / "train-pixels.npy" if stream else None
        larger = recipe.training_input
        train = source.pixels(split.train, larger, "reading train", store)
        validation, alike = validation_pixels(recipe, source, split.validation)
        if recipe.data.duplicates != "allow":
            _check_apart(split, train, alike, source, recipe.data.near_bits)
        target, weight = _targets(recipe, split.train)
        corrupted = reduced(corrupted_copy(alike), recipe.input)
        digest = fingerprint(split.train + split.validation, (train, validation))
        mixture = None
        if recipe.data.mix:
            films = [source.films[sample.path] for sample in split.train]
            mixture = Mixture(
                train, films, Fields(fields), recipe.data.mix, recipe.augmentation, Fields(sides),
                recipe.data.balance_views,
            )  # fmt: skip
        positive = _positive(recipe, split)
        return Arrays(train, target, weight, validation, corrupted, positive, digest, mixture)

    @staticmethod
    def without_training(recipe: Recipe, source: Source, split: Split) -> Arrays:
        """The same for films of training that were rendered beforehand: they are not read."""
        validation, corrupted = validation_copies(recipe, source, split.validation)
        target, weight = _targets(recipe, split.train)
        none = np.empty((0, *validation.shape[1:]), np.uint8)
        return Arrays(none, target, weight, validation, corrupted, _positive(recipe, split), "")


def load_arrays(
    recipe: Recipe,
    source: Source,
    split: Split,
    stream: Path | None = None,
    fields: Sequence[Path] = (),
    sides: Sequence[Path] = (),
) -> tuple[Arrays, Split, list[str]]:
    """The arrays, the split without films that cannot be read, and the paths of these.

    Raises:
        UnreadableError: They are more than the recipe allows.
        SameFilmsError: The same films on both sides, and the recipe stops there.
    """
    total = len(split.train) + len(split.validation)
    left_out: dict[str, str] = {}
    while True:
        try:
            arrays = Arrays.load(recipe, source, split, stream, fields, sides)
            return arrays, split, sorted(left_out)
        except UnreadableError as error:
            left_out |= error.files
            if len(left_out) > recipe.data.unreadable * total:
                raise UnreadableError(left_out) from error
            for path, why in error.files.items():
                tqdm.write(f"left out: {path}: {why}")
            kept = (
                tuple(s for s in part if s.path not in left_out)
                for part in (split.train, split.validation)
            )
            split = Split(*kept)
        except SameFilmsError as error:
            if recipe.data.duplicates == "stop":
                raise
            tqdm.write(f"{error}; left out of training (data.duplicates)")
            split = Split(
                tuple(s for s in split.train if s.path not in error.pairs), split.validation
            )


def validation_pixels(
    recipe: Recipe, source: Source, samples: Sequence[Sample]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Validation films as the model sees them, and as films of training are prepared."""
    validation = source.pixels(samples, recipe.input, "reading validation")
    if recipe.training_input == recipe.input:
        return validation, validation
    larger = source.pixels(samples, recipe.training_input, "reading validation as train")
    return validation, larger


def validation_copies(
    recipe: Recipe, source: Source, samples: Sequence[Sample]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Validation films as the model sees them, and their corrupted copy."""
    validation, alike = validation_pixels(recipe, source, samples)
    return validation, reduced(corrupted_copy(alike), recipe.input)


def reduced(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """(n, h, w, 1) films at a model's size, reduced as a device reduces what it decoded."""
    if pixels.shape[1:3] == (spec.height, spec.width):
        return pixels
    return np.stack([prepare_pixels(film[:, :, 0], spec) for film in pixels])


def corrupted_copy(validation: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The fixed corrupted copy of (n, h, w, 1) validation images, the same for every run.

    What it does is in pixels: the same film at half the size is spoilt twice as much by it. Runs
    of different sizes compare where it is made at one size and then `reduced`.
    """
    return np.stack(
        [
            augment(image, VALIDATION_CORRUPTION, np.random.default_rng((_VALIDATION_SEED, i)))
            for i, image in enumerate(validation)
        ]
    )


def _targets(
    recipe: Recipe, samples: Sequence[Sample]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smoothed targets (n, units) and weights (n,), which make up for rare labels.

    Raises:
        InvalidValueError: Films without a label, or with several that exclude each other.
    """
    labels, plan = recipe.network.labels, recipe.optimisation
    found = has_findings(samples, labels)
    normal = ~found.any(axis=1, keepdims=True)
    one_hot = np.concatenate([normal, found], axis=1)
    count = one_hot.sum(axis=0)
    if recipe.network.activation == "softmax":
        targets(samples, labels)  # each has one
        target, shares = one_hot, len(labels)
    else:
        target, shares = found, 2
    weight = np.ones(len(target), np.float32)
    if plan.class_weights:
        rarity = len(target) / (len(labels) * count)
        weight = ((one_hot * rarity).sum(axis=1) / one_hot.sum(axis=1)).astype(np.float32)
    smoothed = target * (1 - plan.label_smoothing) + plan.label_smoothing / shares
    return smoothed.astype(np.float32), weight


def _positive(recipe: Recipe, split: Split) -> NDArray[np.int64]:
    ill = has_findings(split.validation, recipe.network.labels).any(axis=1)
    return np.asarray(ill, np.int64)


class SameFilmsError(InvalidValueError):
    """Films of training that are films of validation under another name, by their paths."""

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self.pairs = dict(pairs)
        one, other = next(iter(pairs.items()))
        super().__init__(
            f"{len(pairs)} films of training are, or look like, a film of validation, as {one} and "
            f"{other}: their patients are named wrongly, or the films are there twice"
        )


def _check_apart(
    split: Split,
    train: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    source: Source,
    near_bits: int,
) -> None:
    """Raise SameFilmsError where a film of training is one of validation.

    Args:
        split: The films.
        train: (n, height, width, 1) theirs.
        validation: (m, height, width, 1).
        source: Knows lungs that were cut out, whose black surroundings are alike.
        near_bits: Of the recipe; 0 looks for equal pixels alone.
    """
    held = {
        hashlib.blake2b(image.tobytes()).digest(): sample.path
        for image, sample in zip(validation, split.validation, strict=True)
    }
    pairs = {
        sample.path: other
        for image, sample in zip(train, split.train, strict=True)
        if (other := held.get(hashlib.blake2b(image.tobytes()).digest()))
    }
    if near_bits and source.films:
        whole = [i for i, sample in enumerate(split.train) if source.is_whole(sample)]
        near = near_between(_hashes(train, whole), _hashes(validation), near_bits)
        for pair in sorted(near, key=lambda pair: -pair.distance):  # the nearest is named
            pairs[split.train[whole[pair.first]].path] = split.validation[pair.second].path
    if pairs:
        raise SameFilmsError(pairs)


def _hashes(pixels: NDArray[np.uint8], chosen: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """(n, 256) perceptual hashes of the chosen images."""
    places = range(len(pixels)) if chosen is None else chosen
    found = np.zeros((len(places), BITS), bool)
    for row, i in enumerate(tqdm(places, "looking for same films", leave=False, disable=None)):
        found[row] = perceptual_hash(Image.fromarray(pixels[i, :, :, 0]))
    return found


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
        table = read_table(data, recipe.data.findings, recipe.data.patient_pattern)
        if told := told_guesses(table):
            tqdm.write(told)
        films = {f.sample.path: f for f in table.films if f.source not in recipe.data.held_out}
        source = Source(table.root, films)
        given = [s for s in table.samples(("val",)) if s.path in films]
        samples = [s for s in table.samples(("train", "val", "")) if s.path in films]
        if len(given) >= recipe.data.least_val and not recipe.data.fold[1]:
            return _as_given(samples, given, recipe, source), source
        if given:
            why = f"fewer than data.least_val ({recipe.data.least_val})"
            if recipe.data.fold[1]:
                why = "and folds are of all films"
            tqdm.write(
                f"the part val has {len(given)} films, {why}: it joins train, which is split by "
                "patient"
            )
    else:
        raise InvalidValueError(f"data.source must be folder or phantoms: {recipe.data.source!r}")
    seed = recipe.data.split_seed or recipe.seed
    if recipe.data.fold[1]:
        split = split_by_fold(samples, *recipe.data.fold, seed)
    elif recipe.data.block[1]:
        split = split_by_block(samples, *recipe.data.block)
    elif recipe.data.holdout:
        split = split_by_batch(samples, recipe.data.holdout)
    else:
        split = split_by_patient(samples, recipe.data.validation_fraction, seed)
    return _with_both_classes(split, source, "by patient"), source


def _as_given(samples: list[Sample], given: list[Sample], recipe: Recipe, source: Source) -> Split:
    """The data's own validation part; its patients' other films are left out of training.

    Raises:
        InvalidValueError: A side lacks a class, or the recipe asks for another split.
    """
    if recipe.data.block[1] or recipe.data.holdout:
        raise InvalidValueError(
            f"the data have a part val of {len(given)} films, and the recipe holds out others "
            "(data.block, data.holdout); raise data.least_val to have val join train"
        )
    inside = {s.path for s in given}
    patients = {s.patient for s in given}
    train = tuple(s for s in samples if s.path not in inside and s.patient not in patients)
    crossing = len(samples) - len(given) - len(train)
    tqdm.write(f"validation is the data's own part val, {len(given)} films")
    if crossing:
        tqdm.write(f"{crossing} films of train are left out: their patients are in val too")
    return _with_both_classes(Split(train, tuple(given)), source, "as the data have it")


def _with_both_classes(split: Split, source: Source, how: str) -> Split:
    """The split with whole films alone in validation.

    Raises:
        InvalidValueError: A side lacks a class.
    """
    split = Split(split.train, tuple(filter(source.is_whole, split.validation)))
    for name, part in (("training", split.train), ("validation", split.validation)):
        kinds = sorted({s.kind for s in part})
        if NORMAL not in kinds or len(kinds) < 2:
            raise InvalidValueError(
                f"split {how}, {name} has {len(part)} films ({', '.join(kinds) or 'none'}) and "
                "needs normal films and others: name more data, or raise data.validation_fraction"
            )
    return split
