"""Keras -> .onnx, float32 and int8 (QDQ, U8/S8), through tf2onnx and ONNX Runtime's quantiser.

Types: uint8 activations and int8 weights, twice as fast as uint8 ones where the processor has VNNI.
On x86 without it full-range int8 weights saturate and give the same score for every image,
silently: there the runtime makes them unsigned when it loads the file (docs/decisions/0031). 7-bit
int8 weights are right everywhere, but decide less often as the float model does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_runtime.errors import EngineError
from edge_runtime.images.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT
from export.convert.bias_correction import INT7_LEVELS, INT8_LEVELS, weight_scales
from export.convert.firm_adds import firm_add_scales
from export.convert.inference_model import normalise
from export.convert.to_tflite import with_full_range

# int8 and uint8 hold the same numbers; int7 is int8 in the reduced range of 7 bits. Each with the
# largest quantised weight.
WEIGHTS = {"int8": INT8_LEVELS, "uint8": INT8_LEVELS, "int7": INT7_LEVELS}
OPSET = 17  # 18 adds a Transpose, 21 is refused by tf2onnx


def to_float_onnx(model: keras.Model) -> bytes:
    """float32 weights and activations; the input is the Keras model's own."""
    spec = tf.TensorSpec(model.input_shape, model.inputs[0].dtype, name="image")
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=[spec], opset=OPSET)
    _name_outputs(proto)
    settle_names(proto)
    return bytes(proto.SerializeToString())


def to_int8_onnx(
    core: keras.Model,
    representative: NDArray[np.uint8],
    weights: str = "int8",
) -> bytes:
    """Per-channel 8-bit weights, 8-bit activations, uint8 pixels in.

    Args:
        core: Network that takes normalised pixels, its biases corrected for `weights`' levels.
        representative: (n, height, width, 1) uint8, for the activations' ranges.
        weights: One of WEIGHTS.

    Raises:
        EngineError: The input's quantisation is not exactly the normalisation.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (str(Path(folder) / n) for n in ("a.onnx", "b.onnx", "c.onnx"))
        Path(source).write_bytes(to_float_onnx(core))
        # Without this step the folded batch norms would stay float.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        grids = _weight_grids(onnx.load(prepared), weights)

        def quantise() -> onnx.ModelProto:
            quantize_static(
                prepared,
                target,
                _Representative(with_full_range(representative)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QUInt8 if weights == "uint8" else QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"TensorQuantOverrides": grids},
            )
            return onnx.load(target)

        # Twice: the additions' scales can be looked at only when there are some.
        for name, (scale, zero_point) in firm_add_scales(quantise()).items():
            grids[name] = [{"scale": np.array(scale), "zero_point": np.array(zero_point)}]
        proto = quantise()
    _take_pixels(proto)
    for tensor in proto.graph.initializer:
        # Zero points come as lists of numbers; the runtime flips bytes (decision 31).
        if tensor.data_type == TensorProto.INT8:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    proto.doc_string = ""
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _weight_grids(proto: onnx.ModelProto, weights: str) -> dict[str, list[dict[str, Any]]]:
    """Scales and zero points of every convolution's weights, for ONNX Runtime's quantiser.

    Its own choice for symmetric uint8 puts the largest weight half a step outside of the range.
    """
    values = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    kind, zero_point = (
        (QuantType.QUInt8, np.uint8(128)) if weights == "uint8" else (QuantType.QInt8, np.int8(0))
    )
    return {
        name: [
            {"quant_type": kind, "axis": 0, "scale": scale, "zero_point": zero_point}
            for scale in weight_scales(values[name], 0, WEIGHTS[weights])
        ]
        for name in (node.input[1] for node in proto.graph.node if node.op_type == "Conv")
    }


class _Representative(CalibrationDataReader):
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._images = iter(pixels)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": normalise(image)[np.newaxis]}


def _name_outputs(proto: onnx.ModelProto) -> None:
    """Call the outputs "map" (rank 4) and "features" (rank 2)."""
    graph = proto.graph
    for output in graph.output:
        rank = len(output.type.tensor_type.shape.dim)
        wanted = "map" if rank == 4 else "features"
        _rename(graph, output.name, wanted)
        output.name = wanted


def settle_names(proto: onnx.ModelProto) -> None:
    """Name everything by its place in the graph: the same model gives the same file.

    tf2onnx numbers names, and merges equal constants, in an order that follows Python's random
    hashes. Inputs and outputs keep their names; shapes of inner tensors are inferred again by
    whoever needs them.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names: dict[str, str] = {v.name: v.name for v in (*graph.input, *graph.output)} | {"": ""}
    used: list[onnx.TensorProto] = []
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
        for place, name in enumerate(node.input):
            if name in constants and name not in names:
                names[name] = f"constant_{len(used)}"
                used.append(constants[name])
            node.input[place] = names[name]
        for place, name in enumerate(node.output):
            names.setdefault(name, node.name if place == 0 else f"{node.name}_{place}")
            node.output[place] = names[name]
    for tensor in used:
        tensor.name = names[tensor.name]
    settled = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in used]
    del graph.initializer[:]
    graph.initializer.extend(settled)
    del graph.value_info[:]


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def _take_pixels(proto: onnx.ModelProto) -> None:
    """Let the graph take uint8 pixels where it would quantise float ones.

    The first QuantizeLinear's scale and zero point, 1/128 and 128, are the normalisation; the
    pixels are already its output. A Reshape before it (NHWC and NCHW are the same bytes for one
    channel) works on uint8 as well.
    """
    graph = proto.graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    (node,) = [n for n in graph.node if "image" in n.input]
    name = "image"
    if node.op_type == "Reshape":
        name = node.output[0]
        (node,) = [n for n in graph.node if name in n.input]
    found = None
    if node.op_type == "QuantizeLinear":
        found = (values[node.input[1]].item(), values[node.input[2]].item())
    if found != (PIXEL_SCALE, PIXEL_ZERO_POINT):
        raise EngineError(
            f"int8 ONNX input begins with {node.op_type} of scale and zero point {found}, not "
            f"{(PIXEL_SCALE, PIXEL_ZERO_POINT)}: pixels would be normalised wrongly"
        )
    quantised = node.output[0]
    graph.node.remove(node)
    _rename(graph, quantised, name)
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.UINT8, shape))
    for info in [v for v in graph.value_info if v.name in (name, quantised)]:
        graph.value_info.remove(info)
