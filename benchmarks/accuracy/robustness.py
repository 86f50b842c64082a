"""Does int8 fall faster than float when images get worse? Paired AUC under corruptions."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.accuracy.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from benchmarks.arguments import add_bundles, add_data
from benchmarks.labelled import add_choice, read_labelled
from benchmarks.results import write_results
from edge_runtime.basics.processors import default_threads
from edge_runtime.engines.choose import engine_module
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.images.file import read_file
from edge_runtime.images.preprocess import prepare
from edge_runtime.judge.scores import disease_logit
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import auc_difference, auc_interval

MAX_CELL_LOSS = 0.01
_ENGINES = ("litert", "onnxruntime")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One corruption at one severity; severity 0 is the plain image."""

    corruption: str
    severity: int
    float_auc: Estimate
    differences: dict[str, PairedDifference]  # int8 file -> to float


@dataclasses.dataclass(frozen=True)
class RobustnessResult:
    data: str
    images: int
    positives: int
    cells: tuple[Cell, ...]

    def losses(self) -> list[tuple[str, Cell]]:
        """Every (file, cell) where int8 loses more than is allowed."""
        return [
            (name, cell)
            for cell in self.cells
            for name, d in cell.differences.items()
            if d.difference < -MAX_CELL_LOSS
        ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks robustness --float bundles/default-float "
        "--data chest_xray/test --output docs/results/robustness"
    )
    add_bundles(parser)
    add_data(parser, "labelled folder, or a table (CSV)")
    add_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    kept = run_robustness(
        arguments.bundle,
        arguments.reference,
        arguments.data,
        arguments.output,
        arguments.source,
        arguments.finding,
    )
    return 0 if kept else 1


def run_robustness(
    bundle: Path,
    reference: Path,
    data: Path,
    output: Path,
    sources: Sequence[str] = (),
    findings: Sequence[str] = (),
) -> bool:
    """Measure, write robustness.json, robustness.md and robustness.svg; True if no cell loses.

    Raises:
        InvalidValueError: The data are not labelled, or an engine is missing.
    """
    images = read_labelled(data, sources, findings)
    labels = np.array([image.positive for image in images], dtype=np.int64)
    float32 = _load(reference, "litert")
    int8 = {
        f"int8 {engine_module(name).FORMAT}": _load(bundle, name)
        for name in _ENGINES
        if engine_module(name).is_available()
    }
    spec = float32.bundle.manifest.input
    pixels = [
        prepare(read_file(image.path), spec)
        for image in tqdm(images, "reading", unit="image", leave=False, disable=None)
    ]
    settings = [("none", 0)] + [(name, s) for name in CORRUPTIONS for s in SEVERITIES]
    cells = []
    for name, severity in tqdm(settings, "corruptions", disable=None):
        changed = [corrupt(p, name, severity, i) if severity else p for i, p in enumerate(pixels)]
        baseline = _scores(float32, changed)
        cells.append(
            Cell(
                name,
                severity,
                auc_interval(labels, baseline),
                {
                    kind: auc_difference(labels, baseline, _scores(screener, changed))
                    for kind, screener in int8.items()
                },
            )
        )
    result = RobustnessResult(data.name, len(images), int(labels.sum()), tuple(cells))
    write_results(output, "robustness", result, _markdown(result))
    _draw(result, output / "robustness.svg")
    return not result.losses()


def _load(folder: Path, engine: str) -> Screener:
    try:
        return Screener.load(
            folder, engine=engine, threads=1, parallel=default_threads(), force=True
        )
    except CxrEdgeError as error:
        raise InvalidValueError(f"{folder} with {engine}: {error}") from error


def _scores(screener: Screener, pixels: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Logits of pneumonia; the quality gate is not asked."""
    with ThreadPoolExecutor(default_threads()) as pool:
        logits = list(pool.map(lambda p: screener.logits(screener.run(p)), pixels))
    return disease_logit(np.stack(logits), screener.bundle.manifest.outputs.activation)


def _markdown(result: RobustnessResult) -> str:
    files = list(result.cells[0].differences)
    lines = [
        f"{result.images} images of `{result.data}`, {result.positives} with pneumonia, each "
        "corrupted at the model's resolution. AUC of the float model (DeLong 95 %) and paired "
        "differences of the int8 files to it.",
        "",
        f"| corruption | severity | float AUC | {' | '.join(files)} |",
        "|---|---|---|" + "---|" * len(files),
    ]
    for cell in result.cells:
        differences = [f"{d:+.4f}" for d in cell.differences.values()]
        lines.append(
            f"| {cell.corruption} | {cell.severity} | {cell.float_auc} | "
            + " | ".join(differences)
            + " |"
        )
    losses = result.losses()
    said = "; ".join(f"{name} at {cell.corruption} {cell.severity}" for name, cell in losses)
    lines += ["", f"Cells where int8 loses more than {MAX_CELL_LOSS}: {said or 'none'}.", ""]
    return "\n".join(lines)


def _draw(result: RobustnessResult, path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "cxr-edge"
    files = list(result.cells[0].differences)
    plain = result.cells[0]
    names = list(CORRUPTIONS)
    by_place = {(c.corruption, c.severity): c for c in result.cells}
    columns = (0, *SEVERITIES)

    def grid(value) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
        return np.array([[value(by_place.get((n, s), plain)) for s in columns] for n in names])

    panels: list[tuple[str, NDArray[np.float64], str, float | None]] = [
        ("float32 AUC", grid(lambda c: c.float_auc.value), "viridis", None)
    ]
    for file in files:
        values = grid(lambda c, f=file: c.differences[f].difference)
        panels.append((f"{file} minus float32", values, "RdBu", 0.02))
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 4.4), squeeze=False, layout="constrained"
    )
    for axes, (title, values, colours, limit) in zip(all_axes[0], panels, strict=True):
        low, high = (values.min(), 1.0) if limit is None else (-limit, limit)
        picture = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
        axes.set(title=title, xlabel="severity", xticks=range(len(columns)), xticklabels=columns)
        axes.set_yticks(range(len(names)), names)
        for (row, column), value in np.ndenumerate(values):
            text = f"{value:.3f}" if limit is None else f"{value * 1000:+.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7)
        figure.colorbar(picture, ax=axes, shrink=0.8)
    figure.suptitle("AUC under corruption; differences in thousandths")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
