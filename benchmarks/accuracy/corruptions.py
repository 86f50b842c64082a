"""Corruptions of prepared radiographs at five severities, as Hendrycks and Dietterich apply them.

At the model's own resolution, so that a severity means the same for every size of original. Each
takes (height, width) uint8, a severity from 1 to 5 and a generator, and gives the same shape.

Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019; severities here are for greyscale radiographs.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)


def _noise(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    sigma = (4, 8, 14, 22, 32)[severity - 1]
    return _clip(pixels + rng.normal(0, sigma, pixels.shape))


def _blur(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    radius = (0.5, 1.0, 1.5, 2.2, 3.0)[severity - 1]
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    quality = (60, 40, 25, 15, 8)[severity - 1]
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _brightness(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    shift = (13, 26, 38, 51, 64)[severity - 1] * rng.choice((-1, 1))
    return _clip(pixels.astype(np.float64) + shift)


def _contrast(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    share = (0.8, 0.65, 0.5, 0.35, 0.2)[severity - 1]
    mean = pixels.mean()
    return _clip(mean + share * (pixels - mean))


def _rotation(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    angle = (3, 6, 10, 15, 20)[severity - 1] * rng.choice((-1, 1))
    return np.asarray(Image.fromarray(pixels).rotate(angle, Image.Resampling.BILINEAR))


def _resolution(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    share = (0.7, 0.5, 0.35, 0.25, 0.18)[severity - 1]
    height, width = pixels.shape
    image = Image.fromarray(pixels)
    small = image.resize((round(width * share), round(height * share)), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _inverted(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """A negative, mixed in: from a fifth to the whole."""
    share = severity / 5
    return _clip((1 - share) * pixels + share * (255.0 - pixels))


def _clip(values: NDArray[np.float64]) -> Pixels:
    return np.asarray(np.clip(values + 0.5, 0, 255), np.uint8)


CORRUPTIONS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "noise": _noise,
    "blur": _blur,
    "JPEG": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "rotation": _rotation,
    "resolution": _resolution,
    "inverted": _inverted,
}


def corrupt(pixels: Pixels, name: str, severity: int, index: int) -> Pixels:
    """Image number `index` (height, width, 1) corrupted; the same call gives the same pixels."""
    rng = np.random.default_rng((list(CORRUPTIONS).index(name), severity, index))
    return np.ascontiguousarray(CORRUPTIONS[name](pixels[:, :, 0], severity, rng))[:, :, np.newaxis]
