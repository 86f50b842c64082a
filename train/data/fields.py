"""Where the lungs are: fields of films by path, from .npz files.

A file holds `names` (n,), paths as `train.data.table` gives them, or relative to one of the data
sets, and `fields` (n, 392) uint8: `numpy.unpackbits` of a row is the film's field, 56 x 56, rows
first.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.data.graft import FIELD_SIDE

_BYTES = FIELD_SIDE * FIELD_SIDE // 8


class Fields:
    """Lung fields of many films, packed; later files win."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        """Read the files.

        Raises:
            InvalidValueError: A file is missing or not of this form.
        """
        self._packed: dict[str, NDArray[np.uint8]] = {}
        for file in files:
            try:
                with np.load(file) as arrays:
                    names, fields = arrays["names"], arrays["fields"]
            except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise InvalidValueError(f"{file} holds no lung fields: {error}") from error
            if fields.dtype != np.uint8 or fields.shape != (len(names), _BYTES):
                raise InvalidValueError(
                    f"{file}: fields are {fields.dtype} {fields.shape}, "
                    f"expected uint8 ({len(names)}, {_BYTES})"
                )
            self._packed |= dict(zip(map(str, names), fields, strict=True))

    def __len__(self) -> int:
        return len(self._packed)

    def of(self, path: str) -> NDArray[np.bool_] | None:
        """(56, 56) of a film; None where it is not known or empty."""
        # A file may be about one data set and know nothing of the others' common folder.
        packed = self._packed.get(path)
        if packed is None:
            packed = self._packed.get(path.partition("/")[2])
        if packed is None or not packed.any():
            return None
        return np.unpackbits(packed).reshape(FIELD_SIDE, FIELD_SIDE).astype(bool)
