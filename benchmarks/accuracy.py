"""Is the float model's accuracy kept? Every file of a bundle, on every engine, paired with float.

All scores come from `edge_runtime` itself, file by file as a device would read them.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.labelled import Labelled, read_labelled
from benchmarks.plots import draw_roc, draw_scatter
from edge_runtime.batch import examine_many
from edge_runtime.engine_names import ENGINE_NAMES
from edge_runtime.engines import default_threads, engine_module
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.estimates import Estimate, PairedDifference
from edge_runtime.inputs import Input
from edge_runtime.manifest import OperatingPoint
from edge_runtime.metrics import auc_difference, auc_interval, average_precision, confusion
from edge_runtime.parse import to_mapping
from edge_runtime.screener import Screener
from export.gate import MAX_AUC_LOSS


@dataclasses.dataclass(frozen=True)
class AtPoint:
    """What a model does at one operating point."""

    name: str
    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate
    missed: int
    agreement: float | None  # share of decisions equal to the float model's


@dataclasses.dataclass(frozen=True)
class Row:
    """One model file on one engine."""

    model: str
    engine: str
    images: int
    positives: int
    auc: Estimate
    average_precision: float
    difference: PairedDifference | None
    preserved: bool | None
    max_probability_difference: float | None
    points: tuple[AtPoint, ...]


def run_accuracy(bundle: Path, reference: Path, data: Path, output: Path) -> bool:
    """Measure, write accuracy.json, accuracy.md, scores.csv and plots; True if AUC is preserved.

    Args:
        bundle: The exported bundle.
        reference: Its float bundle (`…-float`, written by export beside it).
        data: Labelled folder.
        output: Folder for the results.

    Raises:
        InvalidValueError: An image could not be screened, or no engine is installed.
    """
    images = read_labelled(data)
    labels = np.array([image.positive for image in images], dtype=np.int64)
    rows: list[Row] = []
    scores: dict[str, NDArray[np.float64]] = {}
    points: tuple[OperatingPoint, ...] = ()
    for folder, kind in ((reference, "float32"), (bundle, "int8")):
        for name in filter(lambda n: engine_module(n).is_available(), ENGINE_NAMES):
            screener = _load(folder, name)
            if screener is None:
                continue
            points = points or screener.bundle.manifest.operating_points
            label = f"{kind} {engine_module(name).FORMAT}, {screener.engine_name}"
            probability = _screen(screener, images, label)
            baseline = next(iter(scores.values()), None)
            scores[label] = probability
            rows.append(
                _measure(label, screener.engine_name, labels, probability, baseline, points)
            )
    if not rows:
        raise InvalidValueError("no engine is installed that reads these bundles")
    output.mkdir(parents=True, exist_ok=True)
    _write(output, data, rows, images, scores)
    draw_roc(labels, scores, output / "roc.svg")
    draw_scatter(labels, scores, points, output / "scatter.svg")
    print((output / "accuracy.md").read_text(encoding="utf-8"))
    return all(row.preserved is not False for row in rows)


def _load(folder: Path, engine: str) -> Screener | None:
    try:
        return Screener.load(
            folder, engine=engine, threads=1, parallel=default_threads(), force=True
        )
    except CxrEdgeError as error:
        tqdm.write(f"skipped {engine} on {folder}: {error}")
        return None


def _screen(screener: Screener, images: list[Labelled], label: str) -> NDArray[np.float64]:
    inputs = (Input(str(image.path)) for image in images)
    results = examine_many(screener, inputs, default_threads())
    probabilities = []
    for result in tqdm(results, label, len(images), unit="image", leave=False, disable=None):
        if result.record.probability is None:
            raise InvalidValueError(f"not screened: {result.record.to_json()}")
        probabilities.append(result.record.probability)
    return np.array(probabilities)


def _measure(
    label: str,
    engine: str,
    labels: NDArray[np.int64],
    probability: NDArray[np.float64],
    baseline: NDArray[np.float64] | None,
    points: tuple[OperatingPoint, ...],
) -> Row:
    difference = None if baseline is None else auc_difference(labels, baseline, probability)
    at_points = []
    for point in points:
        counts = confusion(labels, probability, point.threshold)
        agree = None
        if baseline is not None:
            same = (probability >= point.threshold) == (baseline >= point.threshold)
            agree = float(same.mean())
        at_points.append(
            AtPoint(
                point.name,
                point.threshold,
                counts.sensitivity,
                counts.specificity,
                counts.accuracy,
                counts.false_negative,
                agree,
            )
        )
    return Row(
        model=label,
        engine=engine,
        images=len(labels),
        positives=int(labels.sum()),
        auc=auc_interval(labels, probability),
        average_precision=average_precision(labels, probability),
        difference=difference,
        preserved=None if difference is None else difference.low >= -MAX_AUC_LOSS,
        max_probability_difference=(
            None if baseline is None else float(np.abs(probability - baseline).max())
        ),
        points=tuple(at_points),
    )


def _write(
    output: Path,
    data: Path,
    rows: list[Row],
    images: list[Labelled],
    scores: dict[str, NDArray[np.float64]],
) -> None:
    document = {
        "schema": "cxr-edge/accuracy/1",
        "data": data.name,
        "max_auc_loss": MAX_AUC_LOSS,
        "rows": to_mapping(rows),
    }
    (output / "accuracy.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (output / "accuracy.md").write_text(_markdown(data, rows), encoding="utf-8")
    with open(output / "scores.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "positive", *scores])
        for i, image in enumerate(images):
            writer.writerow([image.name, int(image.positive), *(s[i] for s in scores.values())])


def _markdown(data: Path, rows: list[Row]) -> str:
    lines = [
        f"{rows[0].images} images of `{data.name}`, {rows[0].positives} with pneumonia. "
        "AUC with DeLong 95 % intervals; differences paired with the first row.",
        "",
        "| model | AUC (95 %) | difference (95 %) | p | preserved | largest probability "
        "difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.model, str(row.auc), "", "", "", ""]
        if row.difference is not None:
            d = row.difference
            cells[2:] = [
                f"{d:+.4f}",
                f"{d.p_value:.2f}",
                "yes" if row.preserved else "NO",
                f"{row.max_probability_difference:.4f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| model | operating point | sensitivity (95 %) | missed | specificity (95 %) | accuracy "
        "(95 %) | equal decisions |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for p in row.points:
            agree = "" if p.agreement is None else f"{p.agreement:.4f}"
            cells = [row.model, f"{p.name} ({p.threshold:.4f})", str(p.sensitivity), str(p.missed)]
            cells += [str(p.specificity), str(p.accuracy), agree]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
