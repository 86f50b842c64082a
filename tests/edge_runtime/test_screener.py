"""Bytes -> record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Record, Screener
from edge_runtime.errors import EngineError, ErrorCode, InvalidValueError
from edge_runtime.images.phantom import draw_phantom, phantom_jpeg
from edge_runtime.records.record import STAGES, Examination
from tests.conftest import ROOT

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = ROOT / "edge_runtime" / "schemas" / "result-1.schema.json"


@pytest.fixture(scope="module")
def screener(bundle: Path) -> Screener:
    return Screener.load(bundle, force=True)


@pytest.fixture(scope="module")
def schema() -> dict[str, object]:
    loaded: dict[str, object] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def test_the_schema_lists_every_error_code(schema: dict[str, object]) -> None:
    text = json.dumps(schema["properties"])
    assert len(ErrorCode) == 9
    assert all(f'"{code.value}"' in text for code in ErrorCode)


def test_a_path_bytes_and_pixels_are_screened(
    screener: Screener, phantoms: Path, schema: dict[str, object]
) -> None:
    path = phantoms / "1.jpeg"
    from_path, from_bytes = screener.screen(path), screener.screen(path.read_bytes())
    from_pixels = screener.screen(draw_phantom(1, True))
    for record in (from_path, from_bytes, from_pixels):
        jsonschema.validate(json.loads(record.to_json()), schema)
        assert record.status == "ok"
    assert from_path.source == str(path)
    assert from_path.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert dataclasses.replace(from_path, source="-") == from_bytes


def test_the_same_bytes_give_the_same_record(bundle: Path) -> None:
    content = phantom_jpeg(3, True)
    records = {
        Screener.load(bundle, force=True, threads=threads).screen(content).to_json()
        for threads in (1, 2, 1)
    }
    assert len(records) == 1


def test_json_and_back(screener: Screener) -> None:
    for image in (phantom_jpeg(1, True), b"", b"text"):
        record = screener.screen(image, "ward/ä.jpeg")
        assert Record.from_json(record.to_json()) == record


def test_errors_become_records_that_name_file_and_reason(
    screener: Screener, tmp_path: Path, schema: dict[str, object]
) -> None:
    missing, empty = tmp_path / "missing.png", tmp_path / "empty.png"
    empty.write_bytes(b"")
    expected = {missing: "unreadable_file", empty: "empty_file", tmp_path: "unreadable_file"}
    for path, code in expected.items():
        record = screener.screen(path)
        jsonschema.validate(json.loads(record.to_json()), schema)
        assert record.error is not None
        assert (record.status, record.error.code) == ("error", code)
        assert str(path) in record.error.message
        assert record.probability is record.decision is None


def test_the_decision_follows_the_threshold(bundle: Path) -> None:
    content = phantom_jpeg(1, True)
    probability = Screener.load(bundle, force=True).screen(content).probability
    assert probability is not None
    at = Screener.load(bundle, force=True, threshold=probability).screen(content)
    above = Screener.load(bundle, force=True, threshold=probability + 1e-6).screen(content)
    assert (at.decision, above.decision) == ("pneumonia", "normal")
    assert at.operating_point == "custom"


def test_the_grey_band_is_uncertain(bundle: Path) -> None:
    content = phantom_jpeg(1, True)
    screener = Screener.load(bundle, force=True)
    p = screener.screen(content).probability
    assert p is not None
    point = dataclasses.replace(
        screener.operating_point, name="mine", threshold=p, uncertain=(p - 1e-9, p + 1e-6)
    )
    screener.operating_point = point
    record = screener.screen(content)
    assert (record.decision, record.operating_point, record.threshold) == ("uncertain", "mine", p)
    failed = screener.screen(b"no image")
    assert (failed.operating_point, failed.threshold) == ("mine", p)
    assert screener.conditions.operating_point == "mine"


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 50.0, float("nan")])
def test_a_threshold_outside_0_and_1_is_refused(bundle: Path, threshold: float) -> None:
    with pytest.raises(InvalidValueError, match="between 0 and 1"):
        Screener.load(bundle, force=True, threshold=threshold)


def test_the_mean_of_the_map_is_the_logit(screener: Screener) -> None:
    examination: Examination = screener.examine(phantom_jpeg(1, True))
    assert examination.pixels is not None and examination.evidence_map is not None
    logits = screener.logits(screener.run(examination.pixels))
    offset = screener.bundle.manifest.model_file("tflite").logit_offset[0]  # type: ignore[union-attr]
    assert logits[0] == pytest.approx(examination.evidence_map.mean(dtype=float) + offset)
    probability = 1 / (1 + np.exp(-logits[0] / screener.bundle.manifest.calibration.temperature))
    assert examination.record.probability == pytest.approx(probability, abs=1e-8)


def test_many_files_keep_their_order_and_are_taken_lazily(bundle: Path, phantoms: Path) -> None:
    screener = Screener.load(bundle, force=True, threads=1, parallel=2)
    paths = [*sorted(phantoms.iterdir()), phantoms / "missing.jpeg"] * 20
    taken = 0

    def lazily() -> Iterator[Path]:
        nonlocal taken
        for path in paths:
            taken += 1
            yield path

    records = screener.screen_many(lazily(), workers=2)
    first = next(records)
    assert taken < 10
    rest = list(records)
    assert [r.source for r in [first, *rest]] == [str(p) for p in paths]
    assert [r.status for r in rest].count("error") == 20
    alone = [screener.screen(p) for p in paths[:7]]
    assert [first, *rest][:7] == alone


def test_the_stages_are_the_whole(screener: Screener, phantoms: Path) -> None:
    shares = []
    for _ in range(30):
        start = time.perf_counter()
        stages = screener.examine(phantoms / "0.jpeg").stages
        seconds = time.perf_counter() - start
        assert stages is not None and list(stages) == list(STAGES)
        assert all(value >= 0 for value in stages.values())
        assert sum(stages.values()) <= seconds
        shares.append(sum(stages.values()) / seconds)
    # What is left is a function call. The best of them, as a busy machine interrupts some.
    assert max(shares) > 0.5


def test_timings_only_on_demand(screener: Screener) -> None:
    content = phantom_jpeg(1, True)
    assert "timing_ms" not in json.loads(screener.screen(content).to_json())
    timed = screener.examine(content, timings=True).record
    assert timed.timing_ms is not None and set(timed.timing_ms) == {
        "decode",
        "preprocess",
        "inference",
    }


def test_an_engine_that_gives_nan_is_an_error_record(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = screener.run

    def broken(pixels: np.ndarray) -> object:
        outputs = real(pixels)
        outputs.evidence_map[:] = np.nan
        return outputs

    monkeypatch.setattr(screener, "run", broken)
    record = screener.screen(phantom_jpeg(1, True))
    assert record.error is not None and record.error.code == "inference_failed"


def test_an_engine_that_fails_is_a_record_and_not_the_end(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pixels: np.ndarray) -> object:
        raise RuntimeError("kernel refused")

    monkeypatch.setattr(screener._pool, "run", fail)
    record = screener.screen(phantom_jpeg(1, True), "a.jpeg")
    assert record.error is not None and record.error.code == "inference_failed"
    assert "kernel refused" in record.error.message
    answer = screener.bundle.manifest.known_answers[0]
    with pytest.raises(EngineError, match="kernel refused"):
        screener.check_known_answer(answer)


def test_features_that_are_no_numbers_are_an_error_record(
    screener: Screener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = screener.run

    def broken(pixels: np.ndarray) -> object:
        outputs = real(pixels)
        return dataclasses.replace(outputs, features=outputs.features * np.nan)

    monkeypatch.setattr(screener, "run", broken)
    record = Record.from_json(screener.screen(phantom_jpeg(1, True)).to_json())
    assert record.error is not None and record.error.code == "inference_failed"


def test_a_path_that_no_file_can_have_is_an_error_record(screener: Screener) -> None:
    record = screener.screen("a\0b.jpeg")
    assert record.error is not None and record.error.code == "unreadable_file"
