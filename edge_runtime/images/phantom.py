"""Draws synthetic chest radiographs: for the demo, the known-answer test and the tests.

They look like radiographs from across a room and nothing more; no conclusion about patients can
be drawn from them. "Disease" is one or two soft bright patches inside the lung fields.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PREFIX = "phantom/"


def draw_phantom(
    seed: int, pneumonia: bool, height: int = 448, width: int = 512
) -> NDArray[np.uint8]:
    """One synthetic frontal chest radiograph, (height, width) uint8; the seed decides all of it."""
    rng = np.random.default_rng(seed)
    # Coordinates in units of the image: x, y in [-1, 1].
    y, x = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij", sparse=True
    )
    lean, size = rng.uniform(-0.08, 0.08), rng.uniform(0.9, 1.1)
    x, y = (x - lean) / size, y / size

    body = _soft_ellipse(x, y, 0.0, 0.25, 0.85, 1.25, softness=0.06)
    shoulders = _soft_ellipse(x, y, 0.0, 1.0, 1.15, 0.95, softness=0.1)
    image = 0.62 * np.maximum(body, shoulders)
    left = _soft_ellipse(x, y, -0.40, 0.02, 0.29, 0.62, softness=0.1)
    right = _soft_ellipse(x, y, 0.40, 0.02, 0.29, 0.62, softness=0.1)
    lungs = np.maximum(left, right)
    image -= 0.40 * lungs
    image += 0.20 * np.exp(-((x / 0.09) ** 2)) * body  # spine and mediastinum
    image += 0.30 * _soft_ellipse(x, y, 0.13, 0.30, 0.27, 0.30, softness=0.12)  # heart
    image += 0.30 / (1 + np.exp(-(y - 0.62 + 0.25 * x**2) / 0.03)) * body  # diaphragm
    spacing = rng.uniform(0.15, 0.18)
    ribs = np.cos(2 * np.pi * (y + 0.35 * np.abs(x) ** 1.5) / spacing)
    image += 0.05 * np.clip(ribs, 0, 1) * body
    if pneumonia:
        for _ in range(rng.integers(1, 3)):
            side = rng.choice([-1.0, 1.0])
            cx, cy = side * rng.uniform(0.32, 0.48), rng.uniform(-0.25, 0.40)
            rx, ry = rng.uniform(0.13, 0.22), rng.uniform(0.14, 0.26)
            patch = np.exp(-(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2))
            image += rng.uniform(0.26, 0.36) * patch * lungs
    image = image * rng.uniform(0.85, 1.1) + rng.uniform(0.02, 0.08)
    image += rng.normal(0.0, 0.015, size=image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def phantom_jpeg(seed: int, pneumonia: bool, height: int = 448, width: int = 512) -> bytes:
    """The same as the bytes of a greyscale JPEG of quality 90."""
    buffer = io.BytesIO()
    Image.fromarray(draw_phantom(seed, pneumonia, height, width)).save(
        buffer, format="JPEG", quality=90
    )
    return buffer.getvalue()


def phantom_file(name: str, pneumonia: bool) -> bytes | None:
    """The bytes behind a name like "phantom/17" in a list of images; None for any other name."""
    seed = name.removeprefix(PREFIX)
    if seed == name:
        return None
    return phantom_jpeg(int(seed), pneumonia, height=240, width=256)


def _soft_ellipse(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    softness: float,
) -> NDArray[np.float64]:
    radius = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
    return np.asarray(1 / (1 + np.exp((radius - 1) / softness)))
