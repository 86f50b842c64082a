"""What counts as the same figure when the shipped models are measured again."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.prove import FLOAT_MODELS, Answer, _differing
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.images.preprocess import DECODE_OVERSAMPLING
from train.run.finished import open_run


def test_figures_are_compared_in_the_digits_that_documents_show() -> None:
    kept = {"auc": {"value": 0.98164, "low": -0.00001}, "rows": [1, 2], "ms": 3.0}
    same = {"auc": {"value": 0.98161, "low": 0.00001}, "rows": [1, 2], "ms": 9.0}
    assert list(_differing(kept, same, "x", 4)) == []
    assert len(list(_differing(kept, same, "x", None))) == 3


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
    assert list(_differing(kept, found, "x", 4)) == [said]


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
