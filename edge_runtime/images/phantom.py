"""Draws synthetic chest radiographs: for the demo, the known-answer test and the tests.

They look like radiographs from across a room and nothing more; no conclusion about patients can
be drawn from them. "Disease" is one or two soft bright patches inside the lung fields.

`draw_phantom` is what known answers and tests are made of, and never changes. `draw_film` is drawn
with more care, so that a model that learned from films has something to call normal: the demo shows
every kind of answer with it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

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
    return as_jpeg(draw_phantom(seed, pneumonia, height, width))


def as_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A drawing, (height, width) uint8, as the bytes of a greyscale JPEG of quality 90."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def phantom_file(name: str, pneumonia: bool) -> bytes | None:
    """The bytes behind a name like "phantom/17" in a list of images; None for any other name."""
    seed = name.removeprefix(PREFIX)
    if seed == name:
        return None
    return phantom_jpeg(int(seed), pneumonia, height=240, width=256)


def draw_film(
    seed: int, density: float = 0.0, height: int = 448, width: int = 512
) -> NDArray[np.uint8]:
    """One synthetic frontal film, (height, width) uint8, with ribs, spine, heart and diaphragm.

    Args:
        seed: Decides all of it.
        density: Of two patches inside the lungs, as a share of full scale; 0 is none.
        height: Of the film, pixels.
        width: Of the film, pixels.
    """
    return draw_films(seed, (density,), height, width)[0]


def draw_films(
    seed: int, densities: Sequence[float], height: int = 448, width: int = 512
) -> list[NDArray[np.uint8]]:
    """`draw_film` of each density, (height, width) uint8 each; what they share is drawn once."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij", sparse=True
    )
    lean, size = rng.uniform(-0.04, 0.04), rng.uniform(0.96, 1.06)
    x, y = (x - lean) / size, y / size
    across = np.abs(x)

    def grain(pixels: int) -> NDArray[np.float64]:
        """Standard normal, of spots of so many pixels."""
        coarse = rng.normal(0, 1, (height // pixels, width // pixels)).astype(np.float32)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image, np.float64)

    body = np.maximum(
        _soft_ellipse(x, y, 0, 0.35, 0.98, 1.5, softness=0.04),
        _soft_ellipse(x, y, 0, 0.95, 1.15, 1.25, softness=0.05),
    )
    dome = 0.575 - 0.12 * np.exp(-(((across - 0.42) / 0.28) ** 2)) + 0.04 * (x > 0)
    half = 0.156 * (1 + 0.35 * np.clip(y, -0.7, 0.7))  # lungs are narrow above and wide below
    radius = np.sqrt(((across - 0.477 - 0.05 * y) / half) ** 2 + (np.abs(y - 0.067) / 0.704) ** 2.6)
    lungs = 1 / (1 + np.exp((radius - 1) / 0.056)) / (1 + np.exp((y - dome) / 0.02))
    image = 0.84 * body * (1 - 0.237 * across**2) - 0.493 * lungs
    image += 0.19 * np.exp(-((x / 0.11) ** 2)) * body  # mediastinum
    vertebrae = 0.5 + 0.5 * np.cos(2 * np.pi * y / 0.16)
    image += 0.029 * vertebrae * np.exp(-((x / 0.09) ** 2)) * body
    heart = np.maximum(
        _soft_ellipse(x, y, 0.13, 0.30, 0.25, 0.27, softness=0.05),
        _soft_ellipse(x, y, 0.02, 0.05, 0.13, 0.45, softness=0.08),
    )
    image += 0.286 * heart * lungs**0.3
    image -= 0.115 * np.exp(-((x / 0.035) ** 2)) * (y < -0.35) * body  # trachea
    behind = (y + 0.512 * (across - 0.3) ** 2 - 0.25 * across) / 0.186
    ribs = np.clip(np.cos(2 * np.pi * behind), 0, 1) ** 1.9
    image += 0.085 * ribs * np.exp(-(((across - 0.45) / 0.35) ** 2)) * body
    before = (y - 0.55 * across) / 0.205
    image += 0.047 * np.clip(np.cos(2 * np.pi * before), 0, 1) ** 3 * (across > 0.25) * body
    clavicles = np.exp(-(((y + 0.66 - 0.22 * across) / 0.028) ** 2))
    image += 0.09 * clavicles * (across < 0.75) * (across > 0.08)
    hila = np.exp(-(((across - 0.2) / 0.16) ** 2) - ((y - 0.05) / 0.3) ** 2)
    image += 0.129 * hila * lungs * (1 + 0.8 * grain(16))
    image += 0.026 * (grain(8) + grain(20)) * lungs * (0.4 + hila)
    image += 0.008 * grain(12) * body
    before_patches, healthy = rng.bit_generator.state, image
    films = []
    for density in densities:
        rng.bit_generator.state, image = before_patches, healthy.copy()
        if density:
            for side in (-1.0, 1.0):
                cx, cy = side * rng.uniform(0.38, 0.48), rng.uniform(-0.2, 0.35)
                patch = np.exp(-(((x - cx) / 0.2) ** 2 + ((y - cy) / 0.22) ** 2))
                image += density * patch * lungs * (1 + 0.2 * grain(16))
        image = 1.158 * np.clip(image, 0, None) + 0.021 + rng.normal(0, 0.007, image.shape)
        films.append(np.asarray(np.clip(image, 0, 1) * 255 + 0.5, np.uint8))
    return films


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
