"""The training loop: head first, then all layers; validation, snapshots, averaging, resume.

Validation inside this data set's training split saturates (AUC 0.998 after one epoch), so epochs
are compared by the mean AUC over them and a fixed corrupted copy of them, which does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.metrics import auc, binary_cross_entropy
from edge_runtime.scores import disease_logit
from train.augment import augment
from train.batches import TrainingBatches
from train.curves import draw_curves
from train.dataset import (
    Split,
    fingerprint,
    load_pixels,
    phantom_samples,
    read_folder,
    split_by_batch,
    split_by_patient,
    targets,
)
from train.network import build_network
from train.recipe import Augmentation, Recipe, load_recipe
from train.run_folder import RunFolder, State, describe_run

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
_WARM_UP_STEPS = 50
_AVERAGE_TOLERANCE = 0.005
_FINAL_RATE_SHARE = 0.05  # the cosine ends here, so that the averaged epochs still differ


def fit(
    recipe_name: str,
    data: Path | None,
    weights: str,
    output: Path,
    seed: int | None = None,
    changes: Sequence[str] = (),
) -> None:
    """Train a recipe into the run folder `output`, or go on with an interrupted run there.

    Raises:
        InvalidValueError: Unknown recipe, unusable data, or a folder that holds another run.
    """
    recipe = load_recipe(recipe_name, changes)
    if seed is not None:
        recipe = dataclasses.replace(recipe, seed=seed)
    split = _split(recipe, data)
    arrays = _Arrays.load(recipe, data, split)

    keras.utils.set_random_seed(recipe.seed)
    weights_argument, weights_record = _resolve_weights(weights)
    run = RunFolder(output)
    run.begin(
        describe_run(recipe, weights_record, arrays.fingerprint, _counts(split)),
        split,
    )
    model = build_network(recipe, weights_argument)
    history = _train(model, recipe, arrays, run)
    _finish(model, recipe, arrays, run, history, split)


@dataclasses.dataclass(frozen=True)
class _Arrays:
    """Prepared images (n, h, w, 1) uint8 with training targets (n, units) and sample weights."""

    train: NDArray[np.uint8]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    validation: NDArray[np.uint8]
    corrupted: NDArray[np.uint8]
    validation_positive: NDArray[np.int64]  # 0 normal, 1 any pneumonia
    fingerprint: str

    @staticmethod
    def load(recipe: Recipe, data: Path | None, split: Split) -> _Arrays:
        train = load_pixels(data, split.train, recipe.input, "reading train")
        validation = load_pixels(data, split.validation, recipe.input, "reading validation")
        labels = recipe.network.labels
        classes = targets(split.train, labels)
        count = np.bincount(classes, minlength=len(labels))
        weight = np.ones(len(classes), np.float32)
        if recipe.optimisation.class_weights:
            weight = (len(classes) / (len(labels) * count))[classes].astype(np.float32)
        one_hot = np.eye(len(labels), dtype=np.float32)[classes]
        target = one_hot[:, 1:] if len(labels) == 2 else one_hot
        smoothing = recipe.optimisation.label_smoothing
        target = target * (1 - smoothing) + smoothing / len(labels)
        corrupted = np.stack(
            [
                augment(image, VALIDATION_CORRUPTION, np.random.default_rng((_VALIDATION_SEED, i)))
                for i, image in enumerate(validation)
            ]
        )
        return _Arrays(
            train,
            target.astype(np.float32),
            weight,
            validation,
            corrupted,
            (targets(split.validation, labels) > 0).astype(np.int64),
            fingerprint(split.train + split.validation, np.concatenate([train, validation])),
        )


def _split(recipe: Recipe, data: Path | None) -> Split:
    if recipe.data.source == "phantoms":
        samples = phantom_samples(recipe.data.phantom_count)
    elif recipe.data.source == "folder":
        if data is None:
            raise InvalidValueError(f"recipe {recipe.name} needs --data DIR")
        # The public `val` part has 16 images; it joins `train` before the split by patient.
        samples = read_folder(data, ("train", "val"))
    else:
        raise InvalidValueError(f"data.source must be folder or phantoms: {recipe.data.source!r}")
    if recipe.data.holdout:
        return split_by_batch(samples, recipe.data.holdout)
    return split_by_patient(samples, recipe.data.validation_fraction, recipe.seed)


def _resolve_weights(weights: str) -> tuple[str | None, dict[str, str]]:
    if weights == "none":
        return None, {"source": "none"}
    if weights == "imagenet":
        return "imagenet", {"source": "imagenet"}
    file = Path(weights)
    if not file.is_file():
        raise InvalidValueError(f"--weights must be imagenet, none or a file, got {weights!r}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return weights, {"source": file.name, "sha256": digest}


def _counts(split: Split) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part, samples in (("train", split.train), ("validation", split.validation)):
        for sample in samples:
            key = f"{part}/{sample.kind}"
            counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def _train(
    model: keras.Model, recipe: Recipe, arrays: _Arrays, run: RunFolder
) -> list[dict[str, Any]]:
    plan = recipe.optimisation
    total = plan.head_epochs + plan.epochs
    state = run.load_state()
    history: list[dict[str, Any]] = state.history if state else []
    if state:
        tqdm.write(f"resuming {run.path} after epoch {len(history)} of {total}")
    phase = None
    for epoch in range(len(history), total):
        if _should_stop(history, plan.early_stopping):
            tqdm.write(f"stopped early after epoch {epoch}")
            break
        wanted = "head" if epoch < plan.head_epochs else "all"
        if phase != wanted:
            phase = wanted
            _compile(model, recipe, phase)
            if state:
                model.set_weights(state.weights)
                # The optimiser starts afresh where a phase begins.
                if epoch != plan.head_epochs:
                    for variable, value in zip(
                        model.optimizer.variables, state.optimizer, strict=True
                    ):
                        variable.assign(value)
                state = None
        loss = _run_epoch(model, recipe, arrays, epoch, total)
        entry = {"epoch": epoch + 1, "phase": phase, "loss": loss}
        entry |= _validate(model, arrays)
        history.append(entry)
        tqdm.write(
            f"epoch {epoch + 1}/{total} {phase}: loss {loss:.4f}, validation AUC "
            f"{entry['validation_auc']:.4f}, corrupted {entry['corrupted_auc']:.4f}"
        )
        weights = model.get_weights()
        run.save_snapshot(epoch + 1, weights)
        run.save_state(State(weights, [np.asarray(v) for v in model.optimizer.variables], history))
        run.keep_snapshots(_needed_snapshots(history, plan.average_last))
        draw_curves(history, run.path / "curves.png")
    if state:  # every epoch was already done
        model.set_weights(state.weights)
    return history


def _best_epoch(history: list[dict[str, Any]]) -> int:
    return int(max(history, key=lambda entry: entry["validation_score"])["epoch"])


def _needed_snapshots(history: list[dict[str, Any]], average_last: int) -> list[int]:
    return [_best_epoch(history), *(entry["epoch"] for entry in history[-average_last:])]


def _should_stop(history: list[dict[str, Any]], patience: int) -> bool:
    fine = [entry for entry in history if entry["phase"] == "all"]
    return patience > 0 and len(fine) > 0 and history[-1]["epoch"] - _best_epoch(fine) >= patience


def _compile(model: keras.Model, recipe: Recipe, phase: str) -> None:
    plan = recipe.optimisation
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    backbone.trainable = phase == "all"
    optimizer = keras.optimizers.AdamW(plan.head_learning_rate, weight_decay=plan.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    optimizer.build(model.trainable_variables)
    loss = (
        keras.losses.BinaryCrossentropy(from_logits=True)
        if model.output_shape[-1] == 1
        else keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    model.compile(optimizer, loss, jit_compile=False)


def _run_epoch(
    model: keras.Model, recipe: Recipe, arrays: _Arrays, epoch: int, total: int
) -> float:
    """One pass over the training images; the mean loss."""
    batches = TrainingBatches(arrays.train, arrays.target, arrays.weight, recipe, epoch)
    for layer in model.layers:
        if isinstance(layer, keras.layers.SpatialDropout2D) and layer.rate > 0:
            # Otherwise the dropout masks after a resume would be those of the first epoch.
            layer.seed_generator.state.assign(np.array([recipe.seed, epoch], dtype=np.uint32))
    rates = _learning_rates(recipe, epoch, len(batches))
    with tqdm(
        total=len(batches), desc=f"epoch {epoch + 1}/{total}", leave=False, disable=None
    ) as bar:

        def before_batch(batch: int, logs: object = None) -> None:
            model.optimizer.learning_rate = rates[batch]

        def after_batch(batch: int, logs: dict[str, float]) -> None:
            bar.update()
            bar.set_postfix(loss=f"{logs['loss']:.4f}")

        steps = keras.callbacks.LambdaCallback(
            on_train_batch_begin=before_batch, on_train_batch_end=after_batch
        )
        result = model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[steps])
    return float(result.history["loss"][0])


def _learning_rates(recipe: Recipe, epoch: int, steps: int) -> NDArray[np.float64]:
    """The rate of each step of an epoch: constant for the head, then warm-up and cosine.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017.
    """
    plan = recipe.optimisation
    if epoch < plan.head_epochs:
        return np.full(steps, plan.head_learning_rate)
    step = (epoch - plan.head_epochs) * steps + np.arange(steps)
    cosine = 0.5 * (1 + np.cos(math.pi * step / (plan.epochs * steps)))
    share = _FINAL_RATE_SHARE + (1 - _FINAL_RATE_SHARE) * cosine
    return np.asarray(plan.learning_rate * share * np.minimum(1, (step + 1) / _WARM_UP_STEPS))


def _validate(model: keras.Model, arrays: _Arrays) -> dict[str, float]:
    plain = disease_logit(predict_logits(model, arrays.validation))
    corrupted = disease_logit(predict_logits(model, arrays.corrupted))
    positive = arrays.validation_positive
    plain_auc, corrupted_auc = auc(positive, plain), auc(positive, corrupted)
    return {
        "validation_auc": plain_auc,
        "corrupted_auc": corrupted_auc,
        "validation_score": (plain_auc + corrupted_auc) / 2,
        "validation_loss": binary_cross_entropy(positive, 1 / (1 + np.exp(-plain))),
    }


def predict_logits(model: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, h, w, 1) uint8 -> logits (n, units)."""
    parts = [
        np.asarray(model(pixels[i : i + 64].astype(np.float32), training=False))
        for i in range(0, len(pixels), 64)
    ]
    return np.concatenate(parts).astype(np.float64)


def _finish(
    model: keras.Model,
    recipe: Recipe,
    arrays: _Arrays,
    run: RunFolder,
    history: list[dict[str, Any]],
    split: Split,
) -> None:
    """Save the mean of the last epochs, or the best epoch where averaging has failed.

    The best epoch's score is the largest of many noisy ones and so flatters it; the mean has to
    fall behind by more than that noise to be passed over.
    """
    best = _best_epoch(history)
    last = [entry["epoch"] for entry in history[-recipe.optimisation.average_last :]]
    snapshots = [run.load_snapshot(epoch) for epoch in last]
    mean_name, best_name = f"mean of epochs {last[0]} to {last[-1]}", f"epoch {best}"
    candidates = {
        mean_name: [np.mean(values, axis=0) for values in zip(*snapshots, strict=True)],
        best_name: run.load_snapshot(best),
    }
    scores: dict[str, dict[str, float]] = {}
    for name, weights in candidates.items():
        model.set_weights(weights)
        scores[name] = _validate(model, arrays)
        tqdm.write(f"{name}: {scores[name]}")
    lead = scores[best_name]["validation_score"] - scores[mean_name]["validation_score"]
    chosen = best_name if lead > _AVERAGE_TOLERANCE else mean_name
    model.set_weights(candidates[chosen])
    model.save(run.path / "model.keras")
    logits = predict_logits(model, arrays.validation)
    with open(run.path / "validation.csv", "w", encoding="utf-8") as file:
        print("path", "kind", *(f"logit{i}" for i in range(logits.shape[1])), sep=",", file=file)
        for sample, row in zip(split.validation, logits, strict=True):
            print(sample.path, sample.kind, *(f"{v:.6f}" for v in row), sep=",", file=file)
    run.finish({"chosen": chosen, "candidates": scores, "epochs": len(history)})
    tqdm.write(f"finished: {chosen} saved as {run.path / 'model.keras'}")
