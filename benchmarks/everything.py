"""Every benchmark that this machine has the parts for, then the report; about ten minutes."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.arguments import add_report_paths
from benchmarks.pages.all_results import run_report
from edge_runtime.bundle.shipped import DEFAULT_BUNDLE


@dataclasses.dataclass(frozen=True)
class Step:
    """One verb, and the paths without which it is left out."""

    name: str
    arguments: tuple[object, ...]
    needs: tuple[Path, ...]


def steps(
    bundle: Path, reference: Path, run: Path, shared: Path, results: Path
) -> tuple[Step, ...]:
    test, films = shared / "chest_xray" / "test", shared / "hospitals" / "hospitals.csv"
    # One file format, and in no training: the one set of another hospital to be believed.
    elsewhere = ("--data", films, "--source", "nih-sample", "--finding", "opacity")
    originals = shared / "chest_xray_originals"
    pair = ("--bundle", bundle, "--float", reference)

    emulator = Path(shutil.which("qemu-aarch64") or "qemu-aarch64")

    def at(name: str) -> tuple[object, ...]:
        return ("--output", results / name)

    return (
        Step("accuracy, test", ("accuracy", *pair, "--data", test, "--population", "children",
                                *at("test")),
             (reference, test)),
        Step("accuracy, external", ("accuracy", *pair, *elsewhere, "--population", "adults",
                                    *at("nih")),
             (reference, films)),
        Step("robustness", ("robustness", *pair, "--data", test, *at("robustness")),
             (reference, test)),
        Step("robustness, external", ("robustness", *pair, *elsewhere, *at("robustness-nih")),
             (reference, films)),
        Step("layers", ("layers", *pair, "--data", shared / "chest_xray" / "val", *at("layers")),
             (reference, shared / "chest_xray" / "val")),
        Step("latency", ("latency", "--bundle", bundle, "--data", originals, *at("latency"),
                         "--repetitions", 3), (originals,)),
        Step("loadgen", ("loadgen", "--bundle", bundle, "--data", originals, *at("loadgen")),
             (originals,)),
        Step("peers", ("peers", *pair, "--run", run, "--data", originals, *at("peers")),
             (reference, run, originals)),
        Step("throughput", ("throughput", "--bundle", bundle, "--data", originals,
                            *at("throughput")), (originals,)),
        Step("throughput, OpenVINO", ("throughput", "--bundle", bundle, "--data", originals,
                                      "--engine", "openvino", *at("throughput-openvino")),
             (originals,)),
        Step("process", ("process", "--data", originals, *at("process")), (originals,)),
        Step("decoding", ("decoding", bundle, "--data", originals, *at("decoding")), (originals,)),
        Step("counted", ("counted", *at("counted")), ()),
        Step("boards", ("boards", *at("boards")), (emulator,)),
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m benchmarks all --data ../shared/data"
    parser.add_argument("--bundle", type=Path, default=Path("bundles/default"))
    parser.add_argument("--run", type=Path, dest="run_folder", default=Path("runs/default"))
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with chest_xray/, nih_external/, …"
    )
    add_report_paths(parser)


def run(arguments: argparse.Namespace) -> int:
    return run_everything(
        arguments.bundle,
        arguments.run_folder,
        arguments.data,
        arguments.results,
        arguments.output,
        arguments.html,
    )


def run_everything(
    bundle: Path, run: Path, shared: Path, results: Path, output: Path, page: Path
) -> int:
    """Run the steps, write the report; 0 if every step that ran reached its bar."""
    reference = bundle.with_name(bundle.name + "-float")
    used = bundle if (bundle / "manifest.json").exists() else Path(DEFAULT_BUNDLE)
    outcomes = []
    for step in steps(used, reference, run, shared, results):
        lacking = [path for path in step.needs if not path.exists()]
        if lacking:
            outcomes.append((step.name, f"skipped: no {lacking[0]}"))
            continue
        print(f"== {step.name}", file=sys.stderr)
        start = time.monotonic()
        command = [sys.executable, "-m", "benchmarks", *map(str, step.arguments)]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
        said = {0: "done", 1: "BAR MISSED", 2: "could not run"}.get(code, f"ended with {code}")
        outcomes.append((step.name, f"{said}, {time.monotonic() - start:.0f} s"))
    run_report(results, output, page)
    for name, outcome in outcomes:
        print(f"{name:22} {outcome}")
    return int(any("MISSED" in outcome or "ended" in outcome for _, outcome in outcomes))
