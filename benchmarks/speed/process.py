"""What a whole process costs: cold start and peak memory of `cxr-edge screen`.

bare        a Python that imports numpy, Pillow and the engine, and does nothing more
shortest    the same, and opens the model, decodes one image and runs it: the shortest script that
            gives a number, without a check, a record or an error message
cold start  from the shell's prompt to the record of one image, processes in turn
memory      the largest resident size over a whole folder
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import statistics
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks import processes
from benchmarks.arguments import add_data, add_engine, add_repetitions
from benchmarks.processes import Finished
from benchmarks.results import files_of, median_ratio, write_results
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import DEFAULT_BUNDLE
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import least_size
from edge_runtime.statistics.estimates import Estimate

_IMPORTS = {
    "litert": "from ai_edge_litert.interpreter import Interpreter",
    "onnxruntime": "import onnxruntime",
    "tflite-runtime": "from tflite_runtime.interpreter import Interpreter",
}


_SHORTEST = """
import sys, numpy, PIL.Image
from ai_edge_litert.interpreter import Interpreter
model, image, height, width, least_height, least_width = sys.argv[1:]
interpreter = Interpreter(model_path=model, num_threads=2)
interpreter.allocate_tensors()
grey = PIL.Image.open(image)
grey.draft("L", (int(least_width), int(least_height)))
pixels = numpy.asarray(grey.convert("L").resize((int(width), int(height))))
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None, :, :, None])
interpreter.invoke()
print(*(interpreter.get_tensor(o["index"]).mean() for o in interpreter.get_output_details()))
"""


@dataclasses.dataclass(frozen=True)
class ProcessCost:
    """Medians over the repetitions."""

    engine: str
    machine: str
    repetitions: int
    bare_ms: float
    shortest_ms: float | None  # LiteRT only
    cold_ms: float
    cold_to_bare: Estimate  # of neighbouring processes; bootstrap over the repetitions
    cold_to_shortest: Estimate | None
    images: int
    peak_memory_mb: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks process --data chest_xray_originals --output build/process"
    )
    add_engine(parser)
    add_data(parser, "folder of radiographs")
    add_repetitions(parser, 15)


def run(arguments: argparse.Namespace) -> int:
    run_process(arguments.engine, arguments.data, arguments.output, arguments.repetitions)
    return 0


def run_process(engine: str, data: Path, output: Path, repetitions: int = 15) -> ProcessCost:
    """Measure, write process.json and process.md.

    Raises:
        InvalidValueError: There are no files in `data`, or the engine is not installed.
    """
    paths = files_of(data)
    bare = [sys.executable, "-c", f"import numpy, PIL.Image; {_IMPORTS[engine]}"]
    screen = [sys.executable, "-m", "edge_runtime", "screen", "--engine", engine, "--force"]
    one = [*screen, "--format", "jsonl", paths[0]]
    spec = load_bundle().manifest.input
    model = os.path.join(DEFAULT_BUNDLE, "model.tflite")
    size = [str(spec.height), str(spec.width), *map(str, least_size(spec))]
    shortest = [sys.executable, "-c", _SHORTEST, model, paths[0], *size]
    commands = [bare, one] + ([shortest] if engine == "litert" else [])
    for command in commands:
        _run(command)  # the system has read everything once
    times = [
        [_run(command).seconds for command in commands]
        for _ in tqdm(range(repetitions), "cold starts", disable=None)
    ]
    whole = _run([*screen, "--format", "jsonl", str(data)])
    result = ProcessCost(
        engine=engine,
        machine=f"{platform.system()} {platform.machine()}",
        repetitions=repetitions,
        bare_ms=statistics.median(t[0] for t in times) * 1e3,
        shortest_ms=statistics.median(t[2] for t in times) * 1e3 if len(commands) > 2 else None,
        cold_ms=statistics.median(t[1] for t in times) * 1e3,
        cold_to_bare=median_ratio([t[1] / t[0] for t in times]),
        cold_to_shortest=(
            median_ratio([t[1] / t[2] for t in times]) if len(commands) > 2 else None
        ),
        images=len(paths),
        peak_memory_mb=whole.peak_mb,
    )
    write_results(output, "process", result, _markdown(result))
    return result


def _run(command: list[str]) -> Finished:
    """One process.

    Raises:
        InvalidValueError: It ended with an error.
    """
    done = processes.run_process(command)
    if done.code not in (0, 1):  # 1: a file of the folder could not be screened
        raise InvalidValueError(f"exit status {done.code}: {' '.join(command)}")
    return done


def _markdown(result: ProcessCost) -> str:
    lines = [
        f"{result.engine}, {result.machine}, medians of {result.repetitions} processes of each, in "
        "turn; ratios with their 95 % bootstrap intervals.",
        "",
        "| | ms | ours / this |",
        "|---|---|---|",
        f"| imports numpy, Pillow and the engine | {result.bare_ms:.0f} | "
        f"{result.cold_to_bare:.2f} |",
    ]
    if result.shortest_ms is not None and result.cold_to_shortest is not None:
        lines.append(
            "| the shortest script that runs the model on one image | "
            f"{result.shortest_ms:.0f} | {result.cold_to_shortest:.2f} |"
        )
    lines += [
        f"| ours: one image, from prompt to record | {result.cold_ms:.0f} | 1.00 |",
        "",
        f"Peak memory over {result.images} files: {result.peak_memory_mb:.0f} MB.",
        "",
    ]
    return "\n".join(lines)
