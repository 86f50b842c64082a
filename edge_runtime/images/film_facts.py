"""Facts of a film that are no medicine: what a model could tell hospitals by, or be fooled by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

FULL_SIZE = (10**6, 10**6)  # for readers: never at a reduced scale, sharpness is a fact here
_STRIP_ROWS = 256
_DARK, _BRIGHT = 8, 240
_CORNER = 6  # a corner is a sixth of either side, where markers are


def film_facts(size_bytes: int, grey: Image) -> dict[str, float]:
    """Facts of one file that need no look at the lungs.

    Args:
        size_bytes: Of the file.
        grey: Mode "L", at full size. It is read in strips: little more memory is needed.
    """
    width, height = grey.size
    edge = max(1, width // 20)
    total = squares = border = steps = 0.0
    dark = 0
    for top in range(0, height, _STRIP_ROWS):
        strip = np.asarray(grey.crop((0, top, width, min(top + _STRIP_ROWS, height))))
        pixels = strip.astype(np.float32)
        total += float(pixels.sum(dtype=np.float64))
        squares += float((pixels * pixels).sum(dtype=np.float64))
        border += float(pixels[:, :edge].sum(dtype=np.float64))
        border += float(pixels[:, -edge:].sum(dtype=np.float64))
        steps += float(np.abs(np.diff(pixels, axis=1)).sum(dtype=np.float64))
        dark += int((strip < _DARK).sum())
    area = height * width
    mean = total / area
    return {
        "bytes per pixel": size_bytes / area,
        "pixel count": float(area),
        "aspect ratio": width / height,
        "mean": mean,
        "contrast": max(0.0, squares / area - mean * mean) ** 0.5,
        "border columns": border / (2 * edge * height),
        "black pixels": dark / area,
        "sharpness": steps / (height * max(1, width - 1)),
    }


def corner_facts(grey: Image) -> dict[str, float]:
    """The share of white pixels in the corners, where letters and markers stand.

    Args:
        grey: Mode "L".
    """
    width, height = grey.size
    side, depth = max(1, width // _CORNER), max(1, height // _CORNER)
    boxes = [(x, y, x + side, y + depth) for x in (0, width - side) for y in (0, height - depth)]
    shares = [float((np.asarray(grey.crop(box)) >= _BRIGHT).mean()) for box in boxes]
    return {"white in the corners": max(shares)}
