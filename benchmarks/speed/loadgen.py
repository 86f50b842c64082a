"""MLPerf's load generator drives the same system under test, where `mlcommons-loadgen` installs.

Its single-stream and offline scenarios, performance mode, with a shorter minimum duration than a
submission needs; the summaries are its own.
"""

from __future__ import annotations

import argparse
import array
import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from importlib import util
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.arguments import add_bundle, add_data, add_engine
from benchmarks.results import files_of, write_results
from benchmarks.speed.raw import NotInstalledError
from edge_runtime.basics.processors import default_threads
from edge_runtime.commands.options import number
from edge_runtime.images.inputs import Input
from edge_runtime.screener import Screener


@dataclasses.dataclass(frozen=True)
class LoadgenResult:
    engine: str
    version: str
    images: int
    min_duration_ms: int
    valid: dict[str, bool]  # by scenario: what the generator says of the run
    single_stream_p90_ms: float
    offline_images_per_second: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks loadgen --data chest_xray_originals --output build/loadgen"
    )
    add_bundle(parser)
    add_engine(parser)
    add_data(parser, "folder of radiographs")
    parser.add_argument(
        "--min-seconds",
        type=number(0, 3600, above=True),
        default=5.0,
        metavar="S",
        help="of either scenario; default: 5",
    )


def run(arguments: argparse.Namespace) -> int:
    run_loadgen(
        arguments.bundle,
        arguments.engine,
        arguments.data,
        arguments.output,
        arguments.min_seconds,
    )
    return 0


def run_loadgen(
    bundle: Path, engine: str, data: Path, output: Path, min_seconds: float = 5.0
) -> LoadgenResult:
    """Run both scenarios; write loadgen.json, loadgen.md and the generator's own logs.

    Raises:
        NotInstalledError: `mlcommons-loadgen` is not here.
        InvalidValueError: There are no files in `data`.
    """
    if util.find_spec("mlperf_loadgen") is None:
        raise NotInstalledError("not installed: pip install mlcommons-loadgen")
    import mlperf_loadgen

    paths = files_of(data)
    workers = default_threads()
    output.mkdir(parents=True, exist_ok=True)
    single = Screener.load(bundle, engine=engine, force=True)
    pooled = Screener.load(bundle, engine=engine, threads=1, parallel=workers, force=True)

    def one_by_one(queries: Sequence[Any]) -> None:
        for query in queries:
            _complete(mlperf_loadgen, query, single.screen(paths[query.index]).to_json())

    def all_at_once(queries: Sequence[Any]) -> None:
        inputs = (Input(paths[query.index]) for query in queries)
        for query, done in zip(queries, pooled.examine_many(inputs, workers), strict=True):
            _complete(mlperf_loadgen, query, done.record.to_json())

    least = round(1000 * min_seconds)
    drive = partial(_drive, mlperf_loadgen, output, least)
    summaries = {
        "single-stream": drive("SingleStream", one_by_one, len(paths)),
        "offline": drive("Offline", all_at_once, len(paths)),
    }
    result = LoadgenResult(
        single.engine_name,
        version("mlcommons-loadgen"),
        len(paths),
        least,
        {name: "Result is : VALID" in text for name, text in summaries.items()},
        _number(summaries["single-stream"], r"90\.00 percentile latency \(ns\)\s*:\s*(\d+)") / 1e6,
        _number(summaries["offline"], r"Samples per second\s*:\s*([\d.]+)"),
    )
    write_results(output, "loadgen", result, _markdown(result))
    return result


def _drive(
    loadgen: Any, output: Path, min_duration_ms: int, scenario: str, issue: Any, count: int
) -> str:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = min_duration_ms
    settings.min_query_count = 100 if scenario == "SingleStream" else 1
    settings.offline_expected_qps = 300
    log = loadgen.LogSettings()
    log.log_output.outdir = str(output)
    log.log_output.prefix = f"{scenario.lower()}-"
    log.enable_trace = False
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(count, count, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(system, library, settings, log)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    return (output / f"{scenario.lower()}-summary.txt").read_text(encoding="utf-8")


def _complete(loadgen: Any, query: Any, answer: str) -> None:
    data = array.array("B", answer.encode())
    address, length = data.buffer_info()
    loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, address, length)])


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else float("nan")


def _markdown(result: LoadgenResult) -> str:
    valid = ", ".join(f"{name} {'valid' if ok else 'INVALID'}" for name, ok in result.valid.items())
    return (
        f"mlcommons-loadgen {result.version} on {result.engine}, {result.images} files, at least "
        f"{result.min_duration_ms / 1000:g} s each (a submission needs more): {valid}.\n\n"
        "| scenario | |\n|---|---|\n"
        f"| single-stream, 90th percentile | {result.single_stream_p90_ms:.2f} ms |\n"
        f"| offline | {result.offline_images_per_second:.0f} images/s |\n"
    )
