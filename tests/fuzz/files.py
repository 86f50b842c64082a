"""Damaged image files: nothing but a tensor or an ImageError may come back.

The files are the golden ones and, where pydicom is installed, DICOM files.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import InputSpec, prepare

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
SPEC = InputSpec(96, 96)
_DICOM = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm",
          "MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm", "rtplan.dcm")  # fmt: skip


@cache
def load_seeds() -> list[bytes]:
    """The undamaged files, small ones only: a case should take a millisecond."""
    files = [f for f in sorted(GOLDEN.iterdir()) if f.suffix != ".json"]
    try:
        from pydicom.data import get_testdata_file

        found = [get_testdata_file(name, download=False) for name in _DICOM]
        files += [Path(str(path)) for path in found if path]
    except ImportError:
        pass
    return [content for f in files if len(content := f.read_bytes()) < 60_000]


def damage(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """One to four random injuries."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if len(data) < 8:
            break
        # Headers decide more than pixels: half of the injuries fall into the first 1024 bytes.
        reach = min(len(data), 1024) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(0, reach))
        length = int(rng.integers(1, 64))
        match rng.integers(0, 8):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                number = int(rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                order = "big" if rng.random() < 0.5 else "little"
                data[at : at + 4] = number.to_bytes(4, order)
            case 6:
                other = others[int(rng.integers(0, len(others)))]
                data[at:] = other[at:]
            case 7:
                data += rng.bytes(length)
    return bytes(data)


def run_case(rng: np.random.Generator) -> str:
    """Outcome of one case: "ok" or an error code. Anything else escapes as an exception."""
    seeds = load_seeds()
    return outcome(damage(seeds[int(rng.integers(len(seeds)))], seeds, rng))


def outcome(content: bytes) -> str:
    try:
        tensor = prepare(content, SPEC)
    except ImageError as error:
        assert str(error), "an error without a reason"
        return error.code.value
    assert tensor.shape == (96, 96, 1) and tensor.dtype == np.uint8
    return "ok"
