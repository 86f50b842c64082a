"""The small classifier behind `fit_oddities`, trained in numpy: scores of films from what is odd.

    linear in the standardised features + a hidden layer of the distant view -> softmax

Source: AdamW, Loshchilov and Hutter, ICLR 2019; dropout, Srivastava et al., JMLR 15:1929 (2014).
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edge_runtime.judge.quality import PixelHead

Array = NDArray[np.float64]

_UNITS = 192
_EPOCHS, _BATCH, _FEWEST_STEPS = 80, 256, 2000
_RATE, _DECAY = 2e-3, 1e-3
_DROPPED = 0.2  # of inputs and of hidden units
_GOOD_WEIGHT = 2.0
_SMALLEST_SPREAD = 1e-3


@dataclasses.dataclass(frozen=True)
class Films:
    """Films by their pooled features (n, channels) and their distant views (n, DISTANT_VIEW)."""

    features: NDArray[np.float32]
    views: Array

    def part(self, of_four: tuple[int, ...]) -> Films:
        """The films whose number modulo four is one of these."""
        chosen = np.isin(np.arange(len(self.features)) % 4, of_four)
        return Films(self.features[chosen], self.views[chosen])

    def and_also(self, *others: Films) -> Films:
        return Films(
            np.concatenate([self.features, *(o.features for o in others)]),
            np.concatenate([self.views, *(o.views for o in others)]),
        )


@dataclasses.dataclass(frozen=True)
class Head:
    """Weights on inputs as they come: the standardisation is in them."""

    features: Array  # (classes, channels)
    biases: Array  # (classes,)
    hidden: Array  # (units, DISTANT_VIEW)
    hidden_biases: Array  # (units,)
    views: Array  # (classes, units)

    def linear(self) -> tuple[str, tuple[float, ...]]:
        """What `Oddities` stores of the features' part."""
        return _stored(self.features), tuple(round(float(bias), 5) for bias in self.biases)

    def pixels(self) -> PixelHead:
        biases = tuple(round(float(bias), 5) for bias in self.hidden_biases)
        return PixelHead(_stored(self.hidden), biases, _stored(self.views))


def train_head(groups: Sequence[Films], rng: np.random.Generator) -> Head:
    """Train on films by class, good ones first."""
    # Many small products: threads would only wait for each other.
    with threadpool_limits(1):
        return _train(groups, rng)


def _train(groups: Sequence[Films], rng: np.random.Generator) -> Head:
    features = np.concatenate([group.features for group in groups]).astype(np.float64)
    views = np.concatenate([group.views for group in groups])
    labels = np.repeat(np.arange(len(groups)), [len(group.features) for group in groups])
    mean, spread = features.mean(axis=0), features.std(axis=0) + _SMALLEST_SPREAD
    view_mean, view_spread = views.mean(axis=0), views.std(axis=0) + _SMALLEST_SPREAD
    features = ((features - mean) / spread).astype(np.float32)
    views = ((views - view_mean) / view_spread).astype(np.float32)
    weights = np.where(labels == 0, _GOOD_WEIGHT, 1.0).astype(np.float32)
    p = _begin(features.shape[1], views.shape[1], len(groups), rng)
    moments = [[np.zeros_like(v), np.zeros_like(v)] for v in p]
    batch = min(_BATCH, len(labels))
    epochs = max(_EPOCHS, -(-_FEWEST_STEPS // (len(labels) // batch)))
    steps = len(labels) // batch * epochs
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(labels))
        for begin in range(0, len(labels) - batch + 1, batch):
            chosen = order[begin : begin + batch]
            gradients = _gradients(
                p, features[chosen], views[chosen], labels[chosen], weights[chosen], rng
            )
            step += 1
            rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for value, gradient, moment in zip(p, gradients, moments, strict=True):
                _step(value, gradient, moment, step, rate)
    linear, biases, hidden, hidden_biases, out = (value.astype(np.float64) for value in p)
    linear = linear.T / spread
    hidden = hidden.T / view_spread
    return Head(linear, biases - linear @ mean, hidden, hidden_biases - hidden @ view_mean, out.T)


def _step(
    value: NDArray[np.float32],
    gradient: NDArray[np.float32],
    moment: list[NDArray[np.float32]],
    step: int,
    rate: float,
) -> None:
    """One step of AdamW, in place."""
    first, second = moment
    first += 0.1 * (gradient - first)
    second += 0.001 * (gradient * gradient - second)
    change = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-7)
    value -= rate * (change + _DECAY * value)


def _begin(
    channels: int, seen: int, classes: int, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Glorot's uniform weights, and biases of 0."""
    shapes = ((channels, classes), (classes,), (seen, _UNITS), (_UNITS,), (_UNITS, classes))
    return [
        np.zeros(shape, np.float32)
        if len(shape) == 1
        else rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(np.sqrt(6 / sum(shape)))
        for shape in shapes
    ]


def _gradients(
    p: list[NDArray[np.float32]],
    features: NDArray[np.float32],
    views: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32],
    rng: np.random.Generator,
) -> list[NDArray[np.float32]]:
    """Of the mean weighted cross-entropy, with dropout."""
    linear, biases, hidden, hidden_biases, out = p
    features = features * _kept(features.shape, rng)
    views = views * _kept(views.shape, rng)
    before = views @ hidden + hidden_biases
    kept = _kept(before.shape, rng)
    active = np.maximum(before, 0) * kept
    scores = features @ linear + active @ out + biases
    scores -= scores.max(axis=1, keepdims=True)
    probability = np.exp(scores)
    probability /= probability.sum(axis=1, keepdims=True)
    probability[np.arange(len(labels)), labels] -= 1
    error = probability * (weights / len(labels))[:, np.newaxis]
    back = (error @ out.T) * kept * (before > 0)
    return [
        features.T @ error, error.sum(axis=0), views.T @ back, back.sum(axis=0), active.T @ error,
    ]  # fmt: skip


def _kept(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    kept = rng.random(shape, np.float32) >= _DROPPED
    return np.asarray(kept / np.float32(1 - _DROPPED), np.float32)


def _stored(values: Array) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode()
