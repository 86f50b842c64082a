"""How much of the machine does the batch pipeline use? Ratios, side by side in one run.

decode, infer    one thread, one image after the other, files already in memory
limit            processors / (decode + infer): perfect overlap and perfect scaling
bare             the same two steps in as many processes as processors, at the same time: what
this machine's processors really give when all of them work
ours             `examine_many`: read, hash, decode, infer, quality gate, record, in order
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edge_runtime.batch import examine_many
from edge_runtime.engines import default_threads
from edge_runtime.errors import InvalidValueError
from edge_runtime.inputs import Input, find_inputs
from edge_runtime.parse import to_mapping
from edge_runtime.preprocess import prepare
from edge_runtime.screener import Screener, read_file


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
    bare: float
    ours: float

    @property
    def ours_to_limit(self) -> float:
        return self.ours / self.limit

    @property
    def ours_to_bare(self) -> float:
        return self.ours / self.bare


def run_throughput(
    bundle: Path, engine: str, data: Path, output: Path, repetitions: int = 3
) -> Throughput:
    """Measure, write throughput.json and throughput.md.

    Raises:
        InvalidValueError: There are no files in `data`.
    """
    paths = [item.path for item in find_inputs([str(data)]) if item.error is None]
    if not paths:
        raise InvalidValueError(f"no files in {data}")
    processors = default_threads()
    screener = Screener.load(bundle, engine=engine, threads=1, parallel=processors, force=True)
    decode, infer, bare, ours = [], [], [], []
    # The three are taken in turn, so that a slow minute of the machine falls on all of them.
    for _ in tqdm(range(repetitions), "repetitions", disable=None):
        one = _bare_loop(bundle, engine, paths)
        decode.append(one[0])
        infer.append(one[1])
        bare.append(_bare_processes(bundle, engine, paths, processors))
        ours.append(_timed(lambda: _screen_all(screener, paths, processors)))
    result = Throughput(
        engine=screener.engine_name,
        machine=f"{platform.system()} {platform.machine()}",
        processors=processors,
        images=len(paths),
        repetitions=repetitions,
        decode_ms=statistics.median(decode) * 1e3,
        infer_ms=statistics.median(infer) * 1e3,
        limit=processors / (statistics.median(decode) + statistics.median(infer)),
        bare=statistics.median(bare),
        ours=len(paths) / statistics.median(ours),
    )
    output.mkdir(parents=True, exist_ok=True)
    document = {"schema": "cxr-edge/throughput/1"} | to_mapping(result)
    (output / "throughput.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = _markdown(result)
    (output / "throughput.md").write_text(text, encoding="utf-8")
    print(text)
    return result


def _screen_all(screener: Screener, paths: list[str], processors: int) -> None:
    for _ in examine_many(screener, map(Input, paths), processors):
        pass


def _bare_loop(bundle: Path, engine: str, paths: list[str]) -> tuple[float, float]:
    """Seconds per image of decoding and of inference, one thread."""
    screener = Screener.load(bundle, engine=engine, threads=1, force=True)
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
    _bare_loop(bundle, engine, paths[:10])  # everything is imported and warm
    barrier.wait()
    results.put(1 / sum(_bare_loop(bundle, engine, paths)))


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _markdown(result: Throughput) -> str:
    return "\n".join(
        [
            f"{result.images} files, {result.processors} processors ({result.machine}), "
            f"{result.engine}, medians of {result.repetitions}.",
            "",
            "| | images/s | ours / this |",
            "|---|---|---|",
            f"| limit: processors / (decode {result.decode_ms:.2f} ms + infer "
            f"{result.infer_ms:.2f} ms) | {result.limit:.0f} | {result.ours_to_limit:.2f} |",
            f"| bare decode + infer, a process per processor | {result.bare:.0f} | "
            f"{result.ours_to_bare:.2f} |",
            f"| ours: files to records | {result.ours:.0f} | 1.00 |",
            "",
        ]
    )
