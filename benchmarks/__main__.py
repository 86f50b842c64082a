"""Benchmarks of a bundle: see the help of each verb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.bundle import DEFAULT_BUNDLE
from edge_runtime.engines import ENGINE_NAMES
from edge_runtime.errors import CxrEdgeError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    accuracy = verbs.add_parser(
        "accuracy",
        help="every file of a bundle against the float model; exit 1 if AUC is not preserved",
        description="Screens a labelled folder (sub-folders PNEUMONIA and another) with the float "
        "model and with every file of a bundle, through edge_runtime. Exit status 1 when the "
        "lower 95 % limit of an AUC difference is below -0.005.",
        epilog="example: python -m benchmarks accuracy --bundle bundles/default "
        "--float bundles/default-float --data chest_xray/test --output docs/results/test",
    )
    accuracy.add_argument("--bundle", type=Path, default=Path(DEFAULT_BUNDLE))
    accuracy.add_argument(
        "--float", type=Path, required=True, dest="reference", help="the float bundle"
    )
    accuracy.add_argument("--data", type=Path, required=True, help="labelled folder")
    accuracy.add_argument("--output", type=Path, required=True, help="folder for the results")
    throughput = verbs.add_parser(
        "throughput",
        help="how much of the machine the batch pipeline uses, as ratios",
        description="Screens a folder and holds the rate against what decoding and inference "
        "alone allow, measured in the same run.",
        epilog="example: python -m benchmarks throughput --data chest_xray_originals "
        "--output build/throughput",
    )
    throughput.add_argument("--bundle", type=Path, default=Path(DEFAULT_BUNDLE))
    _add_timing_options(throughput, repetitions=3)
    process = verbs.add_parser(
        "process",
        help="cold start as a ratio to bare imports, and peak memory over a folder",
        epilog="example: python -m benchmarks process --data chest_xray_originals "
        "--output build/process",
    )
    _add_timing_options(process, repetitions=15)
    scorecard = verbs.add_parser(
        "scorecard",
        help="every finished recipe beside what others reported, as one page",
        description="Evaluates the runs where that is still to do, copies the figures beside the "
        "page and writes it; without runs it writes the page from the copies.",
        epilog="example: python -m benchmarks scorecard runs/default --data chest_xray "
        "--external nih_external --output docs/results.md",
    )
    scorecard.add_argument("runs", nargs="*", type=Path, help="run folders")
    scorecard.add_argument("--data", type=Path, help="the data folder")
    scorecard.add_argument("--external", type=Path, help="another hospital's labelled folder")
    scorecard.add_argument("--output", type=Path, default=Path("docs/results.md"))
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "process":
            from benchmarks.process import run_process

            run_process(arguments.engine, arguments.data, arguments.output, arguments.repetitions)
            return 0
        if arguments.verb == "scorecard":
            from benchmarks.scorecard import run_scorecard

            run_scorecard(arguments.runs, arguments.data, arguments.external, arguments.output)
            return 0
        if arguments.verb == "throughput":
            from benchmarks.throughput import run_throughput

            run_throughput(
                arguments.bundle,
                arguments.engine,
                arguments.data,
                arguments.output,
                arguments.repetitions,
            )
            return 0
        from benchmarks.accuracy import run_accuracy  # matplotlib takes a second to import

        preserved = run_accuracy(
            arguments.bundle, arguments.reference, arguments.data, arguments.output
        )
    except CxrEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not preserved:
        print("AUC is NOT preserved", file=sys.stderr)
    return 0 if preserved else 1


def _add_timing_options(parser: argparse.ArgumentParser, repetitions: int) -> None:
    parser.add_argument("--engine", choices=ENGINE_NAMES, default="litert")
    parser.add_argument("--data", type=Path, required=True, help="folder of radiographs")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--repetitions", type=int, default=repetitions, metavar="N")


if __name__ == "__main__":
    sys.exit(main())
