"""The one definition of image -> tensor. Training, calibration, benchmarks and devices call it.

    file bytes -> greyscale (readers) -> stretch to height x width (Pillow, bilinear with
    antialiasing) -> uint8 tensor of shape (height, width, 1)

The exported models take these very bytes. Normalisation, `(pixel - 128) / 128`, is not an
operation: it is the scale (1/128) and the zero point (128) of the models' quantised input.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.grey import read_grey
from edge_runtime.images.readers.facts import ImageFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.basics.beside import Task

PIXEL_SCALE = 1 / 128
PIXEL_ZERO_POINT = 128

# A JPEG is decoded at 1/2, 1/4 or 1/8 scale only while it stays this many times the tensor's
# size. The decoder averages over what it leaves out, so little of this is needed; models before
# 5.2.0 say 2 (docs/decisions/0039).
DECODE_OVERSAMPLING = 1.25
DECODE_OVERSAMPLINGS = (DECODE_OVERSAMPLING, 2)

# Waking a second thread takes as long as resampling some 100,000 pixels: it gets the smaller part,
# and none of a small image.
_SHARE_BESIDE = 0.4
_WORTH_SHARING = 250_000
_RESAMPLED_AT_ONCE = 4_000_000  # pixels


@frozen
class InputSpec:
    """What a model takes. Manifests state it in full; beside the size only one field may differ."""

    height: int
    width: int
    channels: int = 1
    color_mode: str = "L"
    resize_filter: str = "bilinear"
    decode_oversampling: float = DECODE_OVERSAMPLING
    dtype: str = "uint8"
    layout: str = "NHWC"
    scale: float = PIXEL_SCALE
    zero_point: int = PIXEL_ZERO_POINT

    def __post_init__(self) -> None:
        if not (32 <= self.height <= 1024 and 32 <= self.width <= 1024):
            raise InvalidValueError(
                f"input size must be 32 to 1024 pixels a side, got {self.height} x {self.width}"
            )
        if self.decode_oversampling not in DECODE_OVERSAMPLINGS:
            raise InvalidValueError(
                "input.decode_oversampling: this version prepares "
                f"{' or '.join(map(str, DECODE_OVERSAMPLINGS))}, got {self.decode_oversampling!r}"
            )
        # As manifests write it: 2, and not 2.0.
        if self.decode_oversampling == int(self.decode_oversampling):
            object.__setattr__(self, "decode_oversampling", int(self.decode_oversampling))
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if field.name != "decode_oversampling" and value != field.default:
                raise InvalidValueError(
                    f"input.{field.name}: this version prepares only {field.default!r}, "
                    f"got {value!r}"
                )


def prepare(data: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Image file bytes -> (height, width, 1) uint8, 0 to 255.

    Raises:
        ImageError: The bytes cannot be read as an image.
    """
    return resize(decode(data, spec)[0], spec)


def decode(data: bytes, spec: InputSpec) -> tuple[Image.Image, ImageFacts]:
    """The first half of `prepare`: a greyscale image large enough for the tensor, and its facts.

    Raises:
        ImageError: The bytes cannot be read as an image.
    """
    return read_grey(data, least_size(spec))


def least_size(spec: InputSpec, times: float | None = None) -> tuple[int, int]:
    """(height, width) below which no JPEG is decoded, in pixels.

    Args:
        spec: Of the model.
        times: Another rule than the model's own, to compare with.
    """
    times = spec.decode_oversampling if times is None else times
    return math.ceil(spec.height * times), math.ceil(spec.width * times)


def prepare_pixels(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Greyscale pixels already in memory, (any height, any width) uint8 -> (height, width, 1)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or 0 in pixels.shape:
        raise InvalidValueError(
            f"pixels must be a non-empty (height, width) uint8 array, "
            f"got shape {pixels.shape} {pixels.dtype}"
        )
    return resize(Image.fromarray(pixels), spec)


def resize(
    grey: Image.Image,
    spec: InputSpec,
    start: Callable[..., Task[Image.Image]] | None = None,
) -> NDArray[np.uint8]:
    """The second half: stretch mode "L" to (height, width, 1) uint8; no aspect ratio is kept.

    Args:
        grey: The decoded image.
        spec: The size to stretch it to.
        start: `Beside.start` where a second processor is idle: it then resamples some of the rows.
            The bytes are the same.
    """
    if grey.size != (spec.width, spec.height):
        if start is not None and grey.height > 1 and grey.width * grey.height >= _WORTH_SHARING:
            grey = _resample_rows_in_two(grey, spec.width, start)
        elif grey.height > grey.width or spec.height != spec.width:
            # Pillow resamples rows, rounds to 8 bits, then columns. Newer versions turn the order
            # round where that is faster, which gives other bytes: here rows always come first.
            grey = grey.resize((spec.width, grey.height), Image.Resampling.BILINEAR)
        grey = grey.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.asarray(grey)[:, :, np.newaxis]


def _resample_rows(grey: Image.Image, width: int, top: int, bottom: int) -> Image.Image:
    """Rows `top` to `bottom`, each resampled by itself."""
    # Not `resize(box=...)`: it would resample the columns too, to what they are. A crop is a copy:
    # of a large film it is made in parts.
    step = max(1, _RESAMPLED_AT_ONCE // grey.width)
    if bottom - top <= step:
        part = grey.crop((0, top, grey.width, bottom))
        return part.resize((width, part.height), Image.Resampling.BILINEAR)
    rows = Image.new("L", (width, bottom - top))
    for begin in range(top, bottom, step):
        part = _resample_rows(grey, width, begin, min(begin + step, bottom))
        rows.paste(part, (0, begin - top))
    return rows


def _resample_rows_in_two(
    grey: Image.Image, width: int, start: Callable[..., Task[Image.Image]]
) -> Image.Image:
    cut = round(grey.height * _SHARE_BESIDE)
    above = start(_resample_rows, grey, width, 0, cut)
    below = _resample_rows(grey, width, cut, grey.height)
    whole = Image.new("L", (width, grey.height))
    whole.paste(below, (0, cut))
    whole.paste(above.result(), (0, 0))
    return whole
