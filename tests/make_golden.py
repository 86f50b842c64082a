"""Draws tests/data/golden anew: input files of every kind and the SHA-256 of their tensors.

    python -m tests.make_golden

Run it only when the preprocessing definition changes on purpose: the files are kept, so that
every platform and every Pillow version is held to the same tensors.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import InputSpec, prepare

GOLDEN = Path(__file__).parent / "data" / "golden"
SPEC = InputSpec(224, 224)


def draw_files(folder: Path) -> None:
    """One small file per kind of input."""
    small = draw_phantom(11, True, 120, 144)
    grey = Image.fromarray(small)
    tinted = Image.merge("RGB", (grey, grey.point(lambda v: v * 9 // 10), grey))
    grey.save(folder / "grey.jpeg", quality=80)
    tinted.save(folder / "colour-420.jpeg", quality=80, subsampling=2)
    tinted.save(folder / "colour-444.jpeg", quality=80, subsampling=0)
    tinted.convert("CMYK").save(folder / "cmyk.jpeg", quality=80)
    grey.save(folder / "progressive.jpeg", quality=80, progressive=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.save(folder / "turned.jpeg", quality=80, exif=exif)
    # Large enough to be decoded at half scale.
    Image.fromarray(draw_phantom(12, False, 900, 1000)).save(folder / "half-scale.jpeg", quality=25)
    # Decoded at half scale by models that keep 1.25 times their size, whole by those that keep 2.
    Image.fromarray(draw_phantom(14, True, 600, 680)).save(folder / "third-size.jpeg", quality=25)
    # Narrow: newer versions of Pillow resample its columns first, unless told otherwise.
    Image.fromarray(draw_phantom(13, False, 420, 120)).save(folder / "narrow.jpeg", quality=25)
    grey.save(folder / "grey.png")
    Image.fromarray(small.astype(np.uint16) * 16).save(folder / "twelve-bit.png")
    Image.fromarray(small.astype(np.uint16) * 257).save(folder / "sixteen-bit.tiff")
    rgba = tinted.convert("RGBA")
    rgba.putalpha(grey.point(lambda v: 255 if v > 60 else 0))
    rgba.save(folder / "alpha.png")
    tinted.quantize(32).save(folder / "palette.png")
    grey.save(folder / "grey.bmp")
    tinted.save(folder / "colour.webp", lossless=True)


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    draw_files(GOLDEN)
    hashes = {
        file.name: hashlib.sha256(prepare(file.read_bytes(), SPEC).tobytes()).hexdigest()
        for file in sorted(GOLDEN.iterdir())
        if file.suffix != ".json"
    }
    (GOLDEN / "tensors.json").write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
