"""Whether an engine's kernels add products of uint8 and int8 in 16 bits, which saturate.

On x86 without VNNI they may. It is asked of the very kernels that are installed, with products that
cannot be had in 16 bits; no list of processors is needed. The .onnx files that ask are written
here, byte by byte, for a device has no onnx package.

Source: onnx.proto3, for field numbers; ONNX operators MatMulInteger 10 and QLinearConv 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

_WIDTH = 32  # products in a sum
_LARGEST = _WIDTH * 255 * 127  # what they come to
# Field numbers, and TensorProto.DataType.
_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET = 1, 7, 8
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_CONSTANT, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND = 1, 2, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6


@lru_cache(maxsize=1)
def onnxruntime_saturates(onnxruntime: Any) -> bool:
    """Whether ONNX Runtime's integer product goes wrong here.

    Args:
        onnxruntime: The module.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        integer_product(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"x": np.full((_WIDTH, _WIDTH), 255, np.uint8)})
    return bool((found != _LARGEST).any())


def openvino_saturates(core: Any) -> bool:
    """Whether OpenVINO's int8 convolution goes wrong here.

    Args:
        core: openvino.Core, whose CPU plugin is asked.
    """
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        # Or this thread, and every process that asks, would stay on one and the same processor.
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(
        core.read_model(quantised_convolution()), "CPU", settings
    ).create_infer_request()
    request.infer({"x": np.full((1, _WIDTH, 8, 8), 255, np.uint8)})
    return bool((request.get_tensor("y").data != _QUANTISED).any())


_QUANTISED = 200  # _LARGEST, divided by the scale of the output


def integer_product() -> bytes:
    """An .onnx file: uint8 x (32, 32) times constant int8 w (32, 32), all 127, gives int32 y."""
    weights = _tensor("w", _INT8, (_WIDTH, _WIDTH), bytes([127]) * _WIDTH**2)
    square = (_WIDTH, _WIDTH)
    return _file(
        "MatMulInteger", ("x", "w"), (weights,), _value("x", _UINT8, square),
        _value("y", _INT32, square),
    )  # fmt: skip


def quantised_convolution() -> bytes:
    """An .onnx file: a 1 by 1 convolution of uint8 x (1, 32, 8, 8) with the same weights; y alike.

    Where x is 255 everywhere, y is 200 everywhere.
    """
    scale = np.float32(_LARGEST / _QUANTISED).tobytes()
    one, zero = np.float32(1).tobytes(), b"\0"
    constants = (
        _tensor("x_scale", _FLOAT, (), one),
        _tensor("x_zero", _UINT8, (), zero),
        _tensor("w", _INT8, (_WIDTH, _WIDTH, 1, 1), bytes([127]) * _WIDTH**2),
        _tensor("w_scale", _FLOAT, (), one),
        _tensor("w_zero", _INT8, (), zero),
        _tensor("y_scale", _FLOAT, (), scale),
        _tensor("y_zero", _UINT8, (), zero),
    )
    names = ("x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero")
    shape = (1, _WIDTH, 8, 8)
    return _file(
        "QLinearConv", names, constants, _value("x", _UINT8, shape), _value("y", _UINT8, shape)
    )


def _file(
    kind: str, inputs: Sequence[str], constants: Sequence[bytes], source: bytes, target: bytes
) -> bytes:
    """One node from "x" to "y"."""
    node = (
        b"".join(_field(_NODE_INPUT, name.encode()) for name in inputs)
        + _field(_NODE_OUTPUT, b"y")
        + _field(_NODE_KIND, kind.encode())
    )
    graph = (
        _field(_GRAPH_NODE, node)
        + _field(_GRAPH_NAME, b"question")
        + b"".join(_field(_GRAPH_CONSTANT, constant) for constant in constants)
        + _field(_GRAPH_INPUT, source)
        + _field(_GRAPH_OUTPUT, target)
    )
    opset = _field(2, 17)
    return _field(_MODEL_IR, 8) + _field(_MODEL_GRAPH, graph) + _field(_MODEL_OPSET, opset)


def _tensor(name: str, kind: int, shape: Sequence[int], raw: bytes) -> bytes:
    return (
        b"".join(_field(_TENSOR_DIMS, size) for size in shape)
        + _field(_TENSOR_TYPE, kind)
        + _field(_TENSOR_NAME, name.encode())
        + _field(_TENSOR_RAW, raw)
    )


def _value(name: str, kind: int, shape: Sequence[int]) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def _field(number: int, content: bytes | int) -> bytes:
    """A varint or length-delimited field. Source: Protocol Buffers, "Encoding"."""
    if isinstance(content, int):
        return bytes([number << 3]) + _varint(content)
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
