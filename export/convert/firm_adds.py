"""Scales at which a quantised addition rounds alike on every processor.

ONNX Runtime adds two uint8 tensors in float32: a rA + b rB + constant, rounded to the nearest
integer. Where that sum lies within a few float32 roundings of halfway between two integers, kernels
that fuse the multiplication with the addition and kernels that do not round it apart, and an image
gets one score on x86-64 and another on Arm. There are only 256 x 256 sums, so all of them can be
looked at, and the output's scale widened by hundredths of a percent until none is near.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.errors import EngineError

# Above what five float32 roundings of numbers up to 512 can amount to (1.5e-4).
MARGIN = 2e-4
_STEP = 1e-5
_TRIES = 20_000


def near_ties(scales: Sequence[np.float32], zero_points: Sequence[int]) -> int:
    """How many of the sums in uint8's range lie within MARGIN of halfway.

    Args:
        scales: Of the two inputs and the output.
        zero_points: Of the same three.
    """
    levels = np.arange(256, dtype=np.float64)
    first, second = ((levels - zero_points[i]) * np.float64(scales[i] / scales[2]) for i in (0, 1))
    sums: NDArray[np.float64] = first[:, np.newaxis] + second + zero_points[2]
    near = np.abs(sums - np.floor(sums) - 0.5) < MARGIN
    return int(np.count_nonzero(near & (sums > 0) & (sums < 255)))


def firm_add_scales(proto: onnx.ModelProto) -> dict[str, tuple[np.float32, np.uint8]]:
    """By the name of each addition's float output: a scale without near ties, and its zero point.

    Args:
        proto: QDQ model with uint8 activations.

    Raises:
        EngineError: No scale within 20 % of the calibrated one is free of them.
    """
    values = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    found: dict[str, tuple[np.float32, np.uint8]] = {}
    for add in (node for node in proto.graph.node if node.op_type == "Add"):
        inputs = []
        for name in add.input:
            dequantise = makers[name]
            source = makers[dequantise.input[0]].input[0]
            inputs.append(found.get(source, _parameters(dequantise, values)))
        (quantise,) = (
            n for n in proto.graph.node
            if n.op_type == "QuantizeLinear" and n.input[0] == add.output[0]
        )  # fmt: skip
        scale, zero_point = _parameters(quantise, values)
        zero_points = (int(inputs[0][1]), int(inputs[1][1]), int(zero_point))
        for i in range(_TRIES):
            wider = np.float32(scale * (1 + i * _STEP))
            if near_ties((inputs[0][0], inputs[1][0], wider), zero_points) == 0:
                break
        else:
            raise EngineError(f"{add.name}: every scale near {scale} has sums that lie halfway")
        found[add.output[0]] = (wider, zero_point)
    return found


def _parameters(
    node: onnx.NodeProto, values: dict[str, NDArray[np.generic]]
) -> tuple[np.float32, np.uint8]:
    return np.float32(values[node.input[1]].item()), np.uint8(values[node.input[2]].item())
