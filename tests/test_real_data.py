"""The committed bundle on real radiographs; skipped where they are absent."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Screener
from edge_runtime.engines.choose import engine_module
from edge_runtime.images.inputs import Input
from edge_runtime.images.preprocess import prepare
from edge_runtime.statistics.metrics import auc, auc_difference
from tests.conftest import ROOT, Run

ENGINES = ("litert", "onnxruntime", "openvino")
# Written by `python -m benchmarks accuracy … --output docs/results/test`.
SCORES = ROOT / "docs" / "results" / "test" / "scores.csv"

Screened = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def screened(data: Path, cxr_edge: Run) -> Callable[[str], Screened]:
    """Records of the 624 test images by name, screened from the command line."""
    kept: dict[str, Screened] = {}

    def run(engine: str) -> Screened:
        if not engine_module(engine).is_available():
            pytest.skip(f"{engine} is not installed")
        if engine not in kept:
            folder = data / "chest_xray" / "test"
            # Forced: how many the quality gate may refuse is tested elsewhere.
            result = cxr_edge("screen", "--force", folder, "--format", "jsonl", "--engine", engine)
            assert result.returncode == 0, result.stderr
            records = [json.loads(line) for line in result.stdout.splitlines()]
            kept[engine] = {Path(r["source"]).relative_to(folder).as_posix(): r for r in records}
        return kept[engine]

    return run


@pytest.fixture(scope="module")
def float_scores() -> dict[str, float]:
    """The float model's probabilities of the same images."""
    with open(SCORES, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = next(name for name in rows[0] if name.startswith("float32"))
    return {row["name"]: float(row[column]) for row in rows}


@pytest.mark.parametrize("engine", ENGINES)
def test_all_624_test_images_are_screened_well(
    screened: Callable[[str], Screened], engine: str
) -> None:
    records = screened(engine)
    assert len(records) == 624
    assert {r["status"] for r in records.values()} == {"ok"}
    labels = [name.startswith("PNEUMONIA/") for name in records]
    assert sum(labels) == 390
    assert auc(labels, [r["probability"] for r in records.values()]) >= 0.965


@pytest.mark.parametrize("engine", ENGINES)
def test_int8_is_no_more_than_0005_below_float(
    screened: Callable[[str], Screened], float_scores: dict[str, float], engine: str
) -> None:
    records = screened(engine)
    assert set(records) == set(float_scores)
    labels = np.array([name.startswith("PNEUMONIA/") for name in records], dtype=int)
    reference = np.array([float_scores[name] for name in records])
    found = np.array([r["probability"] for r in records.values()], dtype=float)
    assert auc_difference(labels, reference, found).difference >= -0.005
    threshold = next(iter(records.values()))["threshold"]
    assert ((found >= threshold) == (reference >= threshold)).mean() >= 0.98


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_engines_agree_on_the_test_images(screened: Callable[[str], Screened], engine: str) -> None:
    one, other = screened(ENGINES[0]), screened(engine)
    same = [one[name]["decision"] == other[name]["decision"] for name in one]
    assert len(same) == 624 and np.mean(same) >= 0.98


def test_originals_and_their_224_pixel_copies_give_close_probabilities(data: Path) -> None:
    originals = sorted(p for p in (data / "chest_xray_originals").rglob("*.jpeg"))
    copies = [data / "chest_xray" / "train" / p.parent.name / p.name for p in originals]
    screener = Screener.load(threads=1, parallel=2, force=True)
    probabilities = [
        [r.record.probability for r in screener.examine_many(map(Input, map(str, paths)), 2)]
        for paths in (originals, copies)
    ]
    differences = np.abs(np.subtract(*probabilities))
    assert len(differences) == 270
    assert (differences < 0.05).mean() >= 0.95


def test_another_hospitals_images_are_read(data: Path) -> None:
    files = sorted((data / "nih_external").rglob("*.png"))
    spec = Screener.load(check=False).bundle.manifest.input
    assert len(files) == 120
    tensors = [prepare(f.read_bytes(), spec) for f in files[:20]]
    assert all(t.shape == (spec.height, spec.width, 1) and t.std() > 10 for t in tensors)
