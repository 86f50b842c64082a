"""A labelled folder: one sub-folder per class, PNEUMONIA against everything else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edge_runtime.errors import InvalidValueError

POSITIVE_FOLDER = "PNEUMONIA"


@dataclasses.dataclass(frozen=True)
class Labelled:
    path: Path
    name: str  # relative to the folder
    positive: bool


def read_labelled(folder: Path) -> list[Labelled]:
    """The images of `folder`/CLASS/*, sorted by name.

    Raises:
        InvalidValueError: There is no PNEUMONIA folder, or none beside it.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    names = [p.name for p in classes]
    if POSITIVE_FOLDER not in names or len(names) < 2:
        raise InvalidValueError(
            f"{folder} needs a folder {POSITIVE_FOLDER} and one for the other class, has {names}"
        )
    return [
        Labelled(file, file.relative_to(folder).as_posix(), c.name == POSITIVE_FOLDER)
        for c in classes
        for file in sorted(c.iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]
