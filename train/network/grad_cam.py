"""Which regions argue for pneumonia, for any recipe of ours.

The head "map" computes its evidence map anyway, and Grad-CAM would give the same. For other heads
it is Grad-CAM on the last feature map, by numbers that need no automatic differentiation: the
derivative of the logit along each channel's mean.
Source: Selvaraju et al., Grad-CAM, ICCV 2017.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.scores import disease_logit, disease_map
from train.network.build import FEATURES_LAYER, MAP_LAYER

_CHUNK = 256  # channels at a time, for memory


def evidence_maps(
    model: keras.Model, pixels: NDArray[np.uint8], activation: str
) -> NDArray[np.float32]:
    """(n, h, w, 1) uint8 -> (n, rows, columns) log odds of disease by region."""
    names = [layer.name for layer in model.layers]
    images = pixels.astype(np.float32)
    if MAP_LAYER in names:
        maps = np.asarray(keras.Model(model.input, model.get_layer(MAP_LAYER).output)(images))
        return np.stack([disease_map(one.astype(np.float32), activation) for one in maps])
    features = np.asarray(keras.Model(model.input, model.get_layer(FEATURES_LAYER).output)(images))
    head = model.layers[names.index(FEATURES_LAYER) + 1 :]
    return np.stack([_grad_cam(head, one[np.newaxis], activation) for one in features])


def _grad_cam(
    head: list[keras.Layer], features: NDArray[np.float32], activation: str
) -> NDArray[np.float32]:
    """(1, rows, columns, channels) -> (rows, columns), scaled to the logit that they explain.

    Grad-CAM's weight of a channel is the mean of the gradient over its places, which is the
    derivative along a uniform change of that channel: one forward pass per channel gives all.
    """

    def logit(batch: NDArray[np.float32]) -> NDArray[np.float64]:
        x = batch
        for layer in head:
            x = layer(x, training=False) if isinstance(layer, keras.layers.Dropout) else layer(x)
        return disease_logit(np.asarray(x, dtype=np.float64), activation)

    channels = features.shape[-1]
    step = 1e-2 * float(features.std() + 1e-6)
    changes = np.empty(channels)
    for start in range(0, channels, _CHUNK):
        chunk = np.arange(start, min(start + _CHUNK, channels))
        changed = np.repeat(features, len(chunk), axis=0)
        changed[np.arange(len(chunk)), :, :, chunk] += step
        changes[chunk] = logit(changed) - logit(features)
    # A change of every place by `step` adds step * places * mean gradient, and the map that sums
    # up to the logit is places * sum over channels of mean gradient * feature.
    return np.asarray(features[0] @ (changes / step), dtype=np.float32)
