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

import dataclasses
import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.processors import usable_processors
from edge_runtime.errors import InvalidValueError
from train.data.arrays import reduced
from train.fit.store import Size
from train.recipe import Recipe

_AT_ONCE = 64  # films
_Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Teacher:
    """Finished runs whose mean probability is the target."""

    def __init__(
        self,
        runs: Sequence[str],
        recipe: Recipe,
        held_out: Collection[str],
        threads: int | None = None,
    ) -> None:
        """Load the models.

        Args:
            runs: Run folders.
            recipe: The student's.
            held_out: The student's validation patients.
            threads: That judge, on a processor; by default as many as there are processors.

        Raises:
            InvalidValueError: See `load_finished`.
        """
        self._weight, self._spec = weight_of(recipe), recipe.training_input
        self._sigmoid = recipe.network.activation == "sigmoid"
        models = [load_finished(Path(run), recipe, held_out) for run in runs]
        self._judges = [_Judge(model, threads or usable_processors()) for model in models]

    def targets(
        self, batch: NDArray[np.float32], target: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(n, h, w, 1) pixels 0..255 and their targets (n, units) -> targets to learn from."""
        return blended(target, self.probabilities(batch), self._weight)

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, h, w, 1) pixels 0..255 -> the teachers' mean probabilities (n, units)."""
        seen = {size: self._at(size, batch) for size in {judge.size for judge in self._judges}}
        logits = [judge(seen[judge.size]) for judge in self._judges]
        activation = keras.ops.sigmoid if self._sigmoid else keras.ops.softmax
        found = [keras.ops.convert_to_numpy(activation(one)) for one in logits]
        return np.asarray(np.mean(found, axis=0), np.float32)

    def _at(self, size: Size, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same films (n, *size, 1): reduced as a device does it, or enlarged."""
        height, width = batch.shape[1:3]
        if size == (height, width):
            return batch
        if size[0] <= height and size[1] <= width:
            spec = dataclasses.replace(self._spec, height=size[0], width=size[1])
            return reduced(np.rint(batch).astype(np.uint8), spec).astype(np.float32)
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.image.resize(batch, size)))


class _Judge:
    """The logits of a finished network, by the fastest way there is here.

    On a processor the float32 network runs in LiteRT (decision 43), on a GPU in Keras.
    """

    def __init__(self, model: keras.Model, threads: int) -> None:
        self._model, self._threads = model, threads
        self.size: Size = tuple(model.input_shape[1:3])

    @cached_property
    def _run(self) -> _Run:
        return _litert(self._model, self._threads) if _is_on_a_processor() else _keras(self._model)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *size, 1) pixels 0..255 -> logits (n, units)."""
        return self._run(batch)


def _is_on_a_processor() -> bool:
    """Other backends than TensorFlow are there for a GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _keras(model: keras.Model) -> _Run:
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        # Compiled, unlike a plain call of the model: faster. And in parts, or several processes
        # that judge fill a GPU's memory: 256 films of 224 px took 22 GB of it.
        parts = [
            model.predict_on_batch(batch[i : i + _AT_ONCE]) for i in range(0, len(batch), _AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)

    return run


def _litert(model: keras.Model, threads: int) -> _Run:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow.lite.python.convert_phase import ConverterError

    spec = keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32", name="film")
    with tempfile.TemporaryDirectory() as folder:
        # Frozen by way of a file: from a traced function the weights stay variables, which LiteRT
        # reads seven times slower.
        model.export(folder, verbose=False, input_signature=[spec])
        try:
            network = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        except ConverterError:  # a backbone of somebody's own, with a layer that LiteRT has not
            return _keras(model)
    interpreter = Interpreter(model_content=network, num_threads=threads)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        found = []
        # One film at a time, which stays in the processor's caches: as fast as any batch.
        for film in batch.astype(np.float32, copy=False):
            interpreter.set_tensor(source["index"], film[np.newaxis])
            interpreter.invoke()
            found.append(interpreter.get_tensor(result["index"]))
        return np.concatenate(found).astype(np.float32, copy=False)

    return run


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
