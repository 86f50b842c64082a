"""What export reads of a run folder: run.json, splits.json, model.keras and validation logits."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.parse import from_mapping
from edge_runtime.phantom import phantom_file
from edge_runtime.preprocess import InputSpec, prepare


@dataclasses.dataclass(frozen=True)
class Image:
    path: str
    kind: str  # normal | bacterial | viral | pneumonia
    patient: str


@dataclasses.dataclass(frozen=True)
class Splits:
    train: tuple[Image, ...]
    validation: tuple[Image, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    description: Mapping[str, Any]  # run.json
    splits: Splits
    input: InputSpec
    labels: tuple[str, ...]

    @property
    def recipe_name(self) -> str:
        return str(self.description["recipe"]["name"])


def open_run(folder: Path) -> Run:
    """Open a finished run.

    Raises:
        InvalidValueError: Not a run folder, or training has not finished.
    """
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        splits = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{folder} is not a run folder: {error}") from error
    if description.get("schema") != "cxr-edge/run/1":
        raise InvalidValueError(f"{folder}/run.json: unknown schema {description.get('schema')!r}")
    if "outcome" not in description or not (folder / "model.keras").is_file():
        raise InvalidValueError(f"{folder}: training has not finished; run `train fit` again")
    recipe = description["recipe"]
    return Run(
        folder,
        description,
        from_mapping(Splits, splits, "splits.json"),
        from_mapping(InputSpec, recipe["input"], "run.json: recipe.input"),
        tuple(recipe["network"]["labels"]),
    )


def read_corrupted_logits(run: Run) -> NDArray[np.float64] | None:
    """(n, units) logits of the validation images' corrupted copy; None where a run has none.

    Raises:
        InvalidValueError: The file is damaged, or not about the run's validation images.
    """
    file = run.folder / "validation-corrupted.csv"
    if not file.is_file():
        return None
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines))[1:]
        paths = [row[0] for row in rows]
        logits = np.array([[float(value) for value in row[2:]] for row in rows])
    except (OSError, ValueError, IndexError) as error:
        raise InvalidValueError(f"{file}: {error}") from error
    if paths != [image.path for image in run.splits.validation]:
        raise InvalidValueError(f"{file} is not about the images of splits.json")
    return logits


def read_evaluations(folder: Path) -> dict[str, Any]:
    """What `train evaluate` measured on test and external images, by part; figures only."""
    found = {}
    for part in ("test", "external"):
        file = folder / f"evaluation-{part}" / "evaluation.json"
        if file.is_file():
            document = json.loads(file.read_text(encoding="utf-8"))
            found[part] = {
                "images": document["images"],
                "auc": document["auc"],
                "points": [
                    {key: point[key] for key in ("name", "sensitivity", "specificity", "accuracy")}
                    for point in document["points"]
                ],
            }
    return found


def load_pixels(
    images: Sequence[Image], spec: InputSpec, data: Path | None, description: str
) -> NDArray[np.uint8]:
    """Images of a run through the device's preprocessing: (n, height, width, 1) uint8."""
    pixels = np.empty((len(images), spec.height, spec.width, 1), np.uint8)
    for i, image in enumerate(tqdm(images, description, unit="image", leave=False, disable=None)):
        content = phantom_file(image.path, pneumonia=image.kind != "normal")
        if content is None:
            if data is None:
                raise InvalidValueError(f"{image.path} needs --data DIR")
            content = (data / image.path).read_bytes()
        pixels[i] = prepare(content, spec)
    return pixels


def positives(images: Sequence[Image]) -> NDArray[np.int64]:
    """(n,) of 0 normal and 1 any pneumonia."""
    return np.array([image.kind != "normal" for image in images], dtype=np.int64)


def choose_representative(images: Sequence[Image], count: int) -> list[Image]:
    """The representative dataset: `count` training images, one per patient, equal by kind.

    A quantiser's activation ranges follow from these. They are spread evenly over the sorted
    names, so the choice depends on nothing but the list.
    """
    by_kind: dict[str, list[Image]] = {}
    seen: set[str] = set()
    for image in sorted(images, key=lambda i: i.path):
        if image.patient not in seen:
            seen.add(image.patient)
            by_kind.setdefault(image.kind, []).append(image)
    # Half normal, half disease, however many kinds of disease there are.
    diseases = sorted(kind for kind in by_kind if kind != "normal")
    quota = {"normal": count // 2} | {k: count // 2 // len(diseases) for k in diseases}
    chosen: list[Image] = []
    for kind in sorted(quota):
        pool = by_kind[kind]
        positions = np.linspace(0, len(pool) - 1, min(quota[kind], len(pool)))
        chosen += [pool[round(p)] for p in positions]
    return sorted(chosen, key=lambda i: i.path)
