"""The evidence map laid over the radiograph.

The network's head is a 1x1 convolution whose output, before averaging, says how much each region
argues for pneumonia: a class activation map that costs nothing and is quantised like the score.
Source: Zhou et al., CVPR 2016; for this head Grad-CAM (Selvaraju et al., ICCV 2017) is the same.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.records.record import Examination

# Log odds at which the overlay is fully coloured. Fixed, so that two pictures can be compared and
# a normal radiograph stays grey instead of showing its own loudest noise in red.
FULL_SCALE_LOGIT = 8.0

# Transparent, yellow, orange, red: position along the scale, then red, green, blue.
_COLOURS = np.array([[0.0, 255, 235, 80], [0.5, 253, 141, 40], [1.0, 200, 10, 20]])
_MAX_OPACITY = 0.55


def overlay(
    pixels: NDArray[np.uint8],
    evidence_map: NDArray[np.float32],
    scale: int = 3,
    floor: float = 0.0,
) -> Image.Image:
    """Colour the regions that argue for pneumonia; those against it stay grey.

    Args:
        pixels: (height, width, 1) uint8, the prepared image.
        evidence_map: (rows, columns) log odds, any sign.
        scale: Enlargement of the picture.
        floor: Log odds that normal images reach too: only what is above is coloured.

    Returns:
        An RGB image of (height * scale, width * scale).
    """
    height, width = pixels.shape[0] * scale, pixels.shape[1] * scale
    grey = Image.fromarray(pixels[:, :, 0]).resize((width, height), Image.Resampling.BILINEAR)
    colour, opacity = _paint(evidence_map - floor, (height, width))
    blended = np.asarray(grey)[:, :, np.newaxis] * (1 - opacity) + colour * opacity
    return Image.fromarray((blended + 0.5).astype(np.uint8))


def overlay_jpeg(examination: Examination, scale: int = 3, quality: int = 88) -> bytes | None:
    """The overlay of an examination as a JPEG file; None where the image gave an error."""
    if examination.pixels is None or examination.evidence_map is None:
        return None
    buffer = io.BytesIO()
    floor = examination.evidence_floor
    picture = overlay(examination.pixels, examination.evidence_map, scale, floor)
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def heat_layer(
    size: tuple[int, int],
    evidence_map: NDArray[np.float32],
    scale: int = 3,
    floor: float = 0.0,
) -> Image.Image:
    """The colours of `overlay` alone, to be laid over the radiograph elsewhere.

    Args:
        size: (height, width) of the prepared image.
        evidence_map: (rows, columns) log odds.
        scale: Enlargement of the picture.
        floor: As in `overlay`.

    Returns:
        An RGBA image of (height * scale, width * scale), transparent where nothing argues.
    """
    colour, opacity = _paint(evidence_map - floor, (size[0] * scale, size[1] * scale))
    return Image.fromarray((np.concatenate([colour, opacity * 255], axis=2) + 0.5).astype(np.uint8))


def _paint(
    evidence_map: NDArray[np.float32], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(height, width, 3) colours and (height, width, 1) opacity."""
    smooth = Image.fromarray(evidence_map.astype(np.float32)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    level = np.clip(np.asarray(smooth) / FULL_SCALE_LOGIT, 0, 1)
    colour = np.stack([np.interp(level, _COLOURS[:, 0], _COLOURS[:, c]) for c in (1, 2, 3)], axis=2)
    return colour, (_MAX_OPACITY * np.sqrt(level))[:, :, np.newaxis]
