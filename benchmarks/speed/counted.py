"""What one image costs in instructions, counted by Valgrind: exact where a stopwatch is not.

A script runs under callgrind; costs are zeroed and dumped around each part by two system calls
that nothing else makes (`--zero-before`, `--dump-before`). One thread, hash seed and addresses
fixed. Valgrind shows the engines a processor with AVX2 and without AVX-512 or VNNI, so the figures
are of those kernels: they are for comparing versions of this project, not machines.

Source: Weidendorfer et al., A tool suite for simulation based analysis of memory access behavior,
ICCS 2004 (callgrind).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import write_results
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.errors import InvalidValueError

ROOT = Path(__file__).parents[2]
PARTS = ("decode and resize", "inference", "bytes to record")

_SCRIPT = """
import gc, os, sys
from edge_runtime import Screener
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.images.preprocess import prepare
screener = Screener.load(engine=sys.argv[1], threads=1, force=True)
data = phantom_jpeg(1, True, 900, 1100)
pixels = prepare(data, screener.bundle.manifest.input)
parts = (
    lambda: prepare(data, screener.bundle.manifest.input),
    lambda: screener.run(pixels),
    lambda: screener.screen(data).to_json(),
)
for part in parts * 2:
    part()
gc.collect()
gc.disable()
for part in parts:
    os.getppid()
    part()
    os.getpgid(0)
os._exit(0)
"""


@dataclasses.dataclass(frozen=True)
class Counted:
    """Instructions by part of one drawn radiograph of 900 x 1100 pixels."""

    engine: str
    instructions: dict[str, int]


@dataclasses.dataclass(frozen=True)
class CountedResult:
    rows: tuple[Counted, ...]


def missing() -> str | None:
    """What this machine lacks to count; None where nothing."""
    for tool in ("valgrind", "setarch"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return None


def count(engine: str) -> Counted:
    """Count one engine.

    Raises:
        InvalidValueError: Valgrind is missing or the script failed under it.
    """
    lacking = missing()
    if lacking:
        raise InvalidValueError(lacking)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        command = [
            "setarch", "-R", "valgrind", "--tool=callgrind", "--fair-sched=yes",
            "--zero-before=getppid", "--dump-before=getpgid", f"--callgrind-out-file={out}",
            sys.executable, "-c", _SCRIPT, engine,
        ]  # fmt: skip
        environment = dict(os.environ) | {
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        totals = []
        for number in range(1, len(PARTS) + 1):
            file = out.with_name(f"callgrind.{number}")
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            found = re.search(r"^totals: (\d+)", text, re.MULTILINE)
            if not found:
                raise InvalidValueError(f"callgrind: {done.stderr.strip()[-600:]}")
            totals.append(int(found.group(1)))
    return Counted(engine, dict(zip(PARTS, totals, strict=True)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks counted --output build/counted "
        "--against docs/results/counted/counted.json"
    )
    parser.add_argument("--engine", choices=ENGINE_NAMES, help="only this one")
    parser.add_argument("--against", type=Path, help="an earlier counted.json; exit 1 if worse")
    parser.add_argument("--limit", type=float, default=0.02, help="what is worse (default 0.02)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")


def run(arguments: argparse.Namespace) -> int:
    engines = [arguments.engine] if arguments.engine else ["litert", "onnxruntime"]
    same = run_counted(engines, arguments.output, arguments.against, arguments.limit)
    if not same:
        print("more instructions than before", file=sys.stderr)
    return 0 if same else 1


def run_counted(engines: list[str], output: Path, against: Path | None, limit: float) -> bool:
    """Count, write counted.json and counted.md; False if anything rose by more than `limit`.

    Raises:
        InvalidValueError: Valgrind is missing, or `against` is no earlier result.
    """
    result = CountedResult(tuple(count(engine) for engine in engines))
    before = _read(against) if against else {}
    lines = ["Instructions for one image, in millions.", "", "| engine | part | | change |",
             "|---|---|---|---|"]  # fmt: skip
    worse = False
    for row in result.rows:
        for part, value in row.instructions.items():
            old = before.get((row.engine, part))
            change = "" if old is None else f"{value / old - 1:+.2%}"
            worse |= old is not None and value > old * (1 + limit)
            lines.append(f"| {row.engine} | {part} | {value / 1e6:.2f} | {change} |")
    write_results(output, "counted", result, "\n".join([*lines, ""]))
    return not worse


def _read(path: Path) -> dict[tuple[str, str], int]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {
            (row["engine"], part): int(value)
            for row in rows
            for part, value in row["instructions"].items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(f"{path}: not a result of `benchmarks counted`: {error}") from error
