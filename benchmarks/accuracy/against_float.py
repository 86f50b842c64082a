"""Is the float model's accuracy kept? Every file of a bundle, on every engine, paired with float.

All scores come from `edge_runtime` itself, file by file as a device would read them.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_bundles, add_data
from benchmarks.labelled import Labelled, add_choice, read_labelled
from benchmarks.plots import draw_roc, draw_scatter
from edge_runtime.basics.parse import to_mapping
from edge_runtime.basics.processors import default_threads
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.engines.choose import engine_module
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.images.inputs import Input
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.population import NAMES
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import (
    auc_difference,
    auc_interval,
    average_precision,
    confusion,
)
from export.verify.gate import MAX_AUC_LOSS
from train.data.dataset import Sample, has_findings
from train.evaluate.adjusted import WithinFacts, facts_of, within_facts
from train.evaluate.by_finding import (
    CONFUSION_TOLD,
    FIGURE_COLUMNS,
    SOURCES_TOLD,
    ByFinding,
    measure_findings,
    names_in,
    rows_of,
)


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
    # Within strata of what facts of the files alone tell; None where these cannot be fitted.
    within_facts: WithinFacts | None = None
    by_finding: ByFinding | None = None  # of models that tell several


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Screens a labelled folder (sub-folders PNEUMONIA and another) with the float "
        "model and with every file of a bundle, through edge_runtime. Exit status 1 when the "
        "lower 95 % limit of an AUC difference is below -0.005."
    )
    parser.epilog = (
        "example: python -m benchmarks accuracy --bundle bundles/default "
        "--float bundles/default-float --data chest_xray/test --output docs/results/test"
    )
    add_bundles(parser)
    add_data(parser, "labelled folder, or a table (CSV)")
    add_choice(parser)
    parser.add_argument(
        "--population",
        choices=NAMES,
        help="whom all films show: the points of this population are measured beside those of all",
    )


def run(arguments: argparse.Namespace) -> int:
    preserved = run_accuracy(
        arguments.bundle,
        arguments.reference,
        arguments.data,
        arguments.output,
        arguments.source,
        arguments.finding,
        arguments.population,
    )
    if not preserved:
        print("AUC is NOT preserved", file=sys.stderr)
    return 0 if preserved else 1


def run_accuracy(
    bundle: Path,
    reference: Path,
    data: Path,
    output: Path,
    sources: Sequence[str] = (),
    findings: Sequence[str] = (),
    population: str | None = None,
) -> bool:
    """Measure, write accuracy.json, accuracy.md, scores.csv and plots; True if AUC is preserved.

    Args:
        bundle: The exported bundle.
        reference: Its float bundle (`…-float`, written by export beside it).
        data: Labelled folder, or a table.
        output: Folder for the results.
        sources: Of a table: these alone.
        findings: Of a table: what is positive.
        population: Whose points to measure beside those of all.

    Raises:
        InvalidValueError: The bundle has no such population, an image could not be screened, or
            no engine is installed.
    """
    manifest = load_bundle(bundle).manifest
    images = read_labelled(data, sources, findings, names_in(manifest) if manifest.findings else {})
    labels = np.array([image.positive for image in images], dtype=np.int64)
    facts = facts_of((image.path.read_bytes() for image in images), len(images))
    shown = has_findings(_samples(images), manifest.labels) if manifest.findings else None
    rows: list[Row] = []
    scores: dict[str, NDArray[np.float64]] = {}
    points: tuple[OperatingPoint, ...] = ()
    for folder, kind in ((reference, "float32"), (bundle, "int8")):
        for name in filter(lambda n: engine_module(n).is_available(), ENGINE_NAMES):
            screener = _load(folder, name)
            if screener is None:
                continue
            points = points or _points(screener.bundle.manifest, population)
            label = f"{kind} {engine_module(name).FORMAT}, {screener.engine_name}"
            probability, by_finding = _screen(screener, images, label)
            baseline = next(iter(scores.values()), None)
            scores[label] = probability
            row = _measure(label, screener.engine_name, labels, probability, baseline, points)
            people = [image.patient for image in images]
            within = within_facts(labels, probability, facts, people)
            found = None
            if shown is not None:
                found = measure_findings(manifest.findings, shown, by_finding, people, facts)
            rows.append(dataclasses.replace(row, within_facts=within, by_finding=found))
    if not rows:
        raise InvalidValueError("no engine is installed that reads these bundles")
    output.mkdir(parents=True, exist_ok=True)
    _write(output, data, rows, images, scores)
    draw_roc(labels, scores, output / "roc.svg")
    draw_scatter(labels, scores, points, output / "scatter.svg")
    print((output / "accuracy.md").read_text(encoding="utf-8"))
    return all(row.preserved is not False for row in rows)


def _points(manifest: Manifest, population: str | None) -> tuple[OperatingPoint, ...]:
    """Of all, and those of a population under names of their own."""
    if population is None:
        return manifest.operating_points
    own = manifest.population(population).operating_points
    named = (dataclasses.replace(p, name=f"{p.name}, {population}") for p in own)
    return (*manifest.operating_points, *named)


def _load(folder: Path, engine: str) -> Screener | None:
    try:
        return Screener.load(
            folder, engine=engine, threads=1, parallel=default_threads(), force=True
        )
    except CxrEdgeError as error:
        tqdm.write(f"skipped {engine} on {folder}: {error}")
        return None


def _samples(images: Sequence[Labelled]) -> list[Sample]:
    return [Sample(image.name, image.kind, image.patient) for image in images]


def _screen(
    screener: Screener, images: list[Labelled], label: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) probabilities of any disease, and (n, findings) of each."""
    inputs = (Input(str(image.path)) for image in images)
    results = screener.examine_many(inputs, default_threads())
    probabilities, by_finding = [], []
    for result in tqdm(results, label, len(images), unit="image", leave=False, disable=None):
        if result.record.probability is None:
            raise InvalidValueError(f"not screened: {result.record.to_json()}")
        probabilities.append(result.record.probability)
        found = result.record.findings or {}
        by_finding.append([one.probability for one in found.values()])
    return np.array(probabilities), np.array(by_finding)


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


def _finding_tables(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row.by_finding is None:
            continue
        figures, counts = rows_of(row.by_finding)
        lines += ["", f"By finding, {row.model}. {SOURCES_TOLD}", ""]
        lines += _table(FIGURE_COLUMNS, figures)
        lines += ["", CONFUSION_TOLD, "", *_table(("shows", *row.by_finding.columns), counts)]
    return lines


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *cells]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _facts_table(rows: Sequence[Row]) -> list[str]:
    known = [(row.model, row.within_facts) for row in rows if row.within_facts is not None]
    if not known:
        return []
    return [
        "",
        f"Facts of the files alone (bytes per pixel, sharpness, border and so on, fitted on other "
        f"patients) have an AUC of {known[0][1].facts_auc}. The higher that is, the more a plain "
        "AUC says of machines instead of disease; then the AUC within strata of these facts is the "
        "one to believe (Janes and Pepe, Biometrika 2009).",
        "",
        "| model | AUC within strata of file facts (95 %) |",
        "|---|---|",
        *(f"| {model} | {within.adjusted_auc} |" for model, within in known),
    ]


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
    return "\n".join([*lines, *_finding_tables(rows), *_facts_table(rows)]) + "\n"
