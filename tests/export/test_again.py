"""A bundle with another rule for decoding: the same networks, other known answers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import bundle_folder
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from export.again import write_again


def test_the_files_stay_and_large_films_are_decoded_by_the_new_rule(tmp_path: Path) -> None:
    shipped = Path(bundle_folder("tiny"))
    old = load_bundle(shipped).manifest
    assert old.input.decode_oversampling == 1.25
    write_again(shipped, tmp_path / "older", 2, "9.9.9")
    with pytest.raises(InvalidValueError, match="--force"):
        write_again(shipped, tmp_path / "older", 2, "9.9.9")
    new = load_bundle(tmp_path / "older").manifest
    assert (new.version, new.input.decode_oversampling) == ("9.9.9", 2)
    for name in ("model.tflite", "model.onnx"):
        assert (tmp_path / "older" / name).read_bytes() == (shipped / name).read_bytes()
    assert new.metrics == old.metrics and new.quality == old.quality
    # 600 pixels are 6 times the model's size: a quarter by the one rule, half by the other.
    buffer = io.BytesIO()
    Image.fromarray(draw_phantom(3, True, 600, 700)).save(buffer, "JPEG", quality=90)
    probabilities = {
        folder: Screener.load(folder, engine="litert", force=True)
        .screen(buffer.getvalue())
        .probability
        for folder in (shipped, tmp_path / "older")
    }
    one, other = probabilities.values()
    assert one is not None and other is not None
    assert one != other
    assert abs(one - other) < 0.2
    # Small films are the same bytes by either.
    small = io.BytesIO()
    Image.fromarray(draw_phantom(3, True, 110, 110)).save(small, "JPEG", quality=90)
    alike = {
        Screener.load(folder, engine="litert", force=True).screen(small.getvalue()).probability
        for folder in probabilities
    }
    assert len(alike) == 1


def test_known_answers_alone_are_made_anew(tmp_path: Path) -> None:
    shipped = Path(bundle_folder("tiny"))
    old = load_bundle(shipped).manifest
    new = write_again(shipped, tmp_path / "same", None, "9.9.9")
    assert new.input == old.input
    for one, other in zip(old.known_answers, new.known_answers, strict=True):
        assert one.image_base64 == other.image_base64
        assert one.tensor_sha256 == other.tensor_sha256
        for family, logits in one.logits.items():
            assert other.logits[family] == pytest.approx(logits, abs=one.tolerance[family])
