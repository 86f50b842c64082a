"""The evidence map laid over the radiograph.

The network's head is a 1x1 convolution whose output, before averaging, says how much each region
argues for disease: a class activation map that costs nothing and is quantised like the score.
Source: Zhou et al., CVPR 2016; for this head Grad-CAM (Selvaraju et al., ICCV 2017) is the same.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.errors import InvalidValueError
from edge_runtime.records.record import Examination

# Log odds at which the overlay is fully coloured. Fixed, so that two pictures can be compared and
# a normal radiograph stays grey instead of showing its own loudest noise in red.
FULL_SCALE_LOGIT = 8.0

# Transparent, yellow, orange, red: position along the scale, then red, green, blue.
_COLOURS = np.array([[0.0, 255, 235, 80], [0.5, 253, 141, 40], [1.0, 200, 10, 20]])
_MAX_OPACITY = 0.55
_LONGEST = 5.0  # side by side, of a picture


def overlay(
    pixels: NDArray[np.uint8],
    evidence_map: NDArray[np.float32],
    scale: int = 3,
    floor: float = 0.0,
    aspect: float = 1.0,
) -> Image.Image:
    """Colour the regions that argue for disease; those against it stay grey.

    Args:
        pixels: (height, width, 1) uint8, the prepared image.
        evidence_map: (rows, columns) log odds, any sign.
        scale: Enlargement of the picture.
        floor: Log odds that normal images reach too: only what is above is coloured.

        aspect: Width by height of the film: prepared images are stretched to a square.

    Returns:
        An RGB image of `picture_size`.
    """
    height, width = picture_size(pixels, scale, aspect)
    grey = Image.fromarray(pixels[:, :, 0]).resize((width, height), Image.Resampling.BILINEAR)
    colour, opacity = _paint(evidence_map - floor, (height, width))
    blended = np.asarray(grey)[:, :, np.newaxis] * (1 - opacity) + colour * opacity
    return Image.fromarray((blended + 0.5).astype(np.uint8))


def overlay_jpeg(
    examination: Examination, scale: int = 3, quality: int = 88, finding: str | None = None
) -> bytes | None:
    """The overlay of an examination as a JPEG file; None of an image that was not judged.

    Args:
        examination: Of one image.
        scale: As in `overlay`.
        quality: Of the JPEG.
        finding: Colour what argues for this finding alone.
    """
    if not has_heatmap(examination):
        return None
    buffer = io.BytesIO()
    overlay_of(examination, scale, finding).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def has_heatmap(examination: Examination) -> bool:
    """Not of an error, and not of what the gate refused: its evidence means nothing."""
    return examination.record.decision is not None and examination.evidence_map is not None


def overlay_of(examination: Examination, scale: int = 3, finding: str | None = None) -> Image.Image:
    """`overlay` of an examination that has a heatmap."""
    assert examination.pixels is not None
    floor, aspect = examination.evidence_floor, examination.aspect
    return overlay(examination.pixels, _map_of(examination, finding), scale, floor, aspect)


def _map_of(examination: Examination, finding: str | None) -> NDArray[np.float32]:
    """(rows, columns) of any disease, or of one finding.

    Raises:
        InvalidValueError: The model tells no such finding.
    """
    assert examination.evidence_map is not None
    if finding is None:
        return examination.evidence_map
    maps = examination.finding_maps or {}
    if finding not in maps:
        raise InvalidValueError(
            f"no finding {finding[:40]!r}; this model tells {', '.join(maps) or 'none by itself'}"
        )
    return maps[finding]


def plain_jpeg(examination: Examination, scale: int = 3, quality: int = 88) -> bytes:
    """The film as the model saw it, in its own proportions."""
    assert examination.pixels is not None
    height, width = picture_size(examination.pixels, scale, examination.aspect)
    image = Image.fromarray(np.ascontiguousarray(examination.pixels[:, :, 0]))
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def heat_png(examination: Examination, scale: float = 3, finding: str | None = None) -> bytes:
    """The colours of an examination that has a heatmap, to be laid over `plain_jpeg`."""
    assert examination.pixels is not None
    size = picture_size(examination.pixels, scale, examination.aspect)
    buffer = io.BytesIO()
    evidence = _map_of(examination, finding)
    heat_layer(size, evidence, examination.evidence_floor).save(buffer, "PNG")
    return buffer.getvalue()


def picture_size(pixels: NDArray[np.uint8], scale: float, aspect: float) -> tuple[int, int]:
    """(height, width): the longer side of (height, width, 1) pixels times `scale`."""
    longer = scale * max(pixels.shape[:2])
    aspect = min(max(aspect, 1 / _LONGEST), _LONGEST)
    height, width = (longer, longer * aspect) if aspect < 1 else (longer / aspect, longer)
    return max(1, round(height)), max(1, round(width))


def heat_layer(
    size: tuple[int, int], evidence_map: NDArray[np.float32], floor: float = 0.0
) -> Image.Image:
    """The colours of `overlay` alone, to be laid over the radiograph elsewhere.

    Args:
        size: (height, width) of the picture.
        evidence_map: (rows, columns) log odds.
        floor: As in `overlay`.

    Returns:
        An RGBA image, transparent where nothing argues.
    """
    colour, opacity = _paint(evidence_map - floor, size)
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
