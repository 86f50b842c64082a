"""What counts as the same figure when the shipped models are measured again."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import pytest

from benchmarks.alike import compare_bundles, compare_figures, differing
from benchmarks.prove import FLOAT_MODELS, Answer
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.device.machine import describe_machine, processor_kind
from edge_runtime.images.preprocess import DECODE_OVERSAMPLING
from train.run.finished import open_run


def test_figures_are_compared_in_the_digits_that_documents_show() -> None:
    kept = {"auc": {"value": 0.98164, "low": -0.00001}, "rows": [1, 2], "ms": 3.0}
    same = {"auc": {"value": 0.98161, "low": 0.00001}, "rows": [1, 2], "ms": 9.0}
    assert list(differing(kept, same, "x", 4)) == []
    assert len(list(differing(kept, same, "x", None))) == 3


@pytest.mark.parametrize(
    ("kept", "found", "said"),
    [
        ({"a": 0.1234}, {"a": 0.1236}, "x.a: kept 0.1234, measured 0.1236"),
        ({"a": 1}, {"a": 2}, "x.a: kept 1, measured 2"),
        ({"a": 1}, {}, "x.a: only kept"),
        ({}, {"b": 1}, "x.b: only measured"),
        ([1, 2], [1], "x: kept [1, 2], measured [1]"),
        ([{"a": "s"}], [{"a": None}], "x[0].a: kept 's', measured None"),
    ],
)
def test_what_differs_is_named(kept: object, found: object, said: str) -> None:
    assert list(differing(kept, found, "x", 4)) == [said]


def _bundle(folder: Path, threshold: float = 0.5, auc: float = 0.98, **provenance: Any) -> Path:
    folder.mkdir()
    (folder / "model.tflite").write_bytes(f"{auc}".encode())
    manifest = {
        "labels": ["normal", "pneumonia"],
        "operating_points": [{"name": "balanced", "threshold": threshold}],
        "metrics": [{"auc": {"value": auc, "low": auc - 0.01}}],
        "provenance": {"export_versions": {"onnx": "1"}, **provenance},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_on_a_processor_of_the_same_kind_every_byte_counts(tmp_path: Path) -> None:
    shipped = _bundle(tmp_path / "a", export_processor="avx2")
    same = _bundle(tmp_path / "b", export_processor="avx2")
    assert list(compare_bundles(shipped, same)) == []
    other = _bundle(tmp_path / "c", auc=0.9801, export_processor="avx2")
    found = list(compare_bundles(shipped, other))
    assert len(found) == 3 and not any(line.startswith("note: ") for line in found)


@pytest.mark.parametrize("there", [{}, {"export_processor": "avx512f"}])
def test_on_another_one_last_digits_are_notes_and_more_is_none(
    tmp_path: Path, there: dict[str, str]
) -> None:
    shipped = _bundle(tmp_path / "a", **there)
    assert list(compare_bundles(shipped, _bundle(tmp_path / "b", export_processor="avx2"))) == []
    near = _bundle(tmp_path / "c", 0.5009, 0.9785, export_processor="avx2")
    found = list(compare_bundles(shipped, near))
    assert len(found) == 2 and all("another kind (avx2, " in line for line in found)
    assert not Answer("t", found, 1.0).failed
    for name, far in (("threshold", {"threshold": 0.502}), ("auc.value", {"auc": 0.977})):
        made = _bundle(tmp_path / name, **far, export_processor="avx2")
        failures = [line for line in compare_bundles(shipped, made) if not line.startswith("note")]
        assert len(failures) == 1 and name in failures[0] and "allowed" in failures[0]
    wording = _bundle(tmp_path / "d", export_processor="avx2")
    told = (wording / "manifest.json").read_text().replace("pneumonia", "healthy")
    (wording / "manifest.json").write_text(told)
    assert Answer("t", list(compare_bundles(shipped, wording)), 1.0).failed


def test_figures_of_another_processor_may_move_by_a_film_and_not_by_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: dict[str, Any] = {"missed": 4, "auc": 0.98, "preserved": True, "p_value": 0.1}
    kept["sensitivity"] = {"value": 0.9}
    monkeypatch.setattr("benchmarks.alike._shipped_elsewhere", lambda: "")
    assert len(list(compare_figures(kept, kept | {"missed": 5}, "x"))) == 1
    assert Answer("t", list(compare_figures(kept, kept | {"missed": 5}, "x")), 1.0).failed
    monkeypatch.setattr("benchmarks.alike._shipped_elsewhere", lambda: "elsewhere")
    assert list(compare_figures(kept, dict(kept), "x")) == []
    near = kept | {"missed": 5, "auc": 0.985, "p_value": 0.9, "sensitivity": {"value": 0.94}}
    assert not Answer("t", list(compare_figures(kept, near, "x")), 1.0).failed
    for far in ({"missed": 8}, {"auc": 0.95}, {"auc": float("nan")}, {"preserved": False},
                {"sensitivity": {"value": 0.96}}):  # fmt: skip
        assert Answer("t", list(compare_figures(kept, kept | far, "x")), 1.0).failed


def test_a_processor_is_named_by_what_engines_use_of_it() -> None:
    assert processor_kind().split()[0] == platform.machine()
    assert set(processor_kind().split()[1:]) == set(describe_machine().features)


def test_a_note_is_no_failure() -> None:
    assert not Answer("t", ["note: with onnx 2 instead of 1: model.onnx"], 1.0).failed
    assert Answer("t", ["note: n", "manifest.x: kept 1, measured 2"], 1.0).failed
    assert not Answer("t", [], 1.0).failed


@pytest.mark.parametrize("name", SHIPPED)
def test_the_float_model_of_each_shipped_bundle_is_kept(name: str) -> None:
    run = open_run(FLOAT_MODELS / name)
    manifest = load_bundle(name).manifest
    for key in ("recipe", "weights", "data", "source_commit", "outcome"):
        assert manifest.provenance[key] == run.description[key]
    # The networks learned films of their own size, and are shipped with the rule that came later.
    shipped = dataclasses.replace(run.input, decode_oversampling=DECODE_OVERSAMPLING)
    assert (shipped, run.labels) == (manifest.input, manifest.labels)
    assert len(run.validation.logits) == len(run.splits.validation) > 500
    assert not {s.patient for s in run.splits.train} & {s.patient for s in run.splits.validation}
    # Nobody's radiograph: figures and file names only.
    kinds = {path.suffix for path in (FLOAT_MODELS / name).rglob("*") if path.is_file()}
    assert kinds == {".keras", ".json", ".csv"}
    assert (FLOAT_MODELS / name / "model.keras").stat().st_size < 10_000_000
