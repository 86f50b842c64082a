"""Where the network's time goes, operator by operator: `cxr-edge bench --profile`.

ONNX Runtime and OpenVINO tell it by profilers of their own. LiteRT's Python package has none, so
its graph is cut after every operator and timed up to there, with the kernels that LiteRT chooses
for it: what an operator takes is what the graph takes longer with it. That is exact in sum and
rough in the single operator: what takes nothing by itself (a kernel that is fused with the one
before) shows as 0.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.engines import litert, onnxruntime, openvino
from edge_runtime.engines.choose import choose_engine
from edge_runtime.errors import EngineError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.images.preprocess import prepare

SCHEMA = "cxr-edge/profile/1"
if TYPE_CHECKING:
    from numpy.typing import NDArray

_RUNS = 50
_WARM_UP = 5
_LEAST_OF = 25  # runs of a cut graph
_SHOWN = 10  # nodes


@frozen
class Operator:
    """All nodes of one kind, or one node; milliseconds of one image."""

    name: str
    count: int
    ms: float
    share: float


@frozen
class Profile:
    schema: str
    engine: str
    model: str
    runs: int
    threads: int
    ms: float  # of all nodes of one image
    kinds: tuple[Operator, ...]  # the longest first
    nodes: tuple[Operator, ...]


def run_profile(bundle: str | None = None, engine: str = "auto", threads: int = 1) -> Profile:
    """Profile one drawn image, again and again.

    Args:
        bundle: As for `load_bundle`.
        engine: "litert", "onnxruntime", "openvino", or "auto".
        threads: Per inference.

    Raises:
        EngineError: Another engine, or it is not installed.
    """
    opened = load_bundle(bundle)
    module, file = choose_engine(engine, opened)
    pixels = prepare(phantom_jpeg(1, True), opened.manifest.input)
    model = opened.read(file)
    if module.NAME == litert.NAME:
        name, each, runs = _cut(model, pixels, threads)
    elif module.NAME == onnxruntime.NAME:
        name, each, runs = _profiled(model, pixels, threads)
    elif module.NAME == openvino.NAME:
        name, each, runs = _counted(model, pixels, threads)
    else:
        raise EngineError(
            f"engine {module.NAME} cannot be profiled; litert, onnxruntime and openvino can"
        )
    kinds: dict[str, list[float]] = {}
    for _, kind, ms in each:
        kinds.setdefault(kind, []).append(ms)
    whole = sum(ms for *_, ms in each)
    return Profile(
        SCHEMA,
        name,
        f"{opened.manifest.name} {opened.manifest.version}",
        runs,
        threads,
        round(whole, 4),
        _ordered([(kind, len(times), sum(times)) for kind, times in kinds.items()], whole),
        _ordered([(f"{node} ({kind})", 1, ms) for node, kind, ms in each], whole),
    )


Each = list[tuple[str, str, float]]  # node, kind, milliseconds


def _profiled(model: bytes, pixels: NDArray[np.uint8], threads: int) -> tuple[str, Each, int]:
    """By ONNX Runtime's profiler: medians."""
    with tempfile.TemporaryDirectory(prefix="cxr-edge-profile-") as folder:
        loaded = onnxruntime.load(model, threads, os.path.join(folder, "p"))
        for _ in range(_WARM_UP + _RUNS):
            loaded.run(pixels)
        with open(loaded.end_profiling(), encoding="utf-8") as told:
            events = json.load(told)
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            nodes.setdefault(node, []).append(event["dur"] / 1e3)
    return loaded.name, [(*node, _median(times)) for node, times in nodes.items()], _RUNS


def _counted(model: bytes, pixels: NDArray[np.uint8], threads: int) -> tuple[str, Each, int]:
    """By OpenVINO's counters: medians."""
    loaded = openvino.load(model, threads, profile=True)
    nodes: dict[tuple[str, str], list[float]] = {}
    for number in range(_WARM_UP + _RUNS):
        loaded.run(pixels)
        if number >= _WARM_UP:
            for node, kind, ms in loaded.operators():
                nodes.setdefault((node, kind), []).append(ms)
    return loaded.name, [(*node, _median(times)) for node, times in nodes.items()], _RUNS


def _cut(model: bytes, pixels: NDArray[np.uint8], threads: int) -> tuple[str, Each, int]:
    """By the least time of the graph up to each operator."""
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EngineError(f"engine {litert.NAME} cannot be profiled: {error}") from error

    def parsed() -> Any:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))

    whole = parsed()
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    operators = whole.subgraphs[0].operators
    each: Each = []
    before = 0.0
    for count, operator in enumerate(operators, 1):
        part = parsed()
        graph = part.subgraphs[0]
        graph.operators = graph.operators[:count]
        graph.outputs, part.signatureDefs = list(operator.outputs), None
        builder = flatbuffers.Builder(len(model))
        builder.Finish(part.Pack(builder), b"TFL3")
        interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=threads)
        interpreter.allocate_tensors()
        (source,) = interpreter.get_input_details()
        interpreter.set_tensor(source["index"], pixels[np.newaxis])
        times = []
        for _ in range(_WARM_UP + _LEAST_OF):
            start = time.perf_counter()
            interpreter.invoke()
            times.append(time.perf_counter() - start)
        until = max(before, min(times) * 1e3)
        kind = kinds[whole.operatorCodes[operator.opcodeIndex].builtinCode]
        each.append((f"{count - 1}", kind, until - before))
        before = until
    return litert.load(model, threads).name, each, _LEAST_OF


def _median(times: list[float]) -> float:
    kept = sorted(times[_WARM_UP:] or times)
    return kept[len(kept) // 2]


def _ordered(found: list[tuple[str, int, float]], whole: float) -> tuple[Operator, ...]:
    rows = (
        Operator(name, count, round(ms, 4), round(ms / whole, 4) if whole else 0.0)
        for name, count, ms in found
    )
    return tuple(sorted(rows, key=lambda row: -row.ms))


def table(profile: Profile) -> str:
    """The kinds of operators, then the nodes that take longest."""
    lines = [
        f"{profile.model} on {profile.engine}, {profile.threads} thread"
        f"{'s' * (profile.threads > 1)}: {profile.ms:.3f} ms in operators (of "
        f"{profile.runs} images; measuring itself costs some of it)",
        "",
        f"{'operator':28} {'nodes':>5} {'ms':>8} {'share':>6}",
    ]
    lines += [f"{o.name:28} {o.count:5} {o.ms:8.3f} {o.share:6.1%}" for o in profile.kinds]
    lines += ["", f"{'node':60} {'ms':>8} {'share':>6}"]
    lines += [f"{o.name[:60]:60} {o.ms:8.3f} {o.share:6.1%}" for o in profile.nodes[:_SHOWN]]
    return "\n".join(lines) + "\n"
