"""Benchmarks of a bundle: see the help of each verb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.bundle import DEFAULT_BUNDLE
from edge_runtime.engine_names import ENGINE_NAMES
from edge_runtime.errors import CxrEdgeError

# Verbs import what they need when they run: matplotlib and TensorFlow take seconds.


def _accuracy(arguments: argparse.Namespace) -> int:
    from benchmarks.accuracy import run_accuracy

    preserved = run_accuracy(
        arguments.bundle, arguments.reference, arguments.data, arguments.output
    )
    if not preserved:
        print("AUC is NOT preserved", file=sys.stderr)
    return 0 if preserved else 1


def _latency(arguments: argparse.Namespace) -> int:
    from benchmarks.latency import run_latency

    run_latency(
        arguments.bundle,
        arguments.data,
        arguments.output,
        arguments.repetitions,
        arguments.min_seconds,
    )
    return 0


def _peers(arguments: argparse.Namespace) -> int:
    from benchmarks.inference import run_peers

    run_peers(
        arguments.bundle,
        arguments.reference,
        arguments.run_folder,
        arguments.data,
        arguments.output,
        arguments.repetitions,
    )
    return 0


def _loadgen(arguments: argparse.Namespace) -> int:
    from benchmarks.loadgen import run_loadgen

    run_loadgen(arguments.bundle, arguments.engine, arguments.data, arguments.output)
    return 0


def _robustness(arguments: argparse.Namespace) -> int:
    from benchmarks.robustness import run_robustness

    kept = run_robustness(arguments.bundle, arguments.reference, arguments.data, arguments.output)
    return 0 if kept else 1


def _layers(arguments: argparse.Namespace) -> int:
    from benchmarks.layers import run_layers

    run_layers(arguments.bundle, arguments.reference, arguments.data, arguments.output)
    return 0


def _choices(arguments: argparse.Namespace) -> int:
    from benchmarks.choices import run_choices

    run_choices(arguments.run_folder, arguments.data, arguments.output)
    return 0


def _pareto(arguments: argparse.Namespace) -> int:
    from benchmarks.pareto import run_pareto

    run_pareto(arguments.bundles, arguments.data, arguments.output)
    return 0


def _counted(arguments: argparse.Namespace) -> int:
    from benchmarks.counted import run_counted

    engines = [arguments.engine] if arguments.engine else ["litert", "onnxruntime"]
    same = run_counted(engines, arguments.output, arguments.against, arguments.limit)
    if not same:
        print("more instructions than before", file=sys.stderr)
    return 0 if same else 1


def _throughput(arguments: argparse.Namespace) -> int:
    from benchmarks.throughput import run_throughput

    run_throughput(
        arguments.bundle,
        arguments.engine,
        arguments.data,
        arguments.output,
        arguments.repetitions,
    )
    return 0


def _process(arguments: argparse.Namespace) -> int:
    from benchmarks.process import run_process

    run_process(arguments.engine, arguments.data, arguments.output, arguments.repetitions)
    return 0


def _scorecard(arguments: argparse.Namespace) -> int:
    from benchmarks.scorecard import run_scorecard

    run_scorecard(arguments.runs, arguments.data, arguments.external, arguments.output)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from benchmarks.report import run_report

    run_report(arguments.results, arguments.output, arguments.html)
    return 0


def _everything(arguments: argparse.Namespace) -> int:
    from benchmarks.everything import run_everything

    return run_everything(
        arguments.bundle,
        arguments.run_folder,
        arguments.data,
        arguments.results,
        arguments.output,
        arguments.html,
    )


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except CxrEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_accuracy_verbs(verbs)
    _add_speed_verbs(verbs)
    scorecard = verbs.add_parser(
        "scorecard",
        help="every finished recipe beside what others reported, as one page",
        description="Evaluates the runs where that is still to do, copies the figures beside the "
        "page and writes it; without runs it writes the page from the copies.",
        epilog="example: python -m benchmarks scorecard runs/default --data chest_xray "
        "--external nih_external --output docs/results.md",
    )
    scorecard.set_defaults(run=_scorecard)
    scorecard.add_argument("runs", nargs="*", type=Path, help="run folders")
    scorecard.add_argument("--data", type=Path, help="the data folder")
    scorecard.add_argument("--external", type=Path, help="another hospital's labelled folder")
    scorecard.add_argument("--output", type=Path, default=Path("docs/results.md"))

    everything = verbs.add_parser(
        "all",
        help="every benchmark that this machine has the parts for, then the report",
        epilog="example: python -m benchmarks all --data ../shared/data",
    )
    everything.set_defaults(run=_everything)
    everything.add_argument("--bundle", type=Path, default=Path("bundles/default"))
    everything.add_argument("--run", type=Path, dest="run_folder", default=Path("runs/default"))
    everything.add_argument(
        "--data", type=Path, required=True, help="folder with chest_xray/, nih_external/, …"
    )
    _add_report_paths(everything)
    report = verbs.add_parser(
        "report",
        help="one Markdown file and one HTML page of all results in a folder",
        epilog="example: python -m benchmarks report --results docs/results "
        "--output docs/benchmarks.md --html build/benchmarks.html",
    )
    report.set_defaults(run=_report)
    _add_report_paths(report)
    return parser


def _add_accuracy_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    accuracy = verbs.add_parser(
        "accuracy",
        help="every file of a bundle against the float model; exit 1 if AUC is not preserved",
        description="Screens a labelled folder (sub-folders PNEUMONIA and another) with the float "
        "model and with every file of a bundle, through edge_runtime. Exit status 1 when the "
        "lower 95 % limit of an AUC difference is below -0.005.",
        epilog="example: python -m benchmarks accuracy --bundle bundles/default "
        "--float bundles/default-float --data chest_xray/test --output docs/results/test",
    )
    accuracy.set_defaults(run=_accuracy)
    _add_bundles(accuracy)
    _add_data(accuracy, "labelled folder")

    robustness = verbs.add_parser(
        "robustness",
        help="float and int8 AUC under corruptions; exit 1 if int8 loses more than 0.01 anywhere",
        epilog="example: python -m benchmarks robustness --float bundles/default-float "
        "--data chest_xray/test --output docs/results/robustness",
    )
    robustness.set_defaults(run=_robustness)
    _add_bundles(robustness)
    _add_data(robustness, "labelled folder")

    layers = verbs.add_parser(
        "layers",
        help="signal-to-quantisation-noise of every layer",
        epilog="example: python -m benchmarks layers --float bundles/default-float "
        "--data chest_xray/val --output docs/results/layers",
    )
    layers.set_defaults(run=_layers)
    _add_bundles(layers)
    _add_data(layers, "folder of radiographs")

    choices = verbs.add_parser(
        "choices",
        help="what the choices of the export cost, on the validation images of a run",
        epilog="example: python -m benchmarks choices runs/default --data chest_xray "
        "--output docs/results/choices",
    )
    choices.set_defaults(run=_choices)
    choices.add_argument("run_folder", type=Path, metavar="RUN")
    choices.add_argument("--data", type=Path, help="the data folder")
    choices.add_argument("--output", type=Path, required=True, help="folder for the results")

    pareto = verbs.add_parser(
        "pareto",
        help="AUC against latency and size of several bundles, one plot",
        epilog="example: python -m benchmarks pareto bundles/tiny bundles/small bundles/default "
        "--data chest_xray/test --output docs/results/pareto",
    )
    pareto.set_defaults(run=_pareto)
    pareto.add_argument(
        "bundles", nargs="+", type=Path, help="int8 bundles, each with its -float beside it"
    )
    _add_data(pareto, "labelled folder")


def _add_speed_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    latency = verbs.add_parser(
        "latency",
        help="one image from file to record: percentiles, stages, and the ratio to the floor",
        epilog="example: python -m benchmarks latency --data chest_xray_originals "
        "--output build/latency",
    )
    latency.set_defaults(run=_latency)
    _add_bundle(latency)
    _add_data(latency, "folder of radiographs")
    _add_repetitions(latency, 5)
    latency.add_argument("--min-seconds", type=float, default=5.0, metavar="S")

    peers = verbs.add_parser(
        "peers",
        help="the same model and images through every engine, side by side",
        description="Keras, LiteRT, ONNX Runtime, OpenVINO and ncnn, float and int8; what is not "
        "installed is skipped by name.",
        epilog="example: python -m benchmarks peers --float bundles/default-float "
        "--run runs/default --data chest_xray/test --output build/peers",
    )
    peers.set_defaults(run=_peers)
    _add_bundles(peers)
    peers.add_argument("--run", type=Path, dest="run_folder", help="run folder, for Keras")
    _add_data(peers, "folder of radiographs")
    _add_repetitions(peers, 12)

    loadgen = verbs.add_parser(
        "loadgen",
        help="MLPerf's own load generator drives the runtime, where it is installed",
        epilog="example: python -m benchmarks loadgen --data chest_xray_originals "
        "--output build/loadgen",
    )
    loadgen.set_defaults(run=_loadgen)
    _add_bundle(loadgen)
    loadgen.add_argument("--engine", choices=ENGINE_NAMES, default="litert")
    _add_data(loadgen, "folder of radiographs")

    counted = verbs.add_parser(
        "counted",
        help="instructions for one image, counted by Valgrind: repeats exactly",
        epilog="example: python -m benchmarks counted --output build/counted "
        "--against docs/results/counted/counted.json",
    )
    counted.set_defaults(run=_counted)
    counted.add_argument("--engine", choices=ENGINE_NAMES, help="only this one")
    counted.add_argument("--against", type=Path, help="an earlier counted.json; exit 1 if worse")
    counted.add_argument("--limit", type=float, default=0.02, help="what is worse (default 0.02)")
    counted.add_argument("--output", type=Path, required=True, help="folder for the results")

    throughput = verbs.add_parser(
        "throughput",
        help="how much of the machine the batch pipeline uses, as ratios",
        description="Screens a folder and holds the rate against what decoding and inference "
        "alone allow, measured in the same run.",
        epilog="example: python -m benchmarks throughput --data chest_xray_originals "
        "--output build/throughput",
    )
    throughput.set_defaults(run=_throughput)
    _add_bundle(throughput)
    throughput.add_argument("--engine", choices=ENGINE_NAMES, default="litert")
    _add_data(throughput, "folder of radiographs")
    _add_repetitions(throughput, 3)

    process = verbs.add_parser(
        "process",
        help="cold start as a ratio to bare imports, and peak memory over a folder",
        epilog="example: python -m benchmarks process --data chest_xray_originals "
        "--output build/process",
    )
    process.set_defaults(run=_process)
    process.add_argument("--engine", choices=ENGINE_NAMES, default="litert")
    _add_data(process, "folder of radiographs")
    _add_repetitions(process, 15)


def _add_report_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--html", type=Path, default=Path("build/benchmarks.html"))


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, default=Path(DEFAULT_BUNDLE))


def _add_bundles(parser: argparse.ArgumentParser) -> None:
    _add_bundle(parser)
    parser.add_argument(
        "--float", type=Path, required=True, dest="reference", help="the float bundle"
    )


def _add_data(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--data", type=Path, required=True, help=what)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")


def _add_repetitions(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument("--repetitions", type=int, default=default, metavar="N")


if __name__ == "__main__":
    sys.exit(main())
