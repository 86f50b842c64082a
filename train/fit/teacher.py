"""Distillation: finished runs of ours say how likely each augmented image is, the student agrees.

The target becomes (1 - weight) * label + weight * probability of the teachers. Cross-entropy is
linear in the target, so this is the weighted sum of the two losses. A teacher judges the very
film that the student sees, augmentation included, and with distillation.size before it is reduced
to the student's input.

Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, at
temperature 1; Beyer et al., Knowledge distillation: a good teacher is patient and consistent,
CVPR 2022, for teacher and student seeing the same augmented image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.recipe import Recipe


class Teacher:
    """Finished runs whose mean probability is the target."""

    def __init__(self, runs: Sequence[str], recipe: Recipe, held_out: Collection[str]) -> None:
        """Load the models.

        Args:
            runs: Run folders.
            recipe: The student's.
            held_out: The student's validation patients.

        Raises:
            InvalidValueError: See `load_finished`.
        """
        self._weight = weight_of(recipe)
        self._sigmoid = recipe.network.activation == "sigmoid"
        self._models = [load_finished(Path(run), recipe, held_out) for run in runs]

    def targets(
        self, batch: NDArray[np.float32], target: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(n, h, w, 1) pixels 0..255 and their targets (n, units) -> targets to learn from."""
        return blended(target, self.probabilities(batch), self._weight)

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, h, w, 1) pixels 0..255 -> the teachers' mean probabilities (n, units)."""
        found = [self._probability(model, batch) for model in self._models]
        return np.asarray(np.mean(found, axis=0), np.float32)

    def _probability(self, model: keras.Model, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        size = tuple(model.input_shape[1:3])
        pixels = batch if batch.shape[1:3] == size else keras.ops.image.resize(batch, size)
        # Compiled, unlike a plain call of the model: faster.
        logits = model.predict_on_batch(pixels)
        out = keras.ops.sigmoid(logits) if self._sigmoid else keras.ops.softmax(logits)
        return np.asarray(keras.ops.convert_to_numpy(out))


def weight_of(recipe: Recipe) -> float:
    """The share of what teachers say in the target.

    Raises:
        InvalidValueError: It is not in (0, 1].
    """
    weight = recipe.distillation.weight
    if not 0 < weight <= 1:
        raise InvalidValueError(f"distillation.weight must be in (0, 1], got {weight}")
    return weight


def blended(
    target: NDArray[np.float32], probability: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """`weight` of what the teachers say, the rest of what the label says; all (n, units)."""
    return np.asarray((1 - weight) * target + weight * probability, np.float32)


def load_finished(run: Path, recipe: Recipe, held_out: Collection[str]) -> keras.Model:
    """The model of a run that another one learns from.

    Args:
        run: Its folder.
        recipe: Of the one that learns.
        held_out: Validation patients of the one that learns; the run may not have learned from
            any, or what it knows of them would come back as a flattering validation score.

    Raises:
        InvalidValueError: The run is not finished, has other labels than the recipe, or has
            learned from a held-out patient.
    """
    try:
        network = json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]["network"]
        split = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{run} is not a run folder: {error}") from error
    theirs = tuple(network["labels"]), network["activation"]
    ours = recipe.network.labels, recipe.network.activation
    if theirs != ours:
        raise InvalidValueError(f"{run} has labels and activation {theirs}, the recipe {ours}")
    leaked = set(held_out) & {sample["patient"] for sample in split["train"]}
    if leaked:
        raise InvalidValueError(
            f"{run} learned from {len(leaked)} patients of this run's validation; "
            "train it with the same split"
        )
    file = run / "model.keras"
    if not file.is_file():
        raise InvalidValueError(f"{run} has no model.keras; let its training finish")
    return keras.models.load_model(file, compile=False)
