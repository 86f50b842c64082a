"""Additions that round alike, whatever the order of a processor's float32 arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from export.convert.firm_adds import firm_add_scales, near_ties
from tests.conftest import ROOT

onnx = pytest.importorskip("onnx")

# Two additions of model 3.0.0 that gave x86-64 and aarch64 different sums.
UNFIRM = [
    ((0.2345078, 0.29371804, 0.33865747), (123, 120, 136)),
    ((0.22584556, 0.25327894, 0.35491413), (130, 125, 118)),
]
EVERY = np.arange(256, dtype=np.float32)


def _sums(scales: NDArray[np.float32], zero_points: NDArray[np.float32]) -> list[NDArray[np.intp]]:
    """All (256, 256) sums, by the orders and fusions that a kernel could choose."""
    a, b = EVERY[:, np.newaxis], EVERY[np.newaxis]
    first, second = scales[:2] / scales[2]
    za, zb, zc = zero_points

    def fused(x: NDArray[np.float32], y: np.float32, z: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(x.astype(np.float64) * y + z, np.float32)

    constant = zc - (first * za + second * zb)
    unfused_constant = zc - first * za - second * zb
    forms = [
        a * first + (b * second + constant),
        a * first + (b * second + unfused_constant),
        (a * first + b * second) + constant,
        (a - za) * first + (b - zb) * second + zc,
        fused(a, first, fused(b, second, constant + 0 * b)),
        fused(a - za, first, fused(b - zb, second, zc + 0 * b)),
        fused(a - za, first, (b - zb) * second) + zc,
    ]
    return [np.clip(np.rint(form), 0, 255).astype(int) for form in forms]


@pytest.mark.parametrize(("scales", "zero_points"), UNFIRM)
def test_orders_of_arithmetic_disagree_near_ties_and_nowhere_else(
    scales: tuple[float, float, float], zero_points: tuple[int, int, int]
) -> None:
    before = np.array(scales, np.float32)
    forms = _sums(before, np.array(zero_points, np.float32))
    different = sum(int((form != forms[0]).sum()) for form in forms)
    assert near_ties(before, zero_points) > 0 and different > 0

    name, (scale, zero_point) = next(iter(firm_add_scales(_model(scales, zero_points)).items()))
    assert name == "sum" and zero_point == zero_points[2]
    assert before[2] < scale < before[2] * 1.05
    after = np.array([*scales[:2], scale], np.float32)
    forms = _sums(after, np.array(zero_points, np.float32))
    assert near_ties(after, zero_points) == 0
    assert all((form == forms[0]).all() for form in forms)


def test_a_firm_scale_stays_and_a_chain_uses_the_new_ones() -> None:
    scales, zero_points = UNFIRM[0]
    model = _model(scales, zero_points, then=UNFIRM[1])
    found = firm_add_scales(model)
    assert list(found) == ["sum", "sum2"]
    first, second = (found[name] for name in ("sum", "sum2"))
    chained = np.array([first[0], UNFIRM[1][0][1], second[0]], np.float32)
    assert near_ties(chained, (zero_points[2], UNFIRM[1][1][1], UNFIRM[1][1][2])) == 0
    again = firm_add_scales(_model((*scales[:2], float(first[0])), zero_points))
    assert again["sum"] == first


def test_the_committed_model_has_no_near_ties() -> None:
    model = onnx.load(str(ROOT / "edge_runtime/models/default/model.onnx"))
    found = firm_add_scales(model)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    scales = {
        node.input[0]: values[node.input[1]].item()
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert len(found) == 10
    assert {name: float(scale) for name, (scale, _) in found.items()} == {
        name: scales[name] for name in found
    }


def _model(
    scales: tuple[float, float, float],
    zero_points: tuple[int, int, int],
    then: tuple[tuple[float, float, float], tuple[int, int, int]] | None = None,
) -> onnx.ModelProto:
    """uint8 a and b -> dequantised -> sum -> quantised; `then` adds b's like to that."""
    values: dict[str, np.generic] = {}
    nodes = []

    def node(kind: str, source: str, target: str, scale: float, zero_point: int) -> None:
        names = [f"{target}_scale", f"{target}_zero"]
        values[names[0]], values[names[1]] = np.float32(scale), np.uint8(zero_point)
        nodes.append(onnx.helper.make_node(kind, [source, *names], [target]))

    def add(a: str, b: str, total: str) -> None:
        nodes.append(onnx.helper.make_node("Add", [a, b], [total]))

    node("DequantizeLinear", "a8", "a", scales[0], zero_points[0])
    node("DequantizeLinear", "b8", "b", scales[1], zero_points[1])
    add("a", "b", "sum")
    node("QuantizeLinear", "sum", "sum8", scales[2], zero_points[2])
    # The file's inputs come from quantised tensors, each with a float one before it.
    for name, i in (("a", 0), ("b", 1)):
        node("QuantizeLinear", f"{name}_float", f"{name}8", scales[i], zero_points[i])
    if then is not None:
        node("DequantizeLinear", "sum8", "a2", scales[2], zero_points[2])
        node("QuantizeLinear", "c_float", "c8", then[0][1], then[1][1])
        node("DequantizeLinear", "c8", "b2", then[0][1], then[1][1])
        add("a2", "b2", "sum2")
        node("QuantizeLinear", "sum2", "sum28", then[0][2], then[1][2])
    graph = onnx.helper.make_graph(
        nodes,
        "adds",
        [],
        [],
        [onnx.numpy_helper.from_array(np.array(v), name) for name, v in values.items()],
    )
    return onnx.helper.make_model(graph)
