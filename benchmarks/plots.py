"""Plots of benchmark results, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.statistics.metrics import auc, roc_curve

plt.rcParams["svg.hashsalt"] = "cxr-edge"  # the same figures give the same file
_METADATA = {"Date": None}


def draw_roc(
    labels: NDArray[np.int64], scores: Mapping[str, NDArray[np.float64]], path: Path
) -> None:
    """ROC curves of every model over the same images."""
    figure, axes = plt.subplots(figsize=(5.5, 5), layout="constrained")
    for (name, score), style in zip(scores.items(), _styles(len(scores)), strict=True):
        fpr, tpr = roc_curve(labels, score)
        axes.plot(fpr, tpr, style, label=f"{name}: {auc(labels, score):.4f}")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC, with AUC")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, metadata=_METADATA)
    plt.close(figure)


def draw_scatter(
    labels: NDArray[np.int64],
    scores: Mapping[str, NDArray[np.float64]],
    points: tuple[OperatingPoint, ...],
    path: Path,
) -> None:
    """Every model's probability against the float model's; a crossed line is a flipped decision."""
    (reference, baseline), *others = scores.items()
    figure, all_axes = plt.subplots(
        1, max(1, len(others)), figsize=(4.5 * max(1, len(others)), 4.5), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (name, score) in zip(all_axes[0], others, strict=False):
        for value, colour, text in ((0, "tab:blue", "normal"), (1, "tab:red", "pneumonia")):
            mask = labels == value
            axes.scatter(baseline[mask], score[mask], s=6, alpha=0.5, color=colour, label=text)
        for point in points:
            axes.axvline(point.threshold, color="0.6", linewidth=0.8)
            axes.axhline(point.threshold, color="0.6", linewidth=0.8)
        axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
        axes.set(xlabel=reference, ylabel=name, xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize="small")
    figure.savefig(path, metadata=_METADATA)
    plt.close(figure)


def _styles(count: int) -> list[str]:
    return [("-", "--", ":", "-.")[i % 4] for i in range(count)]
