"""Facts of a film that are no medicine, and what a linear model makes of them."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL = 16
FULL_SIZE = (10**6, 10**6)  # for readers: never at a reduced scale, sharpness is a fact here
_FOLDS = 5
_RIDGE = 10.0  # values are standardised; keeps 256 weights from fitting the noise


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


def cross_validated_scores(
    positive: NDArray[np.int64], x: NDArray[np.float64], patients: list[str]
) -> NDArray[np.float64] | None:
    """Out-of-fold scores (n,) of ridge regression on the class; None if a fold lacks a class.

    Args:
        positive: (n,) of 0 and 1.
        x: (n, values).
        patients: (n) identifiers; nobody is scored by a model that saw another film of theirs.
    """
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
