"""Films spoilt on purpose, from which the quality gate learns to tell what is wrong with one.

Each takes and gives prepared pixels (height, width, 1) uint8. None of it is ever trained on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edge_runtime.judge.quality import Flag

Pixels = NDArray[np.uint8]
Spoil = Callable[[Pixels, np.random.Generator], Pixels]


def _turn(quarters: int) -> Spoil:
    return lambda pixels, rng: np.ascontiguousarray(np.rot90(pixels, quarters))


def _lean(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """By 25 to 45 degrees, to either side, as a picture of a film that lies askew."""
    angle = float(rng.uniform(25, 45) * rng.choice((-1, 1)))
    return _from(_image(pixels).rotate(angle, Image.Resampling.BILINEAR))


def _mirror(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(pixels[:, ::-1])


def _half(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The upper, lower, left or right half, stretched as preparation would."""
    height, width = pixels.shape[:2]
    share = rng.uniform(0.45, 0.6)
    side = int(rng.integers(4))
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    if side == 0:
        bottom = share * height
    elif side == 1:
        top = (1 - share) * height
    elif side == 2:
        right = share * width
    else:
        left = (1 - share) * width
    image = _image(pixels)
    return _from(
        image.resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom))
    )


def _cover(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A rectangle of one grey over one lung."""
    height, width = pixels.shape[:2]
    left = rng.uniform(0.04, 0.12) + (0.45 if rng.random() < 0.5 else 0.0)
    top = rng.uniform(0.08, 0.25)
    covered = pixels.copy()
    covered[
        int(top * height) : int((top + rng.uniform(0.45, 0.6)) * height),
        int(left * width) : int((left + rng.uniform(0.33, 0.42)) * width),
    ] = rng.choice((0, 255, int(rng.integers(256))))
    return covered


def _blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    radius = rng.uniform(0.018, 0.04) * pixels.shape[1]
    return _from(_image(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _posterise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Four to six grey levels."""
    steps = int(rng.integers(3, 6))
    return np.asarray(np.round(pixels / 255 * steps) / steps * 255, np.uint8)


def _photograph(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Of a screen: in perspective on a dark room, with its grid, a reflection and compression."""
    height, width = pixels.shape[:2]
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)], float)
    inset = rng.uniform(0.02, 0.16, (4, 2)) * (width, height)
    target = corners + inset * np.sign((width / 2, height / 2) - corners)
    coefficients = _perspective(target, corners)
    room = int(rng.integers(5, 60))
    moved = _image(pixels).transform(
        (width, height),
        Image.Transform.PERSPECTIVE,
        coefficients,
        Image.Resampling.BILINEAR,
        fillcolor=room,
    )
    values = np.asarray(moved, np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 9)
    grid = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
    values = values * (1 + rng.uniform(0.05, 0.15) * grid)
    cx, cy = rng.uniform(0.1, 0.9, 2) * (width, height)
    glare = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (rng.uniform(0.08, 0.25) * width) ** 2))
    values = values + rng.uniform(30, 110) * glare
    buffer = io.BytesIO()
    _image(np.clip(values, 0, 255).astype(np.uint8)[:, :, np.newaxis]).save(
        buffer, format="JPEG", quality=int(rng.integers(40, 80))
    )
    return _from(Image.open(buffer))


# By name: what the gate calls it, and what is done.
SPOILT: Mapping[str, tuple[Flag, Spoil]] = {
    "a quarter to the left": (Flag.ROTATED, _turn(1)),
    "upside down": (Flag.ROTATED, _turn(2)),
    "a quarter to the right": (Flag.ROTATED, _turn(3)),
    "leaning": (Flag.ROTATED, _lean),
    "mirrored": (Flag.MIRRORED, _mirror),
    "half of the film": (Flag.INCOMPLETE, _half),
    "one lung covered": (Flag.INCOMPLETE, _cover),
    "blurred": (Flag.DEGRADED, _blur),
    "few grey levels": (Flag.DEGRADED, _posterise),
    "photograph of a screen": (Flag.DEGRADED, _photograph),
}


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0])


def _from(image: Image.Image) -> Pixels:
    return np.asarray(image, np.uint8)[:, :, np.newaxis]


def _perspective(source: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, ...]:
    """Pillow's eight coefficients of the map that takes four points to four others."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return tuple(float(c) for c in np.linalg.solve(np.array(rows), target.ravel()))
