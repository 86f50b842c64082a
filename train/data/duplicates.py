"""Pictures that are the same, or nearly: a difference hash of 256 bits (imagehash's dhash).

It survives compression, scaling and exposure. Source: N. Krawetz, "Kind of Like That" (2013).
"""

from __future__ import annotations

import dataclasses

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 16
BITS = _SIDE * _SIDE
# Measured on training films of Chest X-Ray Images (Pneumonia): at 0.6 of the size, 10 % brighter
# and JPEG quality 30 together, 269 of 270 copies differ by at most 12 bits; of 5,216 films no two
# patients' are nearer than 14 (tests/train/audit/test_audit.py holds both).
NEAR_BITS = 12
_ROWS = 512  # compared at a time


@dataclasses.dataclass(frozen=True)
class Pair:
    """Indices of two images and the number of differing bits, 0 to 256."""

    first: int
    second: int
    distance: int


def perceptual_hash(grey: Image.Image) -> NDArray[np.bool_]:
    """Mode "L", any size -> (256,) bits."""
    return np.asarray(imagehash.dhash(grey, _SIDE).hash, bool).ravel()


def near_pairs(hashes: NDArray[np.bool_], limit: int = NEAR_BITS) -> list[Pair]:
    """All pairs at most `limit` bits apart, nearest first.

    Args:
        hashes: (n, 256).
        limit: Largest distance.
    """
    pairs = [pair for pair in near_between(hashes, hashes, limit) if pair.first < pair.second]
    return sorted(pairs, key=lambda p: (p.distance, p.first, p.second))


def near_between(
    ones: NDArray[np.bool_], others: NDArray[np.bool_], limit: int = NEAR_BITS
) -> list[Pair]:
    """The same between two sets of hashes (n, 256) and (m, 256), in no order."""
    signs, against = (np.where(each, 1, -1).astype(np.float32) for each in (ones, others))
    pairs = []
    for start in range(0, len(signs), _ROWS):
        distance = (BITS - signs[start : start + _ROWS] @ against.T) / 2
        for row, column in np.argwhere(distance <= limit):
            pairs.append(Pair(int(start + row), int(column), int(distance[row, column])))
    return pairs
