"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for swish.

Made for devices: every operation has an int8 kernel. Stem and head keep their width.

Source: Tan and Le, EfficientNet, ICML 2019; the lite variants: TensorFlow TPU models,
efficientnet/lite (2020).
"""

from __future__ import annotations

import keras

# Kernel, stride, expansion, channels out, repeats; B0's.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM, _HEAD = 32, 1280
_EPSILON = 1e-3


def efficientnet_lite0(
    input_shape: tuple[int, int, int] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    include_top: bool = False,
    weights: str | None = None,
) -> keras.Model:
    """(n, h, w, 3) scaled by (pixel - 127) / 128 -> (n, h / 32, w / 32, 1280).

    Args:
        input_shape: As for keras.applications; or `input_tensor`.
        input_tensor: What the network is built on.
        include_top: Must be False.
        weights: A file of `train weights`, or None for random ones.
    """
    assert not include_top
    inputs = keras.Input(input_shape) if input_tensor is None else input_tensor
    x = _activated(_convolution(inputs, _STEM, 3, 2, "stem"), "stem")
    number = 0
    for kernel, stride, expansion, channels, repeats in _STAGES:
        for i in range(repeats):
            x = _block(x, kernel, stride if i == 0 else 1, expansion, channels, f"block_{number}")
            number += 1
    x = _activated(_convolution(x, _HEAD, 1, 1, "head"), "head")
    model = keras.Model(keras.utils.get_source_inputs(inputs), x, name="efficientnet_lite0")
    if weights is not None:
        model.load_weights(weights)
    return model


def _block(
    x: keras.KerasTensor, kernel: int, stride: int, expansion: int, channels: int, name: str
) -> keras.KerasTensor:
    """Expand, filter each channel, project; with what came in added where shapes allow."""
    before = x
    if expansion > 1:
        wide = before.shape[-1] * expansion
        x = _activated(_convolution(x, wide, 1, 1, f"{name}_expand"), f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_depthwise_bn")(x)
    x = _activated(x, f"{name}_depthwise")
    x = _convolution(x, channels, 1, 1, f"{name}_project")
    if stride == 1 and before.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}_add")([before, x])
    return x


def _convolution(
    x: keras.KerasTensor, channels: int, kernel: int, stride: int, name: str
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=name)(x)
    return keras.layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn")(x)


def _activated(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)
