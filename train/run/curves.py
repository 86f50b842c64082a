"""Learning curves as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Write `draw_learning` as a PNG."""
    figure = draw_learning(history)
    figure.savefig(path, dpi=110)


def draw_learning(history: list[dict[str, Any]]) -> Figure:
    """Loss and validation AUC by epoch, the head's epochs shaded."""
    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    (left, right) = figure.subplots(1, 2)
    left.plot(epochs, [entry["loss"] for entry in history], marker="o", label="training")
    left.plot(
        epochs, [entry["validation_loss"] for entry in history], marker="o", label="validation"
    )
    left.set(xlabel="epoch", ylabel="cross-entropy")
    right.plot(epochs, [entry["validation_auc"] for entry in history], marker="o", label="plain")
    right.plot(epochs, [entry["corrupted_auc"] for entry in history], marker="o", label="corrupted")
    right.set(xlabel="epoch", ylabel="validation AUC")
    head = sum(entry["phase"] == "head" for entry in history)
    for axes in (left, right):
        if head:
            axes.axvspan(0.5, head + 0.5, color="0.9", label="head only")
        axes.legend()
        axes.grid(alpha=0.3)
    return figure
