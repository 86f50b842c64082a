"""Where the network's time goes, operator by operator: `cxr-edge bench --profile`.

ONNX Runtime tells it by its own profiler. LiteRT's Python package has none (`benchmark_model`, a
program of TensorFlow Lite's, has), and to run a graph in parts would time another one: its kernels
are chosen for the whole. So that engine is refused by name.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping

from edge_runtime.basics.frozen import frozen
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.engines import onnxruntime
from edge_runtime.engines.choose import choose_engine
from edge_runtime.errors import EngineError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.images.preprocess import prepare

SCHEMA = "cxr-edge/profile/1"
_RUNS = 50
_WARM_UP = 5
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
        engine: "onnxruntime", or "auto", which takes that.
        threads: Per inference.

    Raises:
        EngineError: Another engine, or it is not installed.
    """
    if engine not in ("auto", onnxruntime.NAME):
        raise EngineError(
            f"engine {engine} has no profiler in Python; --engine {onnxruntime.NAME} has, and "
            "TensorFlow Lite's benchmark_model profiles the .tflite file"
        )
    opened = load_bundle(bundle)
    _, file = choose_engine(onnxruntime.NAME, opened)
    pixels = prepare(phantom_jpeg(1, True), opened.manifest.input)
    with tempfile.TemporaryDirectory(prefix="cxr-edge-profile-") as folder:
        loaded = onnxruntime.load(opened.read(file), threads, os.path.join(folder, "p"))
        for _ in range(_WARM_UP + _RUNS):
            loaded.run(pixels)
        with open(loaded.end_profiling(), encoding="utf-8") as told:
            events = json.load(told)
    kinds: dict[str, list[float]] = {}
    nodes: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            name = f"{event['name'].removesuffix('_kernel_time')} ({kind})"
            nodes.setdefault(name, []).append(event["dur"] / 1e3)
    for name, times in nodes.items():
        kinds.setdefault(name.rpartition(" (")[2].rstrip(")"), []).append(_median(times))
    each = {name: (1, _median(times)) for name, times in nodes.items()}
    whole = sum(ms for _, ms in each.values())
    return Profile(
        SCHEMA,
        loaded.name,
        f"{opened.manifest.name} {opened.manifest.version}",
        _RUNS,
        threads,
        round(whole, 4),
        _ordered({kind: (len(times), sum(times)) for kind, times in kinds.items()}, whole),
        _ordered(each, whole),
    )


def _median(times: list[float]) -> float:
    kept = sorted(times[_WARM_UP:] or times)
    return kept[len(kept) // 2]


def _ordered(found: Mapping[str, tuple[int, float]], whole: float) -> tuple[Operator, ...]:
    rows = (
        Operator(name, count, round(ms, 4), round(ms / whole, 4) if whole else 0.0)
        for name, (count, ms) in found.items()
    )
    return tuple(sorted(rows, key=lambda row: -row.ms))


def table(profile: Profile) -> str:
    """The kinds of operators, then the nodes that take longest."""
    lines = [
        f"{profile.model} on {profile.engine}, {profile.threads} thread"
        f"{'s' * (profile.threads > 1)}: {profile.ms:.3f} ms in operators (medians of "
        f"{profile.runs} images; profiling itself costs some of it)",
        "",
        f"{'operator':28} {'nodes':>5} {'ms':>8} {'share':>6}",
    ]
    lines += [f"{o.name:28} {o.count:5} {o.ms:8.3f} {o.share:6.1%}" for o in profile.kinds]
    lines += ["", f"{'node':60} {'ms':>8} {'share':>6}"]
    lines += [f"{o.name[:60]:60} {o.ms:8.3f} {o.share:6.1%}" for o in profile.nodes[:_SHOWN]]
    return "\n".join(lines) + "\n"
