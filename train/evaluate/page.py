"""The plots and the page of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.judge.operating_point import ABNORMAL, PNEUMONIA
from edge_runtime.records.heatmap import overlay
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import calibration_bins, precision_recall_curve, roc_curve
from train.data.source import Source
from train.evaluate.by_finding import CONFUSION_TOLD, FIGURE_COLUMNS, SOURCES_TOLD, rows_of
from train.evaluate.figures import Evaluation, probabilities
from train.page import Page
from train.run.finished import FinishedRun
from train.run.scores import Scores

_SHOWN = 12
_BINS = 10


def write_page(
    run: FinishedRun,
    model: Any,
    scores: Scores,
    evaluation: Evaluation,
    source: Source,
    output: Path,
) -> None:
    """index.html with everything, and each plot as an SVG beside it."""
    probability = probabilities(run, scores, evaluation.temperature)
    positive = run.recipe.network.positive
    disease = PNEUMONIA if positive == PNEUMONIA else "disease"
    page = Page(f"{evaluation.recipe}, seed {evaluation.seed}: {evaluation.part}")
    page.text(
        f"{_told_choices(run, evaluation.part)} Screening support, research and education, not a "
        "diagnosis."
    )
    _add_tables(page, evaluation)
    matplotlib.rcParams["svg.hashsalt"] = "cxr-edge"  # the same figures give the same file
    figures = {
        "confusion": _draw_confusion(evaluation, positive),
        "curves": _draw_roc_and_precision_recall(scores, probability, evaluation),
        "calibration": _draw_calibration(scores, probability, evaluation, positive),
    }
    history = run.folder / "history.json"
    for name, figure in figures.items():
        page.heading(name.capitalize())
        page.plot(figure, name)
        figure.savefig(output / f"{name}.svg", metadata={"Date": None})
    if history.exists():
        from train.run.curves import draw_learning

        figure = draw_learning(json.loads(history.read_text(encoding="utf-8")))
        page.heading("Learning curves")
        page.plot(figure, "loss and validation AUC by epoch")
        figure.savefig(output / "learning.svg", metadata={"Date": None})
    for title, chosen in _mistakes(scores, probability, evaluation, disease):
        page.heading(title)
        page.text(f"Left the image, right where the model sees arguments for {disease}.")
        page.gallery(_pictures(run, model, scores, probability, chosen, source))
    page.write(output / "index.html")


def _told_choices(run: FinishedRun, part: str) -> str:
    """What was chosen on which films, by what this run did."""
    if part == "validation":
        averaged = run.recipe.optimisation.average_last
        epochs = "and the best epoch" if averaged == 0 else "and whether to average epochs"
        return (
            f"Temperature, operating points {epochs} were chosen on these very films: their "
            "figures flatter."
        )
    return (
        "Temperature and operating points were chosen on validation patients; nothing was chosen "
        "on this part."
    )


def _add_tables(page: Page, e: Evaluation) -> None:
    page.heading("Figures")
    rows: list[tuple[str, Estimate]] = [
        ("AUC", e.auc),
        *((f"AUC, {kind} against normal", value) for kind, value in e.auc_by_kind.items()),
        ("average precision", e.average_precision),
        ("loss (cross-entropy)", e.loss),
        ("Brier score", e.brier),
        ("expected calibration error", e.expected_calibration_error),
    ]
    page.table(("figure", "value (95 %)"), [(name, str(value)) for name, value in rows])
    columns = ("operating point", "accuracy", "sensitivity", "specificity", "precision", "F1",
               "missed", "false alarms", "uncertain")  # fmt: skip
    page.table(
        columns,
        [
            (f"{p.name} ({p.threshold:.4f})", str(p.accuracy), str(p.sensitivity),
             str(p.specificity), str(p.precision), str(p.f1), p.false_negative, p.false_positive,
             "" if p.uncertain is None else p.uncertain)
            for p in e.points
        ],
    )  # fmt: skip
    page.table(
        ("operating point", *e.points[0].sensitivity_by_kind),
        [(p.name, *(str(v) for v in p.sensitivity_by_kind.values())) for p in e.points],
    )
    if e.by_finding:
        figures, counts = rows_of(e.by_finding)
        page.heading("By finding")
        page.text(SOURCES_TOLD)
        page.table(FIGURE_COLUMNS, figures)
        page.text(CONFUSION_TOLD)
        page.table(("shows", *e.by_finding.columns), counts)
    if e.less_detail:
        page.text(
            "AUC after each image was reduced to so many pixels a side and enlarged again. Where "
            "it rises, the detail misled the model."
        )
        page.table(("detail left", "AUC (95 %)"), [(k, str(v)) for k, v in e.less_detail.items()])
    if e.counterfactuals:
        page.text(
            "AUC after each image was given something of another one. Where donors of the other "
            "class cost more than donors of the same class, the model leans on it."
        )
        page.table(
            ("taken from another image", "of the same class", "of the other class"),
            [(c.swapped, str(c.own_class), str(c.other_class)) for c in e.counterfactuals],
        )


def _draw_confusion(e: Evaluation, positive: str) -> Figure:
    figure = Figure(figsize=(3.4 * len(e.points), 3.2), layout="constrained")
    all_axes = figure.subplots(1, len(e.points), squeeze=False)
    for axes, p in zip(all_axes[0], e.points, strict=True):
        decided = ["normal", positive]
        counts = np.array(
            [[p.true_negative, p.false_positive], [p.false_negative, p.true_positive]]
        )
        if p.answers is not None:
            decided, counts = ["normal", "uncertain", positive], np.array(p.answers)
        axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = count / counts[row].sum()
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{count}\n{share:.1%}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(decided)), decided)
        axes.set_yticks([0, 1], ["normal", positive], rotation=90, va="center")
        axes.set(xlabel="decided", ylabel="labelled", title=f"{p.name} ({p.threshold:.3f})")
    return figure


def _draw_roc_and_precision_recall(
    scores: Scores, probability: NDArray[np.float64], e: Evaluation
) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    (left, right) = figure.subplots(1, 2)
    fpr, tpr = roc_curve(scores.positive, probability)
    left.plot(fpr, tpr)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    for i, p in enumerate(e.points[:2]):
        left.plot(1 - p.specificity.value, p.sensitivity.value, "o", color=f"C{i + 1}",
                  label=f"{p.name} ({p.threshold:.3f})")  # fmt: skip
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC, AUC {e.auc.value:.4f}")
    left.legend(loc="lower right")
    recall, precision = precision_recall_curve(scores.positive, probability)
    right.step(recall, precision, where="pre")
    right.set(xlabel="sensitivity (recall)", ylabel="precision", ylim=(0, 1.02),
              title=f"precision-recall, average {e.average_precision.value:.4f}")  # fmt: skip
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _draw_calibration(
    scores: Scores, probability: NDArray[np.float64], e: Evaluation, positive: str
) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    (left, right) = figure.subplots(1, 2)
    edges = np.linspace(0, 1, _BINS + 1)
    points = [
        (b.mean_probability, b.positives / b.images, b.images)
        for b in calibration_bins(scores.positive, probability, _BINS)
    ]
    left.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    left.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-")
    for x, y, images in points:
        left.annotate(
            str(images), (x, y), textcoords="offset points", xytext=(4, -10), fontsize="small"
        )
    error = e.expected_calibration_error.value
    told = "that is abnormal" if positive == ABNORMAL else "with pneumonia"
    left.set(xlabel="mean probability", ylabel=f"share {told}",
             title=f"calibration, error {error:.3f}")  # fmt: skip
    for value, name in ((0, "normal"), (1, positive)):
        right.hist(probability[scores.positive == value], edges, alpha=0.55, label=name)
    for p in e.points[:2]:
        right.axvline(p.threshold, color="0.4", linestyle="--", linewidth=0.9)
    right.set(xlabel="probability", ylabel="images", yscale="log", title="by class")
    right.legend()
    return figure


def _mistakes(
    scores: Scores, probability: NDArray[np.float64], e: Evaluation, disease: str
) -> Iterable[tuple[str, NDArray[np.int64]]]:
    balanced = next(p for p in e.points if p.name == "balanced")
    called = probability >= balanced.threshold
    missed = np.flatnonzero(~called & (scores.positive == 1))
    alarms = np.flatnonzero(called & (scores.positive == 0))
    yield (
        f"Missed {disease} at balanced: {len(missed)}, the lowest scores first",
        missed[np.argsort(probability[missed])][:_SHOWN],
    )
    yield (
        f"False alarms at balanced: {len(alarms)}, the highest scores first",
        alarms[np.argsort(-probability[alarms])][:_SHOWN],
    )


def _pictures(
    run: FinishedRun,
    model: Any,
    scores: Scores,
    probability: NDArray[np.float64],
    chosen: NDArray[np.int64],
    source: Source,
) -> list[tuple[Image.Image, str]]:
    if not len(chosen):
        return []
    from train.network.grad_cam import evidence_maps  # imports Keras, as loading the model did

    samples = [scores.samples[i] for i in chosen]
    pixels = source.pixels(samples, run.input, "pictures")
    maps = evidence_maps(model, pixels, run.recipe.network.activation)
    pictures = []
    for i, sample, image, evidence in zip(chosen, samples, pixels, maps, strict=True):
        coloured = overlay(image, evidence, scale=1)
        both = Image.new("RGB", (coloured.width * 2, coloured.height))
        both.paste(Image.fromarray(image[:, :, 0]), (0, 0))
        both.paste(coloured, (coloured.width, 0))
        pictures.append((both, f"{probability[i]:.3f} {sample.kind}: {sample.path}"))
    return pictures
