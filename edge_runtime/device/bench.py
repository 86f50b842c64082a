"""Latency, throughput, cold start and memory of the runtime on the machine at hand.

Scenarios carry MLPerf Inference's names and meaning (Reddi et al., ISCA 2020): "single-stream" is
one image after the other, judged by percentiles of latency; "offline" is all images at once,
judged by images per second. MLPerf asks for ten minutes each; here the minimum is an option and
stands in the result.

Everything runs in rounds: each round gives every scenario a block of time in turn, and beside
each block a fixed piece of work that has nothing to do with this project is timed. Where a machine
is slow for a while, that work is slow with it, so two results are compared by the ratio to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edge_runtime import __version__
from edge_runtime.basics.processors import usable_processors
from edge_runtime.basics.versions import installed_versions
from edge_runtime.device.bench_result import (
    SCHEMA,
    BenchedImages,
    BenchedModel,
    BenchResult,
    ColdStart,
    Environment,
    Latency,
    Scenario,
)
from edge_runtime.device.machine import current_condition, describe_machine
from edge_runtime.engines.choose import engine_module
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import Input
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.record import STAGES
from edge_runtime.screener import Screener

_SYNTHETIC = 8  # drawn radiographs, where no images are given
_SYNTHETIC_SIZE = (1100, 1350)  # height and width like the median original radiograph's
_BLOCK_SECONDS = 0.1
_REFERENCE = np.random.default_rng(1).integers(0, 256, 400_000, dtype=np.uint8).tobytes()
_WARM_UP = 5


@dataclasses.dataclass
class _Collected:
    """What one scenario has measured so far."""

    run: Callable[[], Iterator[tuple[float, Mapping[str, float] | None]]]
    name: str
    threads: int
    latencies: list[float] = dataclasses.field(default_factory=list)
    stages: list[Mapping[str, float]] = dataclasses.field(default_factory=list)
    relative: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def run_bench(
    bundle: str | None = None,
    engine: str = "auto",
    images: Sequence[str] = (),
    threads: Sequence[int] = (),
    min_seconds: float = 5.0,
    min_queries: int = 100,
    cold_starts: int = 5,
    progress: Callable[[], None] = lambda: None,
    are_drawn: bool = False,
) -> BenchResult:
    """Measure.

    Args:
        bundle: Bundle folder; None is the built-in one.
        engine: As for `Screener.load`.
        images: Files to screen; without them drawn radiographs of a usual size.
        threads: Numbers of threads; by default 1 and as many as there are processors, at most 4.
        min_seconds: At least this long for each scenario.
        min_queries: At least this many images for each scenario.
        cold_starts: Processes to start; 0 leaves that out.
        progress: Called after every round.
        are_drawn: The images are no films: the result says so.

    Raises:
        InvalidValueError: An image cannot be screened.
        EngineError: No engine, or it gives wrong answers here.
    """
    counts = tuple(threads) or tuple(sorted({1, min(4, usable_processors())}))
    before = current_condition()
    with drawn_images(images) as paths:
        first = Screener.load(bundle, engine=engine, threads=1, force=True)
        for path in paths:
            record = first.screen(path)
            if record.error:
                raise InvalidValueError(f"cannot measure with this image: {record.error.message}")
        scenarios = [c for n in counts for c in _scenarios(bundle, engine, paths, n)]
        references = _measure(scenarios, min_seconds, min_queries, progress)
        cold = _cold_starts(bundle, first, paths[0], cold_starts) if cold_starts else None
        size = sum(os.path.getsize(path) for path in paths) // len(paths)
    module = engine_module(first.engine_name.split()[0])
    file = first.bundle.manifest.model_file(module.FORMAT)
    manifest = first.bundle.manifest
    return BenchResult(
        SCHEMA,
        Environment(
            describe_machine(),
            before,
            current_condition(),
            {"cxr-edge": __version__, "python": sys.version.split()[0]}
            | installed_versions(("numpy", "pillow")),
            first.engine_name,
        ),
        BenchedModel(
            manifest.name, manifest.version, first.bundle.sha256, file.size_bytes if file else 0
        ),
        BenchedImages(len(paths), are_drawn or not images, size),
        min_seconds,
        min_queries,
        round(float(np.median(references)) * 1e3, 4),
        tuple(_finish(c) for c in scenarios),
        cold,
    )


@contextlib.contextmanager
def drawn_images(images: Sequence[str]) -> Iterator[Sequence[str]]:
    """The images themselves, or where there are none, drawn ones, for as long as it is open."""
    with tempfile.TemporaryDirectory(prefix="cxr-edge-bench-") as folder:
        yield list(images) or _draw(folder)


def _draw(folder: str) -> list[str]:
    height, width = _SYNTHETIC_SIZE
    paths = []
    for seed in range(_SYNTHETIC):
        path = os.path.join(folder, f"synthetic-{seed}.jpeg")
        with open(path, "wb") as file:
            file.write(phantom_jpeg(seed, bool(seed % 2), height, width))
        paths.append(path)
    return paths


def _scenarios(
    bundle: str | None, engine: str, paths: Sequence[str], threads: int
) -> list[_Collected]:
    single = Screener.load(bundle, engine=engine, threads=threads, force=True)
    pooled = Screener.load(bundle, engine=engine, threads=1, parallel=threads, force=True)
    endless = itertools.cycle(paths)

    def stream() -> Iterator[tuple[float, Mapping[str, float] | None]]:
        while True:
            path = next(endless)
            start = time.perf_counter()
            examination = single.examine(path)
            examination.record.to_json()
            yield time.perf_counter() - start, examination.stages

    def offline() -> Iterator[tuple[float, Mapping[str, float] | None]]:
        # A block is one batch: starting and draining the pipeline is part of it.
        batch = [*paths] * max(1, math.ceil(8 * threads / len(paths)))
        while True:
            start = time.perf_counter()
            for examination in pooled.examine_many(map(Input, batch), threads):
                examination.record.to_json()
            seconds = time.perf_counter() - start
            for _ in batch:
                yield seconds / len(batch), None

    return [
        _Collected(stream, "single-stream", threads),
        _Collected(offline, "offline", threads),
    ]


def _measure(
    scenarios: Sequence[_Collected],
    min_seconds: float,
    min_queries: int,
    progress: Callable[[], None],
) -> list[float]:
    """Fill the scenarios, round by round; the reference work's seconds."""
    runs = [scenario.run() for scenario in scenarios]
    for run in runs:
        for _ in range(_WARM_UP):
            next(run)
    for _ in range(_WARM_UP):
        _reference()
    references = []
    while any(c.seconds < min_seconds or len(c.latencies) < min_queries for c in scenarios):
        for scenario, run in zip(scenarios, runs, strict=True):
            around = [_reference()]
            block: list[float] = []
            while sum(block) < _BLOCK_SECONDS:
                seconds, stages = next(run)
                block.append(seconds)
                if stages is not None:
                    scenario.stages.append(stages)
            around.append(_reference())
            references += around
            scenario.latencies += block
            scenario.seconds += sum(block)
            scenario.relative.append(sum(block) / len(block) / (sum(around) / 2))
        progress()
    return references


def _reference() -> float:
    """Seconds of a fixed piece of work: hashing, sorting and copying, a few milliseconds."""
    start = time.perf_counter()
    for _ in range(4):
        hashlib.sha256(_REFERENCE).digest()
        np.sort(np.frombuffer(_REFERENCE, np.uint8)[::4].astype(np.float32))
    return time.perf_counter() - start


def _finish(collected: _Collected) -> Scenario:
    queries = len(collected.latencies)
    single = collected.name == "single-stream"
    return Scenario(
        name=collected.name,
        threads=collected.threads,
        queries=queries,
        seconds=round(collected.seconds, 3),
        images_per_second=round(queries / collected.seconds, 2),
        latency_ms=Latency.of(collected.latencies) if single else None,
        stages_ms={
            stage: round(float(np.median([s[stage] for s in collected.stages])) * 1e3, 4)
            for stage in STAGES
        }
        if single
        else {},
        relative=tuple(round(value, 5) for value in collected.relative),
    )


def _cold_starts(bundle: str | None, screener: Screener, path: str, count: int) -> ColdStart:
    engine = screener.engine_name.split()[0]
    command = [sys.executable, "-m", "edge_runtime", "screen", "--engine", engine, "--force"]
    command += ["--bundle", bundle] if bundle is not None else []
    command += [path]
    bare = [sys.executable, "-c", "import numpy, PIL.Image"]
    _process(bare)
    _process(command)  # the system's caches are full now
    times, relative = [], []
    for _ in range(count):
        reference = _process(bare)
        times.append(_process(command))
        relative.append(round(times[-1] / reference, 5))
    median = round(float(np.median(times)) * 1e3, 2)
    return ColdStart(count, median, tuple(relative), _peak_memory_mb(command))


def _process(command: Sequence[str]) -> float:
    """Seconds of one process.

    Raises:
        InvalidValueError: It ended with an error.
    """
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise InvalidValueError(f"exit status {done.returncode}: {' '.join(command)}: {said}")
    return seconds


# A process counts what its parent held when it was started, so a small one has to start it.
_SMALL_PARENT = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
print(os.wait4(child, 0)[2].ru_maxrss)
"""


def _peak_memory_mb(command: Sequence[str]) -> float | None:
    """Largest resident size of a process; None where the system does not tell."""
    if not hasattr(os, "wait4"):
        return None
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _SMALL_PARENT, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return round(int(done.stdout) / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
    except ValueError:
        return None
