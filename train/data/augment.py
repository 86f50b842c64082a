"""Random changes of training images, greyscale uint8 in and out.

Each image's changes depend on (seed, epoch, index) alone, so an interrupted run that is started
again sees exactly what it would have seen. Beside the usual geometry and exposure they undo what
separates the classes without being disease: compression, sharpness, resolution and aspect ratio;
and, by swaps between images, grey levels, texture and what surrounds the lungs.
"""

from __future__ import annotations

import dataclasses
import io
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from train.data.swaps import match_histogram, mix_spectrum, swap_frame
from train.recipe import Augmentation


def augment(
    pixels: NDArray[np.uint8],
    policy: Augmentation,
    rng: np.random.Generator,
    donor: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """One image (height, width, 1) uint8 -> the same shape and dtype.

    Args:
        pixels: The image.
        policy: What may change, and how far.
        rng: Its draws decide.
        donor: Another image of the same shape, for the swaps; without it there are none.
    """
    return augment_with_places(pixels, None, policy, rng, donor).pixels


class Augmented(NamedTuple):
    pixels: NDArray[np.uint8]  # (height, width, 1)
    places: NDArray[np.float32] | None  # (k, rows, columns), moved along
    mirrored: bool  # left and right are exchanged


def augment_with_places(
    pixels: NDArray[np.uint8],
    places: NDArray[np.float32] | None,
    policy: Augmentation,
    rng: np.random.Generator,
    donor: NDArray[np.uint8] | None = None,
) -> Augmented:
    """As `augment`, and moves maps of places (k, rows, columns), 0 to 1, along with the film.

    A map may be coarser than the film; what comes in from outside of it is 0.
    """
    policy = _scale(policy, rng.uniform(*policy.strength))
    plain = pixels[:, :, 0]
    if donor is not None:
        plain = _take_from(plain, donor[:, :, 0], policy, rng)
    image = Image.fromarray(plain)
    warp = _draw_warp(image.size, policy, rng)
    moved = None if places is None else np.stack([_move(p, warp, image.size) for p in places])
    image = _warp(image, warp)
    image = _degrade(image, policy, rng)
    table = _tone_curve(policy, rng)
    result = table[np.asarray(image)]
    if policy.noise:
        sigma = rng.uniform(0, policy.noise) * 255
        noise = rng.standard_normal(result.shape, dtype=np.float32) * sigma
        result = np.clip(result + noise + 0.5, 0, 255).astype(np.uint8)
    if policy.erase and rng.random() < policy.erase:
        _erase(result, rng)
    mirrored = warp[0] < 0  # no rotation of a policy goes beyond a quarter turn
    return Augmented(np.asarray(result[:, :, np.newaxis], dtype=np.uint8), moved, mirrored)


def _scale(policy: Augmentation, strength: float) -> Augmentation:
    """The policy with every range shrunk towards "no change" by `strength` (0 to 1)."""
    if strength == 1:
        return policy
    lowest = policy.jpeg_quality and int(95 - strength * (95 - policy.jpeg_quality))
    return dataclasses.replace(
        policy,
        rotation_degrees=policy.rotation_degrees * strength,
        shear_degrees=policy.shear_degrees * strength,
        zoom=_power(policy.zoom, strength),
        aspect=policy.aspect * strength,
        shift=policy.shift * strength,
        gamma=_power(policy.gamma, strength),
        contrast=policy.contrast * strength,
        brightness=policy.brightness * strength,
        noise=policy.noise * strength,
        blur=policy.blur * strength,
        jpeg_quality=lowest,
        downscale=policy.downscale**strength,
    )


def _take_from(
    pixels: NDArray[np.uint8],
    donor: NDArray[np.uint8],
    policy: Augmentation,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Grey levels, amplitude spectrum or frame of the donor, each with its probability."""
    if rng.random() < policy.histogram_swap:
        pixels = match_histogram(pixels, donor, rng.random())
    if rng.random() < policy.spectrum_swap:
        pixels = mix_spectrum(pixels, donor, rng.random())
    if rng.random() < policy.frame_swap:
        pixels = swap_frame(pixels, donor, rng)
    return pixels


def _power(factors: tuple[float, float], strength: float) -> tuple[float, float]:
    return factors[0] ** strength, factors[1] ** strength


# x of the input is a * x + b * y + c, its y is d * x + e * y + f, in pixels of the output.
Warp = tuple[float, float, float, float, float, float]


def _draw_warp(size: tuple[int, int], policy: Augmentation, rng: np.random.Generator) -> Warp:
    """Mirror, rotation, shear, zoom, aspect and shift as one affine map, for (width, height)."""
    width, height = size
    angle = math.radians(rng.uniform(-policy.rotation_degrees, policy.rotation_degrees))
    zoom = math.exp(rng.uniform(math.log(policy.zoom[0]), math.log(policy.zoom[1])))
    stretch = math.exp(rng.uniform(-policy.aspect, policy.aspect) / 2)
    dx, dy = rng.uniform(-policy.shift, policy.shift, size=2) * (width, height)
    mirror = -1.0 if rng.random() < policy.flip else 1.0
    # Pillow wants the inverse map: output pixel -> input pixel.
    sx, sy = mirror / (zoom * stretch), stretch / zoom
    a, b = math.cos(angle) * sx, -math.sin(angle) * sy
    d, e = math.sin(angle) * sx, math.cos(angle) * sy
    if policy.shear_degrees:
        shear = math.tan(math.radians(rng.uniform(-policy.shear_degrees, policy.shear_degrees)))
        b, e = b + shear * a, e + shear * d
    # Pillow samples at pixel centres, so the middle of the picture is here.
    cx, cy = width / 2, height / 2
    c = cx - a * (cx + dx) - b * (cy + dy)
    f = cy - d * (cx + dx) - e * (cy + dy)
    return a, b, c, d, e, f


def _warp(image: Image.Image, warp: Warp) -> Image.Image:
    if warp == (1, 0, 0, 0, 1, 0):
        return image
    return image.transform(image.size, Image.Transform.AFFINE, warp, Image.Resampling.BILINEAR)


def _move(place: NDArray[np.float32], warp: Warp, size: tuple[int, int]) -> NDArray[np.float32]:
    """(rows, columns): the same map on a grid of another size over the same film."""
    rows, columns = place.shape
    across, down = columns / size[0], rows / size[1]  # cells per pixel
    a, b, c, d, e, f = warp
    coarse = (a, b * across / down, c * across, d * down / across, e, f * down)
    return np.asarray(_warp(Image.fromarray(place.astype(np.float32)), coarse))


def _degrade(image: Image.Image, policy: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Lower resolution, blur and JPEG compression, each for about half of the images."""
    if policy.downscale < 1 and rng.random() < 0.5:
        factor = rng.uniform(policy.downscale, 1)
        small = (max(8, int(image.width * factor)), max(8, int(image.height * factor)))
        full = image.size
        image = image.resize(small, Image.Resampling.BILINEAR)
        image = image.resize(full, Image.Resampling.BILINEAR)
    if policy.blur and rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, policy.blur)))
    if policy.jpeg_quality and rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=int(rng.integers(policy.jpeg_quality, 96)))
        image = Image.open(buffer)
    return image


def _tone_curve(policy: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gamma, contrast and brightness as one table of 256 values."""
    level = np.arange(256) / 255
    gamma = math.exp(rng.uniform(math.log(policy.gamma[0]), math.log(policy.gamma[1])))
    contrast = math.exp(rng.uniform(-policy.contrast, policy.contrast))
    brightness = rng.uniform(-policy.brightness, policy.brightness)
    curve = (level**gamma - 0.5) * contrast + 0.5 + brightness
    return np.asarray(np.clip(curve * 255 + 0.5, 0, 255), dtype=np.uint8)


def _erase(pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Overwrite one rectangle of 2 to 15 % of the area with a constant grey, in place.

    Source: Zhong et al., Random Erasing Data Augmentation, AAAI 2020.
    """
    height, width = pixels.shape
    area, ratio = rng.uniform(0.02, 0.15), math.exp(rng.uniform(-0.7, 0.7))
    h = min(height - 1, int(height * math.sqrt(area * ratio)))
    w = min(width - 1, int(width * math.sqrt(area / ratio)))
    top, left = rng.integers(0, height - h), rng.integers(0, width - w)
    pixels[top : top + h, left : left + w] = rng.integers(0, 256)
