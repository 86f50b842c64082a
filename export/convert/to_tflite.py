"""Keras -> .tflite, float32 and full-integer int8.

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018 (per-channel weights, per-tensor activations).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.errors import EngineError
from edge_runtime.images.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT
from export.convert.inference_model import normalise


def to_float_tflite(whole: keras.Model) -> bytes:
    """float32 weights and activations, uint8 pixels in."""
    with tempfile.TemporaryDirectory() as folder:
        _save(whole, folder)
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def to_int8_tflite(
    core: keras.Model, representative: NDArray[np.uint8], per_channel: bool = True
) -> bytes:
    """int8 throughout, uint8 pixels in; ranges from the representative images.

    Args:
        core: Network that takes normalised pixels, its biases corrected for int8 weights.
        representative: (n, height, width, 1) uint8.
        per_channel: A scale for each output channel of the weights; without, one for all.

    Raises:
        EngineError: The input's quantisation is not exactly the normalisation.
    """

    def images() -> Iterator[list[NDArray[np.float32]]]:
        for pixels in with_full_range(representative):
            yield [normalise(pixels)[np.newaxis]]

    with tempfile.TemporaryDirectory() as folder:
        _save(core, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
        converter._experimental_disable_per_channel = not per_channel
        model = bytes(converter.convert())
    scale, zero_point = _input_quantisation(model)
    if (scale, zero_point) != (PIXEL_SCALE, PIXEL_ZERO_POINT):
        raise EngineError(
            f"int8 input has scale {scale} and zero point {zero_point}, "
            f"not {PIXEL_SCALE} and {PIXEL_ZERO_POINT}: pixels would be normalised wrongly"
        )
    return model


def with_full_range(representative: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with one black and one white pixel in the first image.

    The input's range must come out as exactly 0 to 255, whatever the images hold.
    """
    images = representative.copy()
    images[0, 0, 0, 0], images[0, 0, 1, 0] = 0, 255
    return images


def _save(model: keras.Model, folder: str) -> None:
    spec = keras.InputSpec(shape=model.input_shape, dtype=model.inputs[0].dtype, name="image")
    model.export(folder, verbose=False, input_signature=[spec])


def _input_quantisation(model: bytes) -> tuple[float, int]:
    from ai_edge_litert.interpreter import Interpreter

    (detail,) = Interpreter(model_content=model).get_input_details()
    scale, zero_point = detail["quantization"]
    return float(scale), int(zero_point)
