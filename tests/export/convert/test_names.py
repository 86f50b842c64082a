"""The same model gives the same ONNX file, whatever Python's random hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.convert.to_onnx import settle_names
from tests.conftest import ROOT

_EXPORT = """
import sys, hashlib
from pathlib import Path
from export.convert.inference_model import add_normalisation, load_core
from export.convert.to_onnx import to_float_onnx
core = load_core(Path(sys.argv[1]))
print(hashlib.sha256(to_float_onnx(add_normalisation(core))).hexdigest())
"""


def test_files_are_equal_over_hash_seeds(smoke_run: Path) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _EXPORT, str(smoke_run)],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout.split()[-1]
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(digests) == 1


def model(names: list[str]) -> onnx.ModelProto:
    """(x * a + b) * a, with names as given."""
    a, b, first, second = names
    nodes = [
        helper.make_node("Mul", ["x", a], [first], "n9"),
        helper.make_node("Add", [first, b], [second], "n3"),
        helper.make_node("Mul", [second, a], ["y"], "n1"),
    ]
    constants = [
        numpy_helper.from_array(np.array([value], np.float32), name)
        for value, name in ((3.0, b), (2.0, a), (7.0, "unused"))
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    inner = [helper.make_tensor_value_info(first, TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants, value_info=inner)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_names_follow_the_graph_and_nothing_else() -> None:
    results = []
    for names in (["a__1", "b__2", "t__3", "u__4"], ["q", "p", "z:0", "s"]):
        proto = model(names)
        settle_names(proto)
        onnx.checker.check_model(proto)
        results.append(proto.SerializeToString())
    assert results[0] == results[1]
    found = onnx.load_from_string(results[0]).graph
    assert [n.name for n in found.node] == ["Mul_0", "Add_1", "Mul_2"]
    assert [t.name for t in found.initializer] == ["constant_0", "constant_1"]
    assert (found.input[0].name, found.output[0].name) == ("x", "y")


def test_settled_names_compute_the_same() -> None:
    runtime = pytest.importorskip("onnxruntime")
    proto = model(["a", "b", "t", "u"])
    settle_names(proto)
    session = runtime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"x": np.array([5.0], np.float32)})
    assert found.tolist() == [26.0]
