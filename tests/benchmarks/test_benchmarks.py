"""`benchmarks accuracy`: right figures, and an exit status that can fail."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from edge_runtime.engines.choose import engine_module
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.statistics.metrics import auc, auc_difference
from tests.conftest import workbench


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for seed in range(1000, 1060):
        target = folder / ("PNEUMONIA" if seed % 2 else "NORMAL")
        target.mkdir(exist_ok=True)
        (target / f"{seed}.jpeg").write_bytes(phantom_jpeg(seed, bool(seed % 2), 240, 256))
    return folder


def accuracy(bundle: Path, reference: Path, data: Path, output: Path) -> tuple[int, str]:
    result = workbench(
        "benchmarks", "accuracy", "--bundle", bundle, "--float", reference, "--data", data,
        "--output", output,
    )  # fmt: skip
    return result.returncode, result.stderr


def test_every_file_is_measured_beside_the_float_model(
    smoke_bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    code, errors = accuracy(smoke_bundle, Path(f"{smoke_bundle}-float"), labelled, tmp_path)
    assert code == 0, errors
    document = json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))
    rows = document["rows"]
    installed = [name for name in ENGINE_NAMES if engine_module(name).is_available()]
    assert len(rows) == 2 * len(installed) and all(row["images"] == 60 for row in rows)
    with open(tmp_path / "scores.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    labels = [int(line["positive"]) for line in table]
    scores = {row["model"]: [float(line[row["model"]]) for line in table] for row in rows}
    reference = scores[rows[0]["model"]]
    for row in rows:
        assert row["auc"]["value"] == pytest.approx(auc(labels, scores[row["model"]]))
        assert row["auc"]["low"] <= row["auc"]["value"] <= row["auc"]["high"]
    for row in rows[1:]:
        expected = auc_difference(labels, reference, scores[row["model"]])
        assert row["difference"]["low"] == expected.low
        assert [p["name"] for p in row["points"]] == ["screening", "balanced", "triage"]
    for name in ("accuracy.md", "roc.svg", "scatter.svg"):
        assert (tmp_path / name).stat().st_size > 0


def test_a_model_that_lost_accuracy_is_exit_1(
    smoke_bundle: Path, bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    # The default bundle knows real radiographs; on these drawings it is the worse model.
    code, errors = accuracy(bundle, Path(f"{smoke_bundle}-float"), labelled, tmp_path)
    assert code == 1 and "NOT preserved" in errors


def test_a_folder_without_labels_is_exit_2(smoke_bundle: Path, tmp_path: Path) -> None:
    code, errors = accuracy(smoke_bundle, smoke_bundle, tmp_path, tmp_path / "out")
    assert code == 2 and "PNEUMONIA" in errors


def test_throughput_is_reported_as_ratios(labelled: Path, tmp_path: Path) -> None:
    result = workbench(
        "benchmarks", "throughput", "--data", labelled, "--output", tmp_path, "--repetitions", "1"
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "throughput.json").read_text(encoding="utf-8"))
    assert found["images"] == 60 and found["processors"] >= 1
    # No time is asserted, only that the figures belong together.
    expected = found["processors"] / (found["decode_ms"] + found["infer_ms"]) * 1e3
    assert found["limit"] == pytest.approx(expected)
    to_limit = found["ours_to_limit"]
    assert to_limit["low"] <= to_limit["value"] <= to_limit["high"]
    assert f"{to_limit['value']:.2f} ({to_limit['low']:.2f} to" in result.stdout
    keras = next(peer for peer in found["peers"] if "Keras" in peer["name"])
    assert keras["ours_to_this"]["value"] == pytest.approx(found["ours"] / keras["rate"])


def test_cold_start_and_memory_are_reported(labelled: Path, tmp_path: Path) -> None:
    result = workbench(
        "benchmarks", "process", "--data", labelled, "--output", tmp_path, "--repetitions", "2"
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "process.json").read_text(encoding="utf-8"))
    cold = found["cold_to_bare"]
    # No time is asserted, nor which is longer: beside other load either may be.
    assert found["images"] == 60 and 0 < cold["low"] <= cold["value"] <= cold["high"]
    assert 20 < found["peak_memory_mb"] < 1000
    assert f"{cold['value']:.2f} (" in result.stdout
