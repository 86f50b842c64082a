"""What a whole process costs: cold start and peak memory of `cxr-edge screen`.

bare        a Python that imports numpy, Pillow and the engine, and does nothing more
cold start  from the shell's prompt to the record of one image, processes in turn
memory      the largest resident size over a whole folder
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.inputs import find_inputs
from edge_runtime.parse import to_mapping

_IMPORTS = {
    "litert": "from ai_edge_litert.interpreter import Interpreter",
    "onnxruntime": "import onnxruntime",
    "tflite-runtime": "from tflite_runtime.interpreter import Interpreter",
}


@dataclasses.dataclass(frozen=True)
class ProcessCost:
    """Medians over the repetitions."""

    engine: str
    machine: str
    repetitions: int
    bare_ms: float
    cold_ms: float
    cold_to_bare: float  # median of the ratios of neighbouring processes
    images: int
    peak_memory_mb: float


def run_process(engine: str, data: Path, output: Path, repetitions: int = 15) -> ProcessCost:
    """Measure, write process.json and process.md.

    Raises:
        InvalidValueError: There are no files in `data`, or the engine is not installed.
    """
    paths = [item.path for item in find_inputs([str(data)]) if item.error is None]
    if not paths:
        raise InvalidValueError(f"no files in {data}")
    bare = [sys.executable, "-c", f"import numpy, PIL.Image; {_IMPORTS[engine]}"]
    screen = [sys.executable, "-m", "edge_runtime", "screen", "--engine", engine, "--force"]
    one = [*screen, "--format", "jsonl", paths[0]]
    _run(bare)  # the system has read everything once
    _run(one)
    pairs = [
        (_run(bare)[0], _run(one)[0]) for _ in tqdm(range(repetitions), "cold starts", disable=None)
    ]
    _, peak = _run([*screen, "--format", "jsonl", str(data)])
    result = ProcessCost(
        engine=engine,
        machine=f"{platform.system()} {platform.machine()}",
        repetitions=repetitions,
        bare_ms=statistics.median(a for a, _ in pairs) * 1e3,
        cold_ms=statistics.median(b for _, b in pairs) * 1e3,
        cold_to_bare=statistics.median(b / a for a, b in pairs),
        images=len(paths),
        peak_memory_mb=peak,
    )
    output.mkdir(parents=True, exist_ok=True)
    document = {"schema": "cxr-edge/process/1"} | to_mapping(result)
    (output / "process.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = _markdown(result)
    (output / "process.md").write_text(text, encoding="utf-8")
    print(text)
    return result


def _run(command: list[str]) -> tuple[float, float]:
    """(seconds, peak resident size in MB) of one process.

    Raises:
        InvalidValueError: It ended with an error.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode not in (0, 1):  # 1: a file of the folder could not be screened
        raise InvalidValueError(f"exit status {process.returncode}: {' '.join(command)}")
    per_mb = 1024 * 1024 if platform.system() == "Darwin" else 1024
    return seconds, usage.ru_maxrss / per_mb


def _markdown(result: ProcessCost) -> str:
    return "\n".join(
        [
            f"{result.engine}, {result.machine}, medians of {result.repetitions}.",
            "",
            "| | ms | to the bare imports |",
            "|---|---|---|",
            f"| process that imports numpy, Pillow and the engine | {result.bare_ms:.0f} | 1.00 |",
            f"| one image, from prompt to record | {result.cold_ms:.0f} | "
            f"{result.cold_to_bare:.2f} |",
            "",
            f"Peak memory over {result.images} files: {result.peak_memory_mb:.0f} MB.",
            "",
        ]
    )
