"""Batches that were rendered beforehand: written once, read by every training that shares them.

    DIR/batches.json      what they were rendered from, and how many there are
    DIR/splits.json       the films of training and validation
    DIR/EPOCH-BATCH.npz   `chosen` (n,) places in the films of training; `pixels HxW` (n, h, w, 1)
                          for every size that was asked for; `field`, `boxes` (n, 56, 56), `known`
                          (n,) whether there is a field, `mirrored` (n,)
    DIR/EPOCH-BATCH-judged.npz   `probabilities` (n, units), the teachers' mean

A graphics processor learns faster than one Python renders, and several trainings that see the same
films need them once.
"""

from __future__ import annotations

import dataclasses
import io
import json
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from train.data.dataset import Sample, Split
from train.data.mixture import Rendered
from train.recipe import Recipe
from train.run.folder import save_npz, write_json

SCHEMA = "cxr-edge/batches/1"
_PATIENCE = 600.0  # seconds for a batch that is still being rendered
_LOOK_AGAIN = 0.02
_JUDGED = "probabilities"

Size = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True)
class StoredBatch:
    chosen: NDArray[np.int64]  # (n,) places in the films of training
    pixels: NDArray[np.uint8]  # (n, height, width, 1), of one size
    rendered: Sequence[Rendered]  # (n) with those pixels


@dataclasses.dataclass(frozen=True)
class BatchStore:
    """A folder of batches."""

    folder: Path
    split: Split
    data: dict[str, Any]  # as run.json of a training on them says it
    epochs: int
    steps: int  # of an epoch

    @staticmethod
    def open(folder: Path, recipe: Recipe) -> BatchStore:
        """The folder, for a training of a recipe.

        Raises:
            InvalidValueError: It holds no batches, too few, or those of another mixture.
        """
        try:
            told = _told(folder)
            lists = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
            split = Split(
                *(tuple(Sample(**s) for s in lists[part]) for part in ("train", "validation"))
            )
            theirs, data = told["of"], told["data"]
            sizes, epochs, steps = told["sizes"], told["epochs"], told["of"]["data"]["steps"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidValueError(
                f"{folder} holds no batches of `train render`, or none yet: {error}"
            ) from error
        ours = rendered_from(recipe)
        if not ours["teachers"]:
            del ours["teachers"]  # what teachers say is not asked
        differing = sorted(key for key in ours if ours[key] != theirs.get(key))
        if differing:
            raise InvalidValueError(
                f"the batches in {folder} were rendered with another {', '.join(differing)} than "
                f"recipe {recipe.name} has"
            )
        size = [recipe.input.height, recipe.input.width]
        if size not in sizes:
            raise InvalidValueError(
                f"{folder} has no batches of {size[0]} x {size[1]} pixels: render with --size"
            )
        if epochs < recipe.optimisation.epochs + recipe.optimisation.head_epochs:
            raise InvalidValueError(
                f"{folder} has batches of {epochs} epochs, recipe {recipe.name} needs more"
            )
        data = data | {"batches_seed": told["seed"]}
        return BatchStore(folder, split, data, epochs, steps)

    def read(self, epoch: int, index: int, size: Size) -> StoredBatch:
        """One batch, waited for while it is being rendered.

        Raises:
            InvalidValueError: It does not come, or is damaged.
        """
        file = self._waited_for(batch_file(self.folder, epoch, index))
        names = (_pixels_name(size), "field", "boxes", "known", "mirrored", "chosen")
        pixels, fields, boxes, known, mirrored, chosen = _arrays(file, *names)
        rendered = [
            Rendered(pixels[i], fields[i] if known[i] else None, boxes[i], bool(mirrored[i]))
            for i in range(len(pixels))
        ]
        return StoredBatch(chosen, pixels, rendered)

    def judged(self, epoch: int, index: int) -> NDArray[np.float32]:
        """(n, units): what the teachers say of a batch; waited for likewise.

        Raises:
            InvalidValueError: It does not come, or is damaged.
        """
        (found,) = _arrays(self._waited_for(judged_file(self.folder, epoch, index)), _JUDGED)
        return np.asarray(found, np.float32)

    def _waited_for(self, file: Path) -> Path:
        until = time.monotonic() + _PATIENCE
        while not file.exists():
            if time.monotonic() > until:
                raise InvalidValueError(
                    f"{file} did not come within {_PATIENCE:.0f} s: is `train render` running? "
                    "The same command goes on where this one stopped"
                )
            time.sleep(_LOOK_AGAIN)
        return file


def _told(folder: Path) -> Any:
    return json.loads((folder / "batches.json").read_text(encoding="utf-8"))


def rendered_from(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides about the films that a network is shown, and their teachers."""
    whole = json.loads(json.dumps(to_mapping(recipe)))
    larger = json.loads(json.dumps(to_mapping(recipe.training_input)))
    return {
        "data": whole["data"],
        "augmentation": whole["augmentation"],
        "input": larger,
        "labels": whole["network"]["labels"],
        "teachers": whole["distillation"]["teachers"],
    }


def describe_store(
    folder: Path, recipe: Recipe, data: dict[str, Any], split: Split, sizes: Sequence[Size]
) -> None:
    """Write what a folder of batches is going to hold, or check that it is what is there.

    Raises:
        InvalidValueError: The folder holds other batches.
    """
    plan = recipe.optimisation
    told = {
        "schema": SCHEMA,
        "of": rendered_from(recipe),
        "seed": recipe.seed,
        "data": data,
        "sizes": sorted([list(size) for size in sizes]),
        "epochs": plan.head_epochs + plan.epochs,
    }
    file = folder / "batches.json"
    try:
        is_other = file.exists() and _told(folder) != told
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{file} is damaged: {error}; give a new --output") from error
    if is_other:
        raise InvalidValueError(f"{folder} holds other batches; give a new --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "splits.json", to_mapping(split))
    write_json(file, told)


def write_batch(
    file: Path,
    chosen: Sequence[int],
    rendered: Sequence[Rendered],
    sizes: dict[Size, NDArray[np.uint8]],
) -> None:
    """One batch: places of the films, what was rendered, and its pixels by size."""
    empty = np.zeros_like(rendered[0].boxes)
    arrays: dict[str, NDArray[Any]] = {
        "chosen": np.asarray(chosen, np.int64),
        "field": np.stack([empty if one.field is None else one.field for one in rendered]),
        "boxes": np.stack([one.boxes for one in rendered]),
        "known": np.array([one.field is not None for one in rendered]),
        "mirrored": np.array([one.mirrored for one in rendered]),
    }
    arrays |= {_pixels_name(size): pixels for size, pixels in sizes.items()}
    save_npz(file, arrays)


def write_judged(file: Path, probabilities: NDArray[np.float32]) -> None:
    """(n, units) of the teachers."""
    save_npz(file, {_JUDGED: probabilities})


def read_pixels(file: Path, size: Size) -> NDArray[np.uint8]:
    """(n, height, width, 1) of a batch.

    Raises:
        InvalidValueError: It is damaged.
    """
    (found,) = _arrays(file, _pixels_name(size))
    return np.asarray(found)


def _arrays(file: Path, *names: str) -> list[NDArray[Any]]:
    try:
        # From memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(file.read_bytes())) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidValueError(
            f"{file} is damaged: {error}; remove it and let `train render` make it again"
        ) from error


def batch_file(folder: Path, epoch: int, index: int) -> Path:
    return folder / f"{epoch:03d}-{index:04d}.npz"


def judged_file(folder: Path, epoch: int, index: int) -> Path:
    return folder / f"{epoch:03d}-{index:04d}-judged.npz"


def _pixels_name(size: Size) -> str:
    return f"pixels {size[0]}x{size[1]}"
