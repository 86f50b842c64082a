"""Biases that make up for rounded weights, and files that hold exactly those weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow")
onnx = pytest.importorskip("onnx")
keras = pytest.importorskip("keras")

from export.convert.bias_correction import (
    INT7_LEVELS,
    INT8_LEVELS,
    channel_axis,
    convolutions,
    correct_biases,
    round_weights,
    weight_scales,
)
from export.convert.inference_model import keras_logits, load_core, normalise
from export.convert.to_onnx import to_int8_onnx
from export.representative import choose_representative
from train.data.dataset import load_pixels
from train.run.finished import open_run


@pytest.mark.parametrize("levels", [INT8_LEVELS, INT7_LEVELS])
@pytest.mark.parametrize(("shape", "axis"), [((3, 3, 8, 1), 2), ((1, 1, 8, 5), 3)])
def test_weights_round_to_their_channels_grid(
    shape: tuple[int, ...], axis: int, levels: int
) -> None:
    weights = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    weights[(slice(None),) * axis + (0,)] = 0  # a channel of zeros
    scales = weight_scales(weights, axis, levels)
    rounded = round_weights(weights, axis, levels)
    assert scales.shape == (shape[axis],) and scales.dtype == rounded.dtype == np.float32
    quantised = np.moveaxis(rounded, axis, -1) / scales
    assert np.abs(quantised - np.rint(quantised)).max() < 1e-4
    others = tuple(i for i in range(quantised.ndim - 1))
    assert (np.abs(quantised).max(axis=others)[1:].round(4) == levels).all()
    error = np.abs(np.moveaxis(rounded - weights, axis, -1))
    assert (error <= scales * 0.5001).all() and error.max() > 0


def _network() -> keras.Model:
    """Nested as the trained one: convolutions with batch statistics, with a bias, with neither."""
    keras.utils.set_random_seed(3)
    inner = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="first")(inner)
    x = keras.layers.BatchNormalization(name="first_bn")(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="deep")(x)
    x = keras.layers.BatchNormalization(name="deep_bn")(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.Conv2D(4, 1, use_bias=False, name="bare")(x)
    body = keras.Model(inner, x, name="body")
    inputs = keras.Input((16, 16, 1), batch_size=1)
    features = body(inputs)
    evidence = keras.layers.Conv2D(1, 1, name="evidence_map")(features)
    return keras.Model(inputs, {"map": evidence})


def test_the_means_are_those_of_the_unrounded_weights() -> None:
    core = _network()
    before = [weights.copy() for weights in core.get_weights()]
    pixels = np.random.default_rng(2).integers(128, 256, (20, 16, 16, 1), dtype=np.uint8)
    copy = correct_biases(core, pixels, INT7_LEVELS)
    assert all((a == b).all() for a, b in zip(before, core.get_weights(), strict=True))

    body, mended = core.get_layer("body"), copy.get_layer("body")
    for name in ("first", "deep", "bare"):
        kernel = body.get_layer(name).kernel.numpy()
        assert (mended.get_layer(name).kernel.numpy() == kernel).all()
    # Each layer by itself, on what reaches it in the float network.
    for name, follower in (("first", "first_bn"), ("deep", "deep_bn")):
        layer, batch = body.get_layer(name), body.get_layer(follower)
        inputs = keras.Model(body.inputs, layer.input)([normalise(pixels)], training=False)
        exact = batch(layer(inputs), training=False).numpy().mean(axis=(0, 1, 2))
        kernel = layer.kernel.numpy()
        layer.kernel.assign(round_weights(kernel, channel_axis(layer), INT7_LEVELS))
        plain = batch(layer(inputs), training=False).numpy().mean(axis=(0, 1, 2))
        corrected = (
            mended.get_layer(follower)(layer(inputs), training=False).numpy().mean(axis=(0, 1, 2))
        )
        layer.kernel.assign(kernel)
        assert np.abs(corrected - exact).max() < 0.02 * np.abs(plain - exact).max()
    assert (copy.get_layer("evidence_map").bias.numpy() != 0).all()


def test_rounded_weights_come_nearer_to_the_float_logits(smoke_run: Path) -> None:
    run = open_run(smoke_run)
    core = load_core(run.folder)
    representative = load_pixels(
        None, choose_representative(run.splits.train, 60), run.input, "representative"
    )
    validation = load_pixels(None, run.splits.validation, run.input, "validation")
    exact = keras_logits(core, validation)

    def error(model: keras.Model) -> float:
        for layer in convolutions(model):
            kernel = layer.kernel.numpy()
            layer.kernel.assign(round_weights(kernel, channel_axis(layer), INT7_LEVELS))
        return float(np.sqrt(np.mean((keras_logits(model, validation) - exact) ** 2)))

    corrected = error(correct_biases(core, representative, INT7_LEVELS))
    assert corrected < 0.7 * error(core)


def test_both_files_hold_the_rounded_weights(smoke_run: Path, smoke_bundle: Path) -> None:
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    kernels = [
        (layer.kernel.numpy(), channel_axis(layer)) for layer in convolutions(load_core(smoke_run))
    ]
    expected = [_integers(kernel, axis, INT8_LEVELS) for kernel, axis in kernels]
    interpreter = interpreter_module.Interpreter(str(smoke_bundle / "model.tflite"))
    interpreter.allocate_tensors()
    details = {t["index"]: t for t in interpreter.get_tensor_details()}
    found = [
        np.moveaxis(
            interpreter.get_tensor(operation["inputs"][1]),
            details[operation["inputs"][1]]["quantization_parameters"]["quantized_dimension"],
            0,
        )
        for operation in interpreter._get_ops_details()
        if operation["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")
    ]
    _assert_same(found, expected)
    _assert_same(_onnx_weights((smoke_bundle / "model.onnx").read_bytes(), 0), expected)


def test_seven_bit_weights_too(smoke_run: Path) -> None:
    core = load_core(smoke_run)
    pixels = np.random.default_rng(5).integers(0, 256, (2, *core.input_shape[1:]), dtype=np.uint8)
    model = to_int8_onnx(core, pixels, "int7")
    expected = [
        _integers(layer.kernel.numpy(), channel_axis(layer), INT7_LEVELS)
        for layer in convolutions(core)
    ]
    _assert_same(_onnx_weights(model, 0), expected)


def _integers(kernel: NDArray[np.float32], axis: int, levels: int) -> NDArray[np.int64]:
    """(channels, the rest as in the kernel)."""
    moved = np.moveaxis(round_weights(kernel, axis, levels), axis, 0)
    scales = weight_scales(kernel, axis, levels)
    return np.rint(moved.reshape(len(moved), -1) / scales[:, np.newaxis]).astype(np.int64)


def _onnx_weights(model: bytes, zero_point: int) -> list[NDArray[np.int64]]:
    graph = onnx.load_from_string(model).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            weights, _, zero = (values[name] for name in makers[node.input[1]].input)
            assert (zero == zero_point).all()
            # (out, in, rows, columns) to the kernel's order
            found.append(weights.astype(np.int64).transpose(0, 2, 3, 1) - zero_point)
    return found


def _assert_same(found: list[NDArray[np.int64]], expected: list[NDArray[np.int64]]) -> None:
    """But for the sign of a channel, which folding a negative gamma turns."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        rows = one.reshape(len(one), -1).astype(np.int64)
        turned = np.sign((rows * other).sum(axis=1, keepdims=True))
        # Folding batch statistics in float32 may move a weight over a rounding edge.
        assert np.abs(rows - other * turned).max() <= 1
        assert np.mean(rows == other * turned) > 0.995
