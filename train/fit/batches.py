"""Shuffled, augmented training batches; the order and every change follow from (seed, epoch)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from train.data.arrays import reduced
from train.data.augment import augment
from train.data.mixture import Mixture, Rendered
from train.fit.evidence import map_target
from train.fit.store import BatchStore
from train.fit.teacher import Teacher, blended, weight_of
from train.recipe import Recipe


class TrainingBatches(keras.utils.PyDataset):
    """Batches of (pixels float32 (n, h, w, 1) 0..255, targets float32 (n, units), weights (n,))."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        target: NDArray[np.float32],
        weight: NDArray[np.float32],
        recipe: Recipe,
        epoch: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self.pixels, self.target, self.weight = pixels, target, weight
        self.policy, self.batch_size = recipe.augmentation, recipe.optimisation.batch_size
        self.key, self.teacher, self.input = (recipe.seed, epoch), teacher, recipe.input
        policy = self.policy
        self.swaps = policy.histogram_swap or policy.spectrum_swap or policy.frame_swap
        diseased = disease_share(target, recipe.network.activation) > 0.5
        self.by_class = [np.flatnonzero(diseased == value) for value in (False, True)]
        self.order = np.random.default_rng(self.key).permutation(len(pixels))

    def __len__(self) -> int:
        # The short last batch is dropped: batch statistics of a few images disturb training.
        return max(1, len(self.pixels) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch = np.stack([self._augmented(int(i)) for i in chosen]).astype(np.float32)
        target, weight = self.target[chosen], self.weight[chosen]
        if self.policy.mixup:
            # Source: Zhang et al., mixup, ICLR 2018, with a bounded share of the second image.
            rng = np.random.default_rng((*self.key, index, 1))
            share = rng.uniform(0, self.policy.mixup, size=len(batch)).astype(np.float32)
            batch = _mix(batch, share)
            target = _mix(target, share)
            weight = _mix(weight, share)
        if self.teacher:
            target = self.teacher.targets(batch, target)
        return _reduced(batch, self.input), target, weight

    def _augmented(self, index: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng((*self.key, index))
        donor = None
        if self.swaps:
            # Either class with the same chance, whatever their numbers.
            pool = self.by_class[rng.integers(len(self.by_class))]
            donor = self.pixels[pool[rng.integers(len(pool))]]
        return augment(self.pixels[index], self.policy, rng, donor)


class MixedBatches(keras.utils.PyDataset):
    """Batches drawn by source and finding, with targets for logits, map and side.

    (pixels (n, h, w, 1), {"logits": (n, units), "map": (n, rows, columns, 2)}), and "side" (n, 1),
    1 where a film was mirrored, for recipes that ask for it.
    """

    def __init__(
        self,
        mixture: Mixture,
        target: NDArray[np.float32],
        recipe: Recipe,
        epoch: int,
        map_size: tuple[int, int],
        teacher: Teacher | None = None,
    ) -> None:
        if recipe.data.steps < 1:
            raise InvalidValueError("data.steps: how many batches an epoch has must be said")
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.mixture, self.target, self.steps = mixture, target, recipe.data.steps
        self.key, self.map_size, self.teacher = (recipe.seed, epoch), map_size, teacher
        self.input = recipe.input
        self.with_side = recipe.optimisation.mirrored > 0

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        chosen, rendered = self.mixture.batch((*self.key, index))
        batch = np.stack([one.pixels for one in rendered]).astype(np.float32)
        target = self.target[chosen]
        if self.teacher:
            target = self.teacher.targets(batch, target)
        targets = _taught(target, rendered, self.map_size, self.with_side)
        return _reduced(batch, self.input), targets


class RenderedBatches(keras.utils.PyDataset):
    """What `MixedBatches` gives, of batches that `train render` has made or is making."""

    def __init__(
        self,
        store: BatchStore,
        target: NDArray[np.float32],
        recipe: Recipe,
        epoch: int,
        map_size: tuple[int, int],
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.store, self.target, self.epoch, self.map_size = store, target, epoch, map_size
        self.size = (recipe.input.height, recipe.input.width)
        self.weight = weight_of(recipe) if recipe.distillation.teachers else 0.0
        self.with_side = recipe.optimisation.mirrored > 0

    def __len__(self) -> int:
        return self.store.steps

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        batch = self.store.read(self.epoch, index, self.size)
        target = self.target[batch.chosen]
        if self.weight:
            target = blended(target, self.store.judged(self.epoch, index), self.weight)
        targets = _taught(target, batch.rendered, self.map_size, self.with_side)
        return batch.pixels.astype(np.float32), targets


def _taught(
    target: NDArray[np.float32],
    rendered: Sequence[Rendered],
    map_size: tuple[int, int],
    with_side: bool,
) -> dict[str, NDArray[np.float32]]:
    maps = np.stack([map_target(one, *map_size) for one in rendered])
    side = {"side": np.array([[one.mirrored] for one in rendered], np.float32)} if with_side else {}
    return {"logits": target, "map": maps} | side


def disease_share(target: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Probability of any disease in targets (n, units) of an activation."""
    return np.asarray(target.max(axis=1) if activation == "sigmoid" else target[:, 1:].sum(axis=1))


def _reduced(batch: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """What teachers saw (n, h, w, 1) as the student sees it."""
    if batch.shape[1:3] == (spec.height, spec.width):
        return batch
    return reduced(np.rint(batch).astype(np.uint8), spec).astype(np.float32)


def _mix(values: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row takes `share` of the next row; the batch is already in random order."""
    portion = share.reshape(-1, *[1] * (values.ndim - 1))
    return (1 - portion) * values + portion * np.roll(values, 1, axis=0)
