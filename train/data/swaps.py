"""Give one radiograph the grey levels, the amplitude spectrum or the frame of another.

In training they make these worthless as signs of the label; in the counterfactual test they show
how much a model leans on them. All take and give (height, width) uint8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def match_histogram(
    pixels: NDArray[np.uint8], donor: NDArray[np.uint8], share: float
) -> NDArray[np.uint8]:
    """Move the grey levels `share` of the way to the donor's distribution."""
    own = np.bincount(pixels.ravel(), minlength=256).cumsum()
    other = np.bincount(donor.ravel(), minlength=256).cumsum()
    matched = np.interp(own, other, np.arange(256))
    table = (1 - share) * np.arange(256) + share * matched
    return np.asarray((table + 0.5).astype(np.uint8)[pixels])


def mix_spectrum(
    pixels: NDArray[np.uint8], donor: NDArray[np.uint8], share: float
) -> NDArray[np.uint8]:
    """Keep the phase, which holds the shapes; move the amplitude towards the donor's.

    Source: Xu et al., A Fourier-based Framework for Domain Generalization, CVPR 2021.
    """
    spectrum = np.fft.rfft2(pixels.astype(np.float32))
    amplitude = np.abs(spectrum)
    wanted = (1 - share) * amplitude + share * np.abs(np.fft.rfft2(donor.astype(np.float32)))
    mixed = np.fft.irfft2(spectrum * (wanted / np.maximum(amplitude, 1e-3)), s=pixels.shape)
    return np.asarray(np.clip(mixed + 0.5, 0, 255), dtype=np.uint8)


def swap_frame(
    pixels: NDArray[np.uint8], donor: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The middle stays; what lies outside a soft-edged box becomes the donor's.

    Shoulders, markers and collimation then say nothing about the label.
    Source: the mixed-background test of Xiao et al., Noise or Signal, ICLR 2021.
    """
    height, width = pixels.shape
    sides = rng.uniform((0.04, 0.04, 0.06, 0.06), (0.16, 0.16, 0.2, 0.16))
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    soft = rng.uniform(0.01, 0.05)

    def inside(position: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
        return np.clip(np.minimum(position - low, 1 - high - position) / soft + 0.5, 0, 1)

    mask = np.outer(inside(y, sides[2], sides[3]), inside(x, sides[0], sides[1]))
    return np.asarray(donor + (pixels.astype(np.float32) - donor) * mask + 0.5, dtype=np.uint8)
