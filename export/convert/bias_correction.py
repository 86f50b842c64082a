"""Biases that make up for what rounding the weights shifts.

Rounding a kernel W to its int8 grid leaves an error dW. After ReLU6 the inputs of a layer are
positive, so dW does not average out: it shifts each channel by the mean of conv(x, dW), and the
small kernels of depthwise layers shift most. The shift is known before anything is converted, and
the biases are int32, so they can take it back at no cost to the device.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
ICCV 2019, section 4.2; the means are measured here, on the representative images. Which part of
the error this removes: docs/decisions/0017.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.convert.inference_model import normalise

INT8_LEVELS = 127  # symmetric: -127 to 127, as the TFLite specification has it
INT7_LEVELS = 63
_BATCH = 8


def weight_scales(
    weights: NDArray[np.float32], axis: int, levels: int = INT8_LEVELS
) -> NDArray[np.float32]:
    """(channels,) scales of symmetric per-channel weights: the largest becomes ±`levels`.

    Args:
        weights: Of any shape.
        axis: That of the output channels.
        levels: Largest quantised value.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    largest = np.abs(weights).max(axis=others)
    return np.where(largest > 0, largest / np.float32(levels), np.float32(1)).astype(np.float32)


def round_weights(
    weights: NDArray[np.float32], axis: int, levels: int = INT8_LEVELS
) -> NDArray[np.float32]:
    """`weights` as the int8 file will hold them, dequantised."""
    shape = [-1 if i == axis % weights.ndim else 1 for i in range(weights.ndim)]
    scales = weight_scales(weights, axis, levels).reshape(shape)
    return np.asarray(np.round(weights / scales) * scales, np.float32)


def correct_biases(
    core: keras.Model, representative: NDArray[np.uint8], levels: int = INT8_LEVELS
) -> keras.Model:
    """A copy of `core` to convert to int8: the same kernels, and biases moved against the shift.

    Convolutions with neither a bias nor batch statistics behind them stay as they are.

    Args:
        core: Network that takes normalised pixels.
        representative: (n, height, width, 1) uint8, at least one.
        levels: Largest quantised weight.
    """
    copy = keras.models.clone_model(core)
    copy.set_weights(core.get_weights())
    layers = {layer.name: layer for layer in convolutions(copy)}
    errors = {name: _rounding_error(layer, levels) for name, layer in layers.items()}
    shifts: dict[str, NDArray[np.float64]] = {}
    batches = range(0, len(representative), _BATCH)
    for start in tqdm(batches, "shifts by rounded weights", disable=None):
        pixels = normalise(representative[start : start + _BATCH])
        for name, inputs in _inputs_of_convolutions(copy, pixels):
            shifted = keras.ops.convert_to_numpy(_convolve(layers[name], inputs, errors[name]))
            mean = shifted.mean(axis=(0, 1, 2), dtype=np.float64)
            share = len(pixels) / len(representative)
            shifts[name] = shifts.get(name, np.zeros_like(mean)) + share * mean
    followers = dict(_batch_normalisations(copy))
    for name, layer in layers.items():
        if layer.use_bias:
            layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) - shifts[name])
        elif name in followers:
            mean = followers[name].moving_mean
            mean.assign(keras.ops.convert_to_numpy(mean) + shifts[name])
    return copy


def channel_axis(layer: keras.layers.Layer) -> int:
    """That of a kernel's output channels."""
    return 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else 3


def convolutions(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """All of them, in nested models too, in the order in which they run."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from convolutions(layer)
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            yield layer


def _rounding_error(layer: keras.layers.Layer, levels: int) -> NDArray[np.float32]:
    kernel: NDArray[np.float32] = keras.ops.convert_to_numpy(layer.kernel)
    return round_weights(kernel, channel_axis(layer), levels) - kernel


def _batch_normalisations(
    model: keras.Model,
) -> Iterator[tuple[str, keras.layers.BatchNormalization]]:
    """By the name of the convolution that each follows."""
    before = {id(layer.output): layer.name for layer in convolutions(model)}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_normalisations(layer)
        elif isinstance(layer, keras.layers.BatchNormalization) and id(layer.input) in before:
            yield before[id(layer.input)], layer


def _inputs_of_convolutions(
    model: keras.Model, inputs: NDArray[np.float32] | keras.KerasTensor
) -> Iterator[tuple[str, keras.KerasTensor]]:
    # A nested model's own `input` is its placeholder; an operation's is what it is called with.
    wanted = {
        layer.name: keras.Operation.input.fget(layer)
        for layer in model.layers
        if isinstance(layer, keras.Model | keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    }
    values = keras.Model(model.inputs, wanted)([inputs], training=False)
    for name, value in values.items():
        layer = model.get_layer(name)
        if isinstance(layer, keras.Model):
            yield from _inputs_of_convolutions(layer, value)
        else:
            yield name, value


def _convolve(
    layer: keras.layers.Layer, inputs: keras.KerasTensor, kernel: NDArray[np.float32]
) -> keras.KerasTensor:
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    convolve = keras.ops.depthwise_conv if depthwise else keras.ops.conv
    return convolve(inputs, kernel, layer.strides, layer.padding, dilation_rate=layer.dilation_rate)
