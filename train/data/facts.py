"""A film's coarse look, which is no medicine either; its other facts: `images.film_facts`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL = 16


def thumbnail(grey: Image.Image) -> NDArray[np.float32]:
    """(256,) grey values of the 16 x 16 reduction."""
    small = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()
