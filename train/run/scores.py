"""Logits of many images: computed, written and read; nothing here imports TensorFlow."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.files import write_whole
from edge_runtime.errors import InvalidValueError
from train.data.dataset import Sample, patient_of

# In a run folder: the logits of the validation images, and of their fixed corrupted copy.
PLAIN, CORRUPTED = "validation.csv", "validation-corrupted.csv"


@dataclasses.dataclass(frozen=True)
class Scores:
    """Logits of one part."""

    samples: tuple[Sample, ...]
    logits: NDArray[np.float64]  # (n, units)

    @property
    def positive(self) -> NDArray[np.int64]:
        return np.array([s.kind != "normal" for s in self.samples], dtype=np.int64)


def predict_logits(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, h, w, 1) uint8 -> logits (n, units)."""
    parts = [
        _answers(model, pixels[i : i + 64].astype(np.float32)) for i in range(0, len(pixels), 64)
    ]
    return np.concatenate(parts).astype(np.float64)


def _answers(model: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    import keras  # takes seconds

    if keras.backend.backend() == "tensorflow":
        return np.asarray(model(pixels, training=False))
    # A plain call would keep all activations for a gradient that nobody asks for.
    return np.asarray(model.predict_on_batch(pixels))


def read_scores(path: Path) -> Scores:
    """A file of path, kind and logits, as `fit` and `evaluate` write it.

    Raises:
        InvalidValueError: It is missing or not of that form.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        samples = tuple(Sample(row[0], row[1], patient_of(Path(row[0]))) for row in rows)
        return Scores(samples, np.array([[float(v) for v in row[2:]] for row in rows]))
    except (OSError, ValueError, IndexError) as error:
        raise InvalidValueError(f"{path}: {error}") from error


def write_scores(path: Path, scores: Scores) -> None:
    """The inverse of `read_scores`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "kind", *(f"logit{i}" for i in range(scores.logits.shape[1]))])
    for sample, row in zip(scores.samples, scores.logits, strict=True):
        writer.writerow([sample.path, sample.kind, *(f"{v:.6f}" for v in row)])
    write_whole(str(path), text.getvalue().encode())
