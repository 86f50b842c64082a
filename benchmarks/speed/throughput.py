"""How much of the machine does the batch pipeline use? Ratios, side by side in one run.

decode, infer    one thread, one image after the other, files already in memory
limit            processors / (decode + infer): perfect overlap and perfect scaling
bare             the same two steps in as many processes as processors, at the same time: what
this machine's processors really give when all of them work
Keras, OpenVINO  the loops of benchmarks.speed.loops, where they are installed
ours             `examine_many`: read, hash, decode, infer, quality gate, record, in order
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.arguments import add_bundle, add_data, add_engine, add_repetitions
from benchmarks.results import files_of, median_ratio, write_results
from benchmarks.speed.loops import keras_loop, openvino_loop
from edge_runtime.basics.processors import default_threads
from edge_runtime.images.file import read_file
from edge_runtime.images.inputs import Input
from edge_runtime.images.preprocess import prepare
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate

_PART = 135  # files measured at a time: starting and draining the pipeline is part of it


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another way through the same files."""

    name: str
    rate: float  # images per second
    ours_to_this: Estimate  # ratios within a repetition; bootstrap over the repetitions


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Medians over the repetitions; rates in images per second."""

    engine: str
    machine: str
    processors: int
    images: int
    repetitions: int
    decode_ms: float
    infer_ms: float
    limit: float
    ours: float
    ours_to_limit: Estimate  # of neighbouring measurements; bootstrap over these
    peers: tuple[Peer, ...]  # those installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Screens a folder and holds the rate against what decoding and inference "
        "alone allow, measured in the same run."
    )
    parser.epilog = (
        "example: python -m benchmarks throughput --data chest_xray_originals "
        "--output build/throughput"
    )
    add_bundle(parser)
    add_engine(parser)
    add_data(parser, "folder of radiographs")
    add_repetitions(parser, 3)


def run(arguments: argparse.Namespace) -> int:
    run_throughput(
        arguments.bundle,
        arguments.engine,
        arguments.data,
        arguments.output,
        arguments.repetitions,
    )
    return 0


def run_throughput(
    bundle: Path, engine: str, data: Path, output: Path, repetitions: int = 3
) -> Throughput:
    """Measure, write throughput.json and throughput.md.

    Raises:
        InvalidValueError: There are no files in `data`.
    """
    paths = files_of(data)
    processors = default_threads()
    screener = Screener.load(bundle, engine=engine, threads=1, parallel=processors, force=True)
    count = max(1, len(paths) // _PART)
    parts = [paths[i::count] for i in range(count)]
    decode, infer, ours, to_limit = [], [], [], []
    peers: dict[str, list[tuple[float, float]]] = {}  # by name: (rate, ours / rate)
    spec = screener.bundle.manifest.input
    for _ in tqdm(range(repetitions), "repetitions", disable=None):
        # Ours and its limit in turn over small parts of the files: a slow second of a shared
        # machine then falls on both.
        for part in parts:
            one = _bare_loop(screener, part)
            rate = len(part) / _timed(lambda part=part: _screen_all(screener, part, processors))  # type: ignore[misc]
            decode.append(one[0])
            infer.append(one[1])
            ours.append(rate)
            to_limit.append(rate * sum(one) / processors)
        # Keras is an order of magnitude slower: a share of the files will do.
        rates = {
            "bare decode + infer, a process per processor": _bare_processes(
                bundle, engine, paths, processors
            ),
            "Pillow RGB + Keras `predict` loop, float32": keras_loop(
                paths[:: max(1, len(paths) // 50)], spec
            ),
            "Pillow + OpenVINO loop, the int8 ONNX file": openvino_loop(
                paths, spec, bundle / "model.onnx"
            ),
        }
        mine = statistics.median(ours[-len(parts) :])
        for name, peer in rates.items():
            if peer is not None:
                peers.setdefault(name, []).append((peer, mine / peer))
    for name, peer in rates.items():
        if peer is None:
            tqdm.write(f"skipped {name}: not installed")
    result = Throughput(
        engine=screener.engine_name,
        machine=f"{platform.system()} {platform.machine()}",
        processors=processors,
        images=len(paths),
        repetitions=repetitions,
        decode_ms=statistics.median(decode) * 1e3,
        infer_ms=statistics.median(infer) * 1e3,
        limit=processors / (statistics.median(decode) + statistics.median(infer)),
        ours=statistics.median(ours),
        ours_to_limit=median_ratio(to_limit),
        peers=tuple(
            Peer(
                name,
                statistics.median(rate for rate, _ in found),
                median_ratio([ratio for _, ratio in found]),
            )
            for name, found in peers.items()
        ),
    )
    write_results(output, "throughput", result, _markdown(result))
    return result


def _screen_all(screener: Screener, paths: list[str], processors: int) -> None:
    for _ in screener.examine_many(map(Input, paths), processors):
        pass


def _bare_loop(screener: Screener, paths: list[str]) -> tuple[float, float]:
    """Seconds per image of decoding and of inference, one thread."""
    spec = screener.bundle.manifest.input
    decode = infer = 0.0
    for path in paths:
        data = read_file(path)
        start = time.perf_counter()
        pixels = prepare(data, spec)
        middle = time.perf_counter()
        screener.run(pixels)
        decode += middle - start
        infer += time.perf_counter() - middle
    return decode / len(paths), infer / len(paths)


def _bare_processes(bundle: Path, engine: str, paths: list[str], processors: int) -> float:
    """Images per second of the bare loop in all processors at once."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    barrier = context.Barrier(processors)
    workers = [
        context.Process(target=_bare_worker, args=(bundle, engine, paths, barrier, results))
        for _ in range(processors)
    ]
    for worker in workers:
        worker.start()
    rates: list[float] = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(rates)


def _bare_worker(
    bundle: Path, engine: str, paths: list[str], barrier: Barrier, results: Any
) -> None:
    screener = Screener.load(bundle, engine=engine, threads=1, force=True)
    _bare_loop(screener, paths[:10])  # everything is imported and warm
    barrier.wait()
    results.put(1 / sum(_bare_loop(screener, paths)))


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _markdown(result: Throughput) -> str:
    decode_and_infer = f"decode {result.decode_ms:.2f} ms + infer {result.infer_ms:.2f} ms"
    rows = [
        (f"limit: processors / ({decode_and_infer})", result.limit, result.ours_to_limit),
        *((peer.name, peer.rate, peer.ours_to_this) for peer in result.peers),
    ]
    lines = [
        f"{result.images} files, {result.processors} processors ({result.machine}), "
        f"{result.engine}, medians of {result.repetitions} repetitions; ratios with their 95 % "
        "bootstrap intervals.",
        "",
        "| | images/s | ours / this |",
        "|---|---|---|",
        *(f"| {name} | {rate:.0f} | {ratio:.2f} |" for name, rate, ratio in rows),
        f"| ours: files to records | {result.ours:.0f} | 1.00 |",
        "",
        *_left_to_gain(result),
    ]
    return "\n".join(lines)


def _left_to_gain(result: Throughput) -> Iterator[str]:
    """How far the fastest loop could be left behind at most: the same two steps, overlapping."""
    loops = [peer for peer in result.peers if "loop" in peer.name]
    if loops:
        fastest = max(loops, key=lambda peer: peer.rate)
        yield (
            f"The limit is {result.limit / fastest.rate:.2f} times the fastest loop, "
            f"{fastest.name}; ours is {fastest.ours_to_this.value:.2f} times it."
        )
        yield ""
