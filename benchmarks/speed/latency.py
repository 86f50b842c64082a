"""Single-stream latency of one image, from file to record, against the floor of the same run.

floor   Pillow opens the file and gives grey pixels of the model's size, the engine's own
        interpreter is invoked: a script of four lines, on one thread but for the engine's own
ours    `Screener.examine` and the record's JSON: also hash, limits, known colour modes, quality
        gate, calibration, decision; where a second processor is idle, it hashes, looks at the
        pixels and resamples some of the rows, whatever the engine's threads

Floor and ours take turns image by image, so a slow second falls on both.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.arguments import add_bundle, add_data, add_repetitions
from benchmarks.results import files_of, median_ratio, write_results
from benchmarks.speed.raw import raw_invoke
from edge_runtime.basics.processors import default_threads
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.commands.options import number, whole
from edge_runtime.device.bench import run_bench
from edge_runtime.device.bench_result import BenchResult, table
from edge_runtime.engines.choose import engine_module
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.images.preprocess import InputSpec, least_size
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate


@dataclasses.dataclass(frozen=True)
class ToFloor:
    """Medians over images and rounds."""

    engine: str
    threads: int
    images: int
    rounds: int
    floor_ms: float
    ours_ms: float
    ratio: Estimate  # median over images of ours / floor, bootstrap over images


@dataclasses.dataclass(frozen=True)
class LatencyResult:
    to_floor: tuple[ToFloor, ...]
    bench: tuple[BenchResult, ...]  # by engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks latency --data chest_xray_originals --output build/latency"
    )
    add_bundle(parser)
    add_data(parser, "folder of radiographs")
    add_repetitions(parser, 5)
    parser.add_argument("--min-seconds", type=number(0, 3600, above=True), default=5.0, metavar="S")
    parser.add_argument(
        "--cold-starts", type=whole(0, 1000), default=5, metavar="N", help="of each engine"
    )


def run(arguments: argparse.Namespace) -> int:
    run_latency(
        arguments.bundle,
        arguments.data,
        arguments.output,
        arguments.repetitions,
        arguments.min_seconds,
        arguments.cold_starts,
    )
    return 0


def run_latency(
    bundle: Path,
    data: Path,
    output: Path,
    rounds: int = 5,
    min_seconds: float = 5.0,
    cold_starts: int = 5,
) -> LatencyResult:
    """Measure every installed engine; write latency.json and latency.md.

    Raises:
        InvalidValueError: There are no files in `data`.
    """
    paths = files_of(data)
    manifest = load_bundle(bundle).manifest
    rows, benches = [], []
    for name in ENGINE_NAMES:
        module = engine_module(name)
        if not module.is_available() or manifest.model_file(module.FORMAT) is None:
            tqdm.write(f"skipped {name}: not installed")
            continue
        for threads in sorted({1, default_threads()}):
            rows.append(_to_floor(bundle, name, threads, paths, rounds))
        some = paths[:: max(1, len(paths) // 40)]
        benches.append(
            run_bench(str(bundle), name, some, min_seconds=min_seconds, cold_starts=cold_starts)
        )
    result = LatencyResult(tuple(rows), tuple(benches))
    write_results(output, "latency", result, _markdown(result))
    return result


def _to_floor(bundle: Path, engine: str, threads: int, paths: list[str], rounds: int) -> ToFloor:
    screener = Screener.load(bundle, engine=engine, threads=threads, force=True)
    spec = screener.bundle.manifest.input
    invoke = raw_invoke(bundle, engine, threads)

    def floor(path: str) -> None:
        invoke(shortest_decode(path, spec))

    def ours(path: str) -> None:
        screener.examine(path).record.to_json()

    for path in paths[:10]:
        floor(path)
        ours(path)
    times: dict[str, list[list[float]]] = {path: [] for path in paths}
    for turn in tqdm(range(rounds), f"{engine}, {threads} threads", disable=None):
        for path in paths:
            # Who goes first finds the file's bytes cold in the processor's cache.
            pair = [_timed(work, path) for work in ((floor, ours), (ours, floor))[turn % 2]]
            times[path].append(pair if turn % 2 == 0 else pair[::-1])
    floors = [statistics.median(t[0] for t in times[path]) for path in paths]
    mine = [statistics.median(t[1] for t in times[path]) for path in paths]
    ratios = np.array(mine) / np.array(floors)
    return ToFloor(
        screener.engine_name,
        threads,
        len(paths),
        rounds,
        round(statistics.median(floors) * 1e3, 4),
        round(statistics.median(mine) * 1e3, 4),
        median_ratio(ratios),
    )


def shortest_decode(path: str, spec: InputSpec) -> NDArray[np.uint8]:
    """File -> (1, height, width, 1) uint8 in as few calls of Pillow as give the right pixels."""
    image: Image.Image = Image.open(path)
    height, width = least_size(spec)
    image.draft("L", (width, height))
    grey = image.convert("L").resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.asarray(grey)[np.newaxis, :, :, np.newaxis]


def _timed(work: Callable[[str], None], path: str) -> float:
    start = time.perf_counter()
    work(path)
    return time.perf_counter() - start


def _markdown(result: LatencyResult) -> str:
    lines = [
        "One image from file to record (ours) against Pillow and the engine's own call (floor), "
        "in turn; medians in ms, ratio with its 95 % bootstrap interval over images. Threads are "
        "the engine's; ours also has a second processor hash and resample some of the rows.",
        "",
        "| engine | threads | images | floor | ours | ours / floor |",
        "|---|---|---|---|---|---|",
    ]
    for row in result.to_floor:
        lines.append(
            f"| {row.engine} | {row.threads} | {row.images} | {row.floor_ms:.2f} | "
            f"{row.ours_ms:.2f} | {row.ratio:.3f} |"
        )
    for bench in result.bench:
        lines += ["", "```", table(bench).rstrip(), "```"]
    return "\n".join([*lines, ""])
