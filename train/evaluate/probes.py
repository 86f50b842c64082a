"""Another hospital's images with less and less detail.

If the AUC rises as detail is taken away, what was taken away misled the model: sharpness and
texture are the scanner's and the compression's before they are the lung's. Diagnosis of a model,
not a way to screen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.judge.scores import disease_logit
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval
from train.run.scores import predict_logits

DETAIL = (64, 48, 32, 24)  # pixels that are left of a side


def measure_detail(
    model: Any, pixels: NDArray[np.uint8], positive: NDArray[np.int64], activation: str
) -> dict[str, Estimate]:
    """AUC by the number of pixels that each side is reduced to and enlarged from again.

    Args:
        model: A Keras model from (n, h, w, 1) 0..255 to logits.
        pixels: (n, h, w, 1) uint8.
        positive: (n,) of 0 and 1.
        activation: Of the model.
    """
    found = {}
    for side in DETAIL:
        reduced = np.stack([_reduce(image[:, :, 0], side) for image in pixels])[..., np.newaxis]
        logits = disease_logit(predict_logits(model, reduced), activation)
        found[f"{side} px"] = auc_interval(positive, logits)
    return found


def _reduce(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
