"""How well features that are no medicine tell the classes apart.

Whatever a file's size, shape or border can do alone, a network can learn as well, and will fail
with where these differ. Source: Geirhos et al., Shortcut Learning in Deep Neural Networks, Nature
Machine Intelligence 2:665 (2020).
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc, auc_interval

THUMBNAIL = 16
_FOLDS = 5
_RIDGE = 10.0  # thumbnails are standardised; keeps 256 weights from fitting the noise


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """The AUC of one feature alone. `direction` is +1 where larger values mean pneumonia."""

    name: str
    auc: Estimate
    direction: int


def trivial_features(size_bytes: int, grey: Image.Image) -> dict[str, float]:
    """Features of one file that need no look at the lungs."""
    pixels = np.asarray(grey, dtype=np.float32)
    height, width = pixels.shape
    edge = max(1, width // 20)
    border = np.concatenate([pixels[:, :edge].ravel(), pixels[:, -edge:].ravel()])
    return {
        "bytes per pixel": size_bytes / (height * width),
        "pixel count": float(height * width),
        "aspect ratio": width / height,
        "mean": float(pixels.mean()),
        "contrast": float(pixels.std()),
        "border columns": float(border.mean()),
        "black pixels": float((pixels < 8).mean()),
        "sharpness": float(np.abs(np.diff(pixels, axis=1)).mean()),
    }


def thumbnail(grey: Image.Image) -> NDArray[np.float32]:
    """(256,) grey values of the 16 x 16 reduction."""
    small = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def measure_shortcuts(
    positive: NDArray[np.int64],
    features: dict[str, NDArray[np.float64]],
    thumbnails: NDArray[np.float32],
    patients: list[str],
) -> list[Shortcut]:
    """AUCs, highest first. The features' are taken in whichever direction is above one half.

    Args:
        positive: (n,) of 0 normal and 1 pneumonia.
        features: Name -> (n,) values.
        thumbnails: (n, 256).
        patients: (n) identifiers: a linear model on thumbnails is scored on patients that it did
            not see.
    """
    found = []
    for name, values in features.items():
        if np.ptp(values) == 0:
            continue  # the same for all: tells nothing
        direction = 1 if auc(positive, values) >= 0.5 else -1
        found.append(Shortcut(name, auc_interval(positive, direction * values), direction))
    scores = _cross_validated_scores(positive, thumbnails.astype(np.float64), patients)
    if scores is not None:
        name = f"{THUMBNAIL} x {THUMBNAIL} thumbnail, linear"
        found.append(Shortcut(name, auc_interval(positive, scores), 1))
    return sorted(found, key=lambda s: -s.auc.value)


def _cross_validated_scores(
    positive: NDArray[np.int64], x: NDArray[np.float64], patients: list[str]
) -> NDArray[np.float64] | None:
    """Out-of-fold scores (n,) of ridge regression on the class; None if a fold lacks a class."""
    fold = np.array([zlib.crc32(p.encode("utf-8", "replace")) % _FOLDS for p in patients])
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    scores = np.zeros(len(x))
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        if len(np.unique(positive[train])) < 2:
            return None
        # Each class weighs the same, whatever its size.
        weight = np.where(
            positive == 1, 0.5 / positive[train].mean(), 0.5 / (1 - positive[train].mean())
        )[train]
        design = np.column_stack([x[train], np.ones(train.sum())])
        weighted = design * weight[:, None]
        penalty = _RIDGE * np.eye(design.shape[1])
        penalty[-1, -1] = 0
        beta = np.linalg.solve(design.T @ weighted + penalty, weighted.T @ positive[train])
        scores[test] = np.column_stack([x[test], np.ones(test.sum())]) @ beta
    return scores
