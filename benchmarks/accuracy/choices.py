"""What the choices of the export cost: representative images, biases, weights, the score's end.

Each choice converts the run's model again and is held against the float model on the validation
images, plain and on their corrupted copy. Nothing here reads the test split.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.accuracy.corruptions import CORRUPTIONS, corrupt
from benchmarks.results import write_results
from edge_runtime.engines import litert
from edge_runtime.engines.engine import Engine
from edge_runtime.statistics.estimates import PairedDifference
from edge_runtime.statistics.metrics import auc_difference
from export.convert.bias_correction import correct_biases
from export.convert.inference_model import keras_logits, load_core
from export.convert.to_tflite import to_int8_tflite
from export.representative import choose_representative
from export.verify.gate import run_engine
from train.data.source import open_source
from train.data.table import add_data_sets
from train.run.finished import open_run

_SIZES = (1, 10, 50, 200, 500)
_SEVERITY = 4


@dataclasses.dataclass(frozen=True)
class Choice:
    """An int8 .tflite made in one way, against the float model."""

    name: str
    plain: PairedDifference
    corrupted: PairedDifference
    rms_logit_error: float
    distinct: int  # different scores among the plain images
    tied: float  # share of the plain images that share their score with another


@dataclasses.dataclass(frozen=True)
class ChoicesResult:
    images: int
    positives: int
    rows: tuple[Choice, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks choices runs/default --data chest_xray "
        "--output docs/results/choices"
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    add_data_sets(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")


def run(arguments: argparse.Namespace) -> int:
    run_choices(arguments.run_folder, arguments.data, arguments.output)
    return 0


def run_choices(run_folder: Path, data: Sequence[Path], output: Path) -> ChoicesResult:
    """Convert and measure; write choices.json and choices.md.

    Raises:
        InvalidValueError: Not a finished run.
    """
    run = open_run(run_folder)
    core = load_core(run.folder)
    source = open_source(data)
    plain = source.pixels(run.splits.validation, run.input, "validation")
    names = list(CORRUPTIONS)
    corrupted = np.stack(
        [corrupt(p, names[i % len(names)], _SEVERITY, i) for i, p in enumerate(plain)]
    )
    positive = run.validation.positive
    exact = [run.disease(keras_logits(core, pixels)) for pixels in (plain, corrupted)]

    def measure(name: str, scores: list[NDArray[np.float64]], error: float | None = None) -> Choice:
        values, counts = np.unique(scores[0], return_counts=True)
        return Choice(
            name,
            auc_difference(positive, exact[0], scores[0]),
            auc_difference(positive, exact[1], scores[1]),
            round(float(np.sqrt(np.mean((scores[0] - exact[0]) ** 2))), 4)
            if error is None
            else error,
            len(values),
            round(float(counts[counts > 1].sum() / len(scores[0])), 4),
        )

    def representative(count: int) -> NDArray[np.uint8]:
        whole = [s for s in run.splits.train if source.is_whole(s)]
        images = choose_representative(whole, max(2, count))[:count]
        return source.pixels(images, run.input, "representative")

    def scores(engine: Engine) -> list[NDArray[np.float64]]:
        return [
            run.disease(run_engine(engine, pixels, "scores")[0]) for pixels in (plain, corrupted)
        ]

    rows = []
    for size in tqdm(_SIZES, "representative images", disable=None):
        pixels = representative(size)
        model = to_int8_tflite(correct_biases(core, pixels), pixels)
        rows.append(measure(f"{size} representative images", scores(litert.load(model, 2))))
    usual = representative(200)
    for name, per_channel in (
        ("200, biases not corrected", True),
        ("the same, per-tensor weights", False),
    ):
        model = to_int8_tflite(core, usual, per_channel=per_channel)
        rows.append(measure(name, scores(litert.load(model, 2))))
    if core.output["map"].shape[-1] == 1:
        single = to_int8_tflite(_one_probability(correct_biases(core, usual)), usual)
        rows.append(
            measure(
                "one int8 probability as output",
                [_probabilities(single, pixels) for pixels in (plain, corrupted)],
                float("nan"),
            )
        )
    result = ChoicesResult(len(plain), int(positive.sum()), tuple(rows))
    write_results(output, "choices", result, _markdown(result))
    return result


def _one_probability(core: keras.Model) -> keras.Model:
    """The usual ending: mean and sigmoid inside the graph, one number out."""
    logit = keras.layers.GlobalAveragePooling2D()(core.output["map"])
    return keras.Model(core.inputs, keras.layers.Activation("sigmoid")(logit))


def _probabilities(model: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=2)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in pixels:
        interpreter.set_tensor(source["index"], image[np.newaxis])
        interpreter.invoke()
        found.append(float(interpreter.get_tensor(target["index"]).ravel()[0]))
    return np.array(found)


def _markdown(result: ChoicesResult) -> str:
    lines = [
        f"{result.images} validation images, {result.positives} with pneumonia, and the same "
        f"corrupted (every kind in turn, severity {_SEVERITY}). AUC differences to the float "
        "model, paired, 95 %.",
        "",
        "| int8 .tflite made with | plain | corrupted | rms error of the logit | distinct scores | "
        "images with a tied score |",
        "|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        cells = [f"{d:+.5f}" for d in (row.plain, row.corrupted)]
        error = "" if np.isnan(row.rms_logit_error) else f"{row.rms_logit_error:.3f}"
        lines.append(
            f"| {row.name} | {cells[0]} | {cells[1]} | {error} | {row.distinct} | {row.tied:.1%} |"
        )
    return "\n".join([*lines, ""])
