"""Optimiser, loss, learning rates, and which layers learn in which phase."""

from __future__ import annotations

import math

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.fit.evidence import EvidenceLoss
from train.network.build import backbone_of
from train.recipe import Optimisation, Recipe

_WARM_UP_STEPS = 50
_FINAL_RATE_SHARE = 0.05  # the cosine ends here, so that the averaged epochs still differ


def compile_phase(model: keras.Model, recipe: Recipe, phase: str) -> None:
    """Make the model ready to train: "head" trains the head alone, "all" the backbone too."""
    plan = recipe.optimisation
    _set_trainable(backbone_of(model), plan, phase)
    optimizer = _optimizer(plan)
    optimizer.build(model.trainable_variables)
    loss = (
        keras.losses.BinaryCrossentropy(from_logits=True)
        if recipe.network.activation == "sigmoid"
        else keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    weights = None
    if len(model.outputs) > 1:
        loss = {"logits": loss, "map": EvidenceLoss.of(recipe.evidence)}
    if len(model.outputs) > 2:
        loss["side"] = keras.losses.BinaryCrossentropy(from_logits=True)
        weights = {"logits": 1.0, "map": 1.0, "side": plan.mirrored}
    model.compile(optimizer, loss, loss_weights=weights, jit_compile=False)


def _set_trainable(backbone: keras.Model, plan: Optimisation, phase: str) -> None:
    backbone.trainable = phase == "all"
    if phase != "all":
        return
    learning = backbone.layers[-plan.trainable_layers :]
    if plan.frozen_until:
        names = [layer.name for layer in backbone.layers]
        if plan.frozen_until not in names:
            raise InvalidValueError(
                f"optimisation.frozen_until: {backbone.name} has no layer {plan.frozen_until!r}"
            )
        learning = backbone.layers[names.index(plan.frozen_until) + 1 :]
    for layer in backbone.layers:
        frozen = plan.freeze_batch_norm and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer in learning and not frozen


def _optimizer(plan: Optimisation) -> keras.Optimizer:
    rate = plan.learning_rate
    if plan.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=plan.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        return optimizer
    if plan.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    if plan.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    raise InvalidValueError(
        f"optimisation.optimizer must be adamw, adam or sgd, got {plan.optimizer!r}"
    )


def learning_rates(recipe: Recipe, epoch: int, steps: int) -> NDArray[np.float64]:
    """The rate of each step of an epoch: constant for the head, then the recipe's schedule.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, for the cosine.
    """
    plan = recipe.optimisation
    if epoch < plan.head_epochs:
        return np.full(steps, plan.head_learning_rate)
    if plan.schedule == "constant":
        return np.full(steps, plan.learning_rate)
    if plan.schedule != "cosine":
        raise InvalidValueError(
            f"optimisation.schedule must be cosine or constant, got {plan.schedule!r}"
        )
    step = (epoch - plan.head_epochs) * steps + np.arange(steps)
    cosine = 0.5 * (1 + np.cos(math.pi * step / (plan.epochs * steps)))
    share = _FINAL_RATE_SHARE + (1 - _FINAL_RATE_SHARE) * cosine
    return np.asarray(plan.learning_rate * share * np.minimum(1, (step + 1) / _WARM_UP_STEPS))
