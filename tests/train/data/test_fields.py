"""Lung fields by path, and files that hold something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from train.data.fields import Fields


def field_file(folder: Path, name: str, **fields: np.ndarray) -> Path:
    path = folder / name
    packed = np.stack([np.packbits(f.ravel()) for f in fields.values()])
    np.savez(path, names=np.array([k.replace("__", "/") for k in fields]), fields=packed)
    return path


def test_a_field_is_found_by_either_path(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).random((56, 56)) > 0.5
    files = [
        field_file(tmp_path, "a.npz", train__1=drawn, empty=np.zeros((56, 56), bool)),
        field_file(tmp_path, "b.npz", hospitals__2=~drawn),
    ]
    fields = Fields(files)
    assert len(fields) == 3
    for path, expected in (("train/1", drawn), ("set/train/1", drawn), ("hospitals/2", ~drawn)):
        found = fields.of(path)
        assert found is not None
        np.testing.assert_array_equal(found, expected)
    assert fields.of("empty") is None
    assert fields.of("nobody") is None


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", names=np.array(["a"]), fields=np.zeros((1, 9), np.uint8))
    (tmp_path / "y.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "z.npz", other=np.zeros(1))
    for name in ("x.npz", "y.npz", "z.npz", "none.npz"):
        with pytest.raises(InvalidValueError, match=name):
            Fields([tmp_path / name])
