"""Benchmarks of a bundle: see the help of each verb."""

from __future__ import annotations

import sys

from edge_runtime.basics.verbs import run_verb

VERBS = {
    "accuracy": (
        "benchmarks.accuracy.against_float",
        "every file of a bundle against the float model; exit 1 if AUC is not preserved",
    ),
    "robustness": (
        "benchmarks.accuracy.robustness",
        "float and int8 AUC under corruptions; exit 1 if int8 loses more than 0.01 anywhere",
    ),
    "evidence": (
        "benchmarks.accuracy.evidence",
        "does the map of a run look where radiologists drew boxes, and inside the lungs?",
    ),
    "selective": (
        "benchmarks.accuracy.selective",
        "AUC and error over the share of films that the gate lets through",
    ),
    "adaptation": (
        "benchmarks.sites.adaptation",
        "what `cxr-edge adapt` is worth at a source taken for a site, over many draws",
    ),
    "confounders": (
        "benchmarks.sites.confounders",
        "does the guard of `cxr-edge adapt` see a machine that follows the label?",
    ),
    "decoding": (
        "benchmarks.accuracy.decoding",
        "how small a JPEG may be decoded: time, scores and AUC of each rule",
    ),
    "layers": ("benchmarks.accuracy.layers", "signal-to-quantisation-noise of every layer"),
    "choices": (
        "benchmarks.accuracy.choices",
        "what the choices of the export cost, on the validation images of a run",
    ),
    "pareto": (
        "benchmarks.accuracy.pareto",
        "AUC against latency and size of several bundles, one plot",
    ),
    "latency": (
        "benchmarks.speed.latency",
        "one image from file to record: percentiles, stages, and the ratio to the floor",
    ),
    "peers": (
        "benchmarks.speed.peers",
        "the same model and images through every engine, side by side",
    ),
    "loadgen": (
        "benchmarks.speed.loadgen",
        "MLPerf's own load generator drives the runtime, where it is installed",
    ),
    "counted": (
        "benchmarks.speed.counted",
        "instructions for one image, counted by Valgrind: repeats exactly",
    ),
    "boards": (
        "benchmarks.speed.boards",
        "instructions for one film on a Raspberry Pi's processor, counted under emulation",
    ),
    "throughput": (
        "benchmarks.speed.throughput",
        "how much of the machine the batch pipeline uses, as ratios",
    ),
    "formats": (
        "benchmarks.formats.table",
        "every file in every engine, and cxr-edge, screen.c and the browser on the same films",
    ),
    "archive": (
        "benchmarks.speed.archive",
        "what `cxr-edge archive` costs: beside `screen`, by workers and stores, in memory",
    ),
    "process": (
        "benchmarks.speed.process",
        "cold start as a ratio to bare imports, and peak memory over a folder",
    ),
    "scorecard": (
        "benchmarks.pages.scorecard",
        "every finished recipe beside what others reported, as one page",
    ),
    "documents": (
        "benchmarks.pages.documents",
        "the figures in README.md and docs/, between their marks; --check compares",
    ),
    "prove": (
        "benchmarks.prove",
        "everything that is said of the shipped models, measured again from their float models",
    ),
    "all": (
        "benchmarks.everything",
        "every benchmark that this machine has the parts for, then the report",
    ),
    "report": (
        "benchmarks.pages.all_results",
        "one Markdown file and one HTML page of all results in a folder",
    ),
}


def main(argv: list[str] | None = None) -> int:
    return run_verb("python -m benchmarks", __doc__, VERBS, argv)


if __name__ == "__main__":
    sys.exit(main())
