"""Fits the quality gate on training images; validation images set the last limit."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.quality import FeatureSpace, QualityGate, describe, thumbnail

COMPONENTS = 32
# Cheap limits stand this far outside the most extreme training image: they are for what is
# plainly something else, and must not refuse a child.
_MARGIN = 0.25
# Share of held-out radiographs within the feature limit, and how many times further out an image
# must be to be refused: pictures of other things begin beyond it
# (tests/edge_runtime/judge/test_quality_rates.py).
_QUANTILE = 0.995
_REFUSE_ABOVE = 1.75
# Fixed rules where the prepared 1:1 copies of the training images cannot tell.
_MIN_SIDE_PX = 128
_MAX_ASPECT = 2.5
_MAX_CHROMA = 20.0
_MOST_SATURATED = 0.95


def fit_quality_gate(
    train_pixels: NDArray[np.uint8],
    train_features: NDArray[np.float32],
    validation_features: NDArray[np.float32],
    ages: tuple[float, float] | None = None,
) -> QualityGate:
    """Limits from (n, h, w, 1) uint8 training images and (n, channels) pooled features.

    Args:
        train_pixels: As prepared.
        train_features: Of these.
        validation_features: Of images held out, which set the limit of the distance.
        ages: Years that the model is meant for; None refuses nobody.
    """
    thumbnails = np.array([thumbnail(pixels) for pixels in train_pixels])
    template = thumbnails.mean(axis=0)
    template /= np.linalg.norm(template)
    contrast, saturated, correlation = np.array(
        [describe(pixels, template) for pixels in train_pixels]
    ).T
    return QualityGate(
        min_side_px=_MIN_SIDE_PX,
        max_aspect=_MAX_ASPECT,
        max_chroma=_MAX_CHROMA,
        min_contrast=round(float(contrast.min() * (1 - _MARGIN)), 3),
        max_saturated=round(_most_saturated(saturated), 4),
        template=tuple(round(float(value), 5) for value in template),
        min_correlation=round(float(max(0.0, np.quantile(correlation, 0.0005) - 0.1)), 4),
        features=_fit_features(train_features, validation_features),
        age_years=ages,
        fitted_on=f"{len(train_pixels)} training and {len(validation_features)} validation images",
    )


def _most_saturated(shares: NDArray[np.float64]) -> float:
    """Beyond the training images, but not far beyond where some are nearly black or white."""
    usual = 2 * float(np.quantile(shares, 0.99))
    return min(_MOST_SATURATED, float(shares.max()) * (1 + _MARGIN), max(usual, _MARGIN))


def _fit_features(train: NDArray[np.float32], validation: NDArray[np.float32]) -> FeatureSpace:
    mean = train.mean(axis=0)
    centred = train - mean
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    components = rows[:COMPONENTS].astype("<f2")
    outside = centred - (centred @ components.T.astype(np.float32)) @ components
    space = FeatureSpace(
        mean_base64=base64.b64encode(mean.astype("<f4").tobytes()).decode(),
        components_base64=base64.b64encode(components.tobytes()).decode(),
        scales=tuple(round(float(s) / np.sqrt(len(train)), 6) for s in singular[:COMPONENTS]),
        residual=round(float((outside**2).sum(axis=1).mean()), 6),
        limit=1.0,
        refuse_above=_REFUSE_ABOVE,
    )
    scores = [space.raw_score(features) for features in validation]
    limit = float(np.quantile(scores, _QUANTILE))
    return dataclasses.replace(space, limit=round(limit, 4))
