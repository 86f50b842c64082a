"""The trained Keras model without its training parts, in the two forms that are exported.

    core:  normalised float32 (1, h, w, 1) -> map (1, r, c, units), features (1, channels)
    whole: uint8 pixels (1, h, w, 1)       -> the same

The quantised files are made from `core`: their uint8 input's scale (1/128) and zero point (128)
are the normalisation. The float files are made from `whole`, so that both take the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT


def load_core(folder: Path) -> keras.Model:
    """The network between normalisation and the mean over the map.

    Raises:
        InvalidValueError: The model has not the layers that export needs.
    """
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    names = [layer.name for layer in model.layers]
    if names[1] != "normalise" or not {"features", "evidence_map"} <= set(names):
        raise InvalidValueError(f"{folder}/model.keras: unexpected layers {names}")
    height, width = model.input_shape[1:3]
    inputs = keras.Input((height, width, 1), batch_size=1, name="image")
    x = inputs
    for layer in model.layers[2 : names.index("features") + 1]:
        x = layer(x)
    evidence = keras.layers.Identity(name="map")(model.get_layer("evidence_map")(x))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, {"map": evidence, "features": pooled}, name="core")


def add_normalisation(core: keras.Model) -> keras.Model:
    """`core` with uint8 pixels as input."""
    inputs = keras.Input(core.input_shape[1:], batch_size=1, dtype="uint8", name="image")
    x = keras.layers.Rescaling(PIXEL_SCALE, offset=-PIXEL_ZERO_POINT * PIXEL_SCALE)(inputs)
    return keras.Model(inputs, core(x), name="whole")


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the quantised models' input parameters do, for calibration."""
    return ((pixels.astype(np.float32) - PIXEL_ZERO_POINT) * PIXEL_SCALE).astype(np.float32)


def keras_logits(core: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits (n, units) of the float Keras model."""
    parts = []
    for i in range(0, len(pixels), 64):
        # Called as a plain function: the batch of one is only the exported signature.
        outputs = core(normalise(pixels[i : i + 64]), training=False)
        parts.append(np.asarray(outputs["map"]).mean(axis=(1, 2), dtype=np.float64))
    return np.concatenate(parts)
