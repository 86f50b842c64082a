"""Latency, throughput, cold start and memory on this machine; compare two results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_runtime.commands.options import add_model_options, number, positive_int, whole
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import find_inputs

if TYPE_CHECKING:
    from edge_runtime.device.bench_result import BenchResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure the runtime: single-stream latency by stage, offline throughput, "
        "cold start and peak memory. Without images it draws some. `bench compare A.json B.json` "
        "says what changed between two results, beyond the noise."
    )
    parser.epilog = (
        "example: cxr-edge bench --output b.json && cxr-edge bench compare a.json b.json"
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="radiographs or folders; or: compare A B"
    )
    add_model_options(parser)
    parser.add_argument(
        "--all-threads", action="store_true", help="measure every number of threads up to --threads"
    )
    parser.add_argument(
        "--all-engines",
        action="store_true",
        help="measure every engine that is installed, one after the other, in one table",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="which operators of the network take how long, for LiteRT, ONNX Runtime and OpenVINO",
    )
    parser.add_argument(
        "--min-seconds",
        type=number(0, 86_400),
        default=5.0,
        metavar="S",
        help="per scenario (default 5)",
    )
    parser.add_argument(
        "--min-queries", type=positive_int, default=100, metavar="N", help="per scenario"
    )
    parser.add_argument(
        "--cold-starts",
        type=whole(0, 10_000),
        default=5,
        metavar="N",
        help="processes to start; 0: none",
    )
    parser.add_argument("--output", metavar="FILE", help="write the result as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--floor",
        type=number(0, 10),
        default=0.05,
        metavar="X",
        help="compare: smaller is no change",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.paths[:1] == ["compare"]:
        return _compare(arguments)
    if arguments.all_engines and (arguments.engine != "auto" or arguments.profile):
        other = "--profile" if arguments.profile else f"--engine {arguments.engine}"
        raise InvalidValueError(f"--all-engines measures every engine: leave {other} out")
    from edge_runtime.basics.parse import to_mapping

    if arguments.profile:
        from edge_runtime.device.profile import run_profile
        from edge_runtime.device.profile import table as table_of_operators

        profile = run_profile(arguments.bundle, arguments.engine, arguments.threads or 1)
        _write(arguments, to_mapping(profile), table_of_operators(profile))
        return 0
    from edge_runtime.basics.processors import usable_processors
    from edge_runtime.basics.progress import Progress
    from edge_runtime.device.bench import run_bench
    from edge_runtime.device.bench_result import table

    images = [item.path for item in find_inputs(arguments.paths) if item.error is None]
    if arguments.paths and not images:
        raise InvalidValueError(f"no files in {', '.join(arguments.paths)}")
    most = arguments.threads or min(4, usable_processors())
    threads = tuple(range(1, most + 1)) if arguments.all_threads else ()
    if not threads and arguments.threads:
        threads = (arguments.threads,)
    progress = Progress(None)

    def measure(engine: str, paths: Sequence[str]) -> BenchResult:
        return run_bench(
            arguments.bundle,
            engine,
            paths,
            threads,
            arguments.min_seconds,
            arguments.min_queries,
            arguments.cold_starts,
            progress.step,
            are_drawn=not images,
        )

    if arguments.all_engines:
        from edge_runtime.device.all_engines import bench_engines, document
        from edge_runtime.device.all_engines import table as table_of_engines
        from edge_runtime.device.bench import drawn_images

        with drawn_images(images) as paths:
            rows = bench_engines(arguments.bundle, paths, lambda engine: measure(engine, paths))
        progress.clear()
        _write(arguments, document(rows), table_of_engines(rows, len(paths)))
        return 0
    result = measure(arguments.engine, images)
    progress.clear()
    _write(arguments, to_mapping(result), table(result))
    return 0


def _write(arguments: argparse.Namespace, document: object, told: str) -> None:
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    sys.stdout.write(text if arguments.json else told)


def _compare(arguments: argparse.Namespace) -> int:
    from edge_runtime.basics.parse import to_mapping
    from edge_runtime.device.compare import compare, read_result, table

    if len(arguments.paths) != 3:
        raise InvalidValueError("bench compare takes two result files: A.json B.json")
    a, b = map(read_result, arguments.paths[1:])
    comparison = compare(a, b, arguments.floor)
    if arguments.json:
        print(json.dumps(to_mapping(comparison), indent=1))
    else:
        sys.stdout.write(table(comparison))
    return 1 if comparison.changed else 0
