"""The other benchmarks: corruptions, layers, choices, peers, frontier, counts, report."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import layers
from benchmarks.accuracy.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from benchmarks.accuracy.layers import LayersResult, measure_layers
from benchmarks.accuracy.robustness import Cell, RobustnessResult
from benchmarks.pages.all_results import run_report
from benchmarks.speed import counted
from benchmarks.speed.peers import OURS, PeerRow, PeersResult, ahead
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom, phantom_jpeg
from edge_runtime.images.preprocess import prepare
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from tests.conftest import workbench


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for seed in range(1000, 1016):
        target = folder / ("PNEUMONIA" if seed % 2 else "NORMAL")
        target.mkdir(exist_ok=True)
        (target / f"{seed}.jpeg").write_bytes(phantom_jpeg(seed, bool(seed % 2), 240, 256))
    return folder


def _floats(bundle: Path) -> Path:
    return Path(f"{bundle}-float")


def test_corruptions_grow_with_severity_and_repeat() -> None:
    pixels = draw_phantom(1, True, 96, 96)[:, :, np.newaxis]
    for name in CORRUPTIONS:
        changes = []
        for severity in SEVERITIES:
            once, again = (corrupt(pixels, name, severity, 7) for _ in range(2))
            assert once.shape == pixels.shape and once.dtype == np.uint8
            np.testing.assert_array_equal(once, again)
            changes.append(float(np.abs(once.astype(int) - pixels).mean()))
        assert changes == sorted(changes) and changes[0] > 0, (name, changes)
    np.testing.assert_array_equal(corrupt(pixels, "inverted", 5, 0), 255 - pixels)


def test_robustness_measures_every_cell_and_can_fail(
    smoke_bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    result = workbench(
        *("benchmarks", "robustness", "--bundle", smoke_bundle, "--float", _floats(smoke_bundle)),
        *("--data", labelled, "--output", tmp_path),
    )
    assert result.returncode in (0, 1), result.stderr
    found = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    places = {(cell["corruption"], cell["severity"]) for cell in found["cells"]}
    assert places == {("none", 0)} | {(n, s) for n in CORRUPTIONS for s in SEVERITIES}
    lost = any(
        d["difference"] < -0.01 for cell in found["cells"] for d in cell["differences"].values()
    )
    assert result.returncode == int(lost)
    assert (tmp_path / "robustness.svg").stat().st_size > 0

    def with_loss(loss: float) -> RobustnessResult:
        difference = PairedDifference(-loss, -loss, -loss, 0.0)
        cell = Cell("noise", 1, Estimate(0.9, 0.9, 0.9), {"int8 tflite": difference})
        return RobustnessResult("x", 2, 1, (cell,))

    assert with_loss(0.011).losses() and not with_loss(0.009).losses()


def test_layers_names_the_noise(smoke_bundle: Path, labelled: Path) -> None:
    float32 = (_floats(smoke_bundle) / "model.tflite").read_bytes()
    int8 = (smoke_bundle / "model.tflite").read_bytes()
    spec = Screener.load(smoke_bundle).bundle.manifest.input
    pixels = [prepare(phantom_jpeg(s, True), spec)[np.newaxis] for s in range(2)]
    result = measure_layers(float32, int8, pixels)
    assert isinstance(result, LayersResult) and len(result.layers) > 5
    # The first convolution sees exact pixels; 8 bits of a smooth signal are some 30 to 50 dB.
    assert 20 < result.layers[0].sqnr_db < 70
    assert min(layer.sqnr_db for layer in result.layers) < result.layers[0].sqnr_db
    assert all(0 <= layer.clipped <= 1 and layer.scale > 0 for layer in result.layers)
    itself = measure_layers(float32, float32, pixels)
    assert all(layer.sqnr_db > 200 for layer in itself.layers)


def test_files_of_different_networks_are_refused(
    smoke_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    float32 = (_floats(smoke_bundle) / "model.tflite").read_bytes()
    int8 = (smoke_bundle / "model.tflite").read_bytes()
    whole = layers._Kept.layers

    def shortened(self: layers._Kept) -> list[dict[str, Any]]:
        found = whole(self)
        return found if found[0]["op_name"] != "CONV_2D" else found[:-1]

    monkeypatch.setattr(layers._Kept, "layers", shortened)
    with pytest.raises(InvalidValueError, match="same operations"):
        layers.measure_layers(float32, int8, [])


@pytest.mark.slow
def test_choices_of_the_export_are_compared(smoke_run: Path, tmp_path: Path) -> None:
    result = workbench("benchmarks", "choices", smoke_run, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "choices.json").read_text(encoding="utf-8"))["rows"]
    by_name = {row["name"]: row for row in rows}
    single = by_name["one int8 probability as output"]
    usual = by_name["200 representative images"]
    # 8 bits of probability cannot tell more than 256 scores apart.
    assert single["distinct"] <= 256 and single["distinct"] < usual["distinct"]
    assert single["tied"] > usual["tied"]
    assert by_name["1 representative images"]["rms_logit_error"] > 0


def test_peers_are_measured_or_skipped_by_name(
    smoke_bundle: Path, smoke_run: Path, labelled: Path, tmp_path: Path
) -> None:
    result = workbench(
        *("benchmarks", "peers", "--bundle", smoke_bundle, "--float", _floats(smoke_bundle)),
        *("--run", smoke_run, "--data", labelled, "--output", tmp_path, "--repetitions", "2"),
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))["rows"]
    floors = [row for row in rows if row["name"] == "LiteRT invoke, int8"]
    assert all(row["ratio"]["value"] == 1 for row in floors)
    for row in rows:
        assert (row["ms"] is None) == row["note"].startswith("not installed"), row
        if "quantize_static" in row["name"] and row["ms"] is not None:
            assert row["largest_logit_difference"] > 0  # another model, and it is said how far off
        elif row["largest_logit_difference"] is not None:
            # The same model; ncnn and, where the processor can, OpenVINO with 16-bit numbers.
            exact = not row["name"].startswith(("ncnn", "OpenVINO"))
            assert row["largest_logit_difference"] < (1e-3 if exact else 0.3)
    assert (tmp_path / "peers.svg").stat().st_size > 0


def test_peers_are_held_against_our_fastest_engine() -> None:
    def row(name: str, ratio: float) -> PeerRow:
        return PeerRow(name, 1, ratio, Estimate(ratio, ratio - 0.01, ratio + 0.01), None, "")

    rows = [row(name, ratio) for name, ratio in zip(OURS, (1.0, 0.7), strict=True)]
    slower, faster = row("one", 0.9), row("another", 0.35)
    said = ahead(PeersResult(24, 2, (*rows, slower, faster)))
    assert "another (0.50 of our time)" in said and "one (" not in said and OURS[1] in said
    # Where that engine is not installed, the other one stands for us.
    absent = PeerRow(OURS[1], 1, None, None, None, "not installed")
    said = ahead(PeersResult(24, 2, (rows[0], absent, slower, faster)))
    assert "another (0.35 of our time), one (0.90 of our time)" in said and OURS[0] in said


def test_the_frontier_is_what_no_other_beats(
    smoke_bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    result = workbench(
        "benchmarks", "pareto", smoke_bundle, "--data", labelled, "--output", tmp_path
    )
    assert result.returncode == 0, result.stderr
    points = json.loads((tmp_path / "pareto.json").read_text(encoding="utf-8"))["points"]
    assert {p["precision"] for p in points} == {"int8", "float32"}
    for p in points:
        beaten = any(
            q["auc"]["value"] >= p["auc"]["value"] and q["infer_ms"] < p["infer_ms"] for q in points
        )
        assert p["on_frontier"] != beaten


def test_latency_holds_ours_against_the_floor(labelled: Path, tmp_path: Path) -> None:
    result = workbench(
        "benchmarks", "latency", "--data", labelled / "NORMAL", "--output", tmp_path,
        "--repetitions", "1", "--min-seconds", "0.2", "--cold-starts", "1", timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "latency.json").read_text(encoding="utf-8"))["to_floor"]
    assert rows and all(
        r["ratio"]["low"] <= r["ratio"]["value"] <= r["ratio"]["high"] for r in rows
    )


def test_the_load_generator_drives_the_runtime(labelled: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mlperf_loadgen") is None:
        pytest.skip("mlcommons-loadgen is not installed")
    result = workbench(
        *("benchmarks", "loadgen", "--data", labelled, "--output", tmp_path),
        *("--min-seconds", "0.2"),
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "loadgen.json").read_text(encoding="utf-8"))
    assert found["single_stream_p90_ms"] > 0 and found["offline_images_per_second"] > 0
    assert (tmp_path / "singlestream-summary.txt").stat().st_size > 0


def test_instructions_are_counted_and_repeat() -> None:
    lacking = counted.missing()
    if lacking:
        pytest.skip(lacking)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(counted.count, ["litert", "litert"])
    assert set(first.instructions) == set(counted.PARTS)
    for part in counted.PARTS:
        assert first.instructions[part] == pytest.approx(second.instructions[part], rel=1e-4)
    whole = first.instructions["bytes to record"]
    parts = first.instructions["decode and resize"] + first.instructions["inference"]
    # The record, the hash and the gate are a small part of the whole.
    assert parts < whole < 1.2 * parts


def test_a_rise_of_counted_instructions_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(engine: str, factor: float = 1.0) -> counted.Counted:
        return counted.Counted(engine, {part: round(1e6 * factor) for part in counted.PARTS})

    monkeypatch.setattr(counted, "count", count)
    assert counted.run_counted(["litert"], tmp_path / "a", None, 0.02)
    before = tmp_path / "a" / "counted.json"
    monkeypatch.setattr(counted, "count", lambda engine: count(engine, 1.01))
    assert counted.run_counted(["litert"], tmp_path / "b", before, 0.02)
    monkeypatch.setattr(counted, "count", lambda engine: count(engine, 1.05))
    assert not counted.run_counted(["litert"], tmp_path / "c", before, 0.02)
    with pytest.raises(InvalidValueError, match="not a result"):
        counted.run_counted(["litert"], tmp_path / "d", tmp_path / "nowhere.json", 0.02)


def test_the_report_holds_every_table_and_plot(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name in ("test/accuracy", "layers/layers"):
        folder = (results / name).parent
        folder.mkdir(parents=True)
        (results / f"{name}.md").write_text("Said.\n\n| a | b |\n|---|---|\n| 1 < 2 | `x` |\n")
        (folder / "layers.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    run_report(results, tmp_path / "out.md", tmp_path / "out.html")
    markdown = (tmp_path / "out.md").read_text(encoding="utf-8")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "| 1 < 2 | `x` |" in markdown and "results/layers/layers.svg" in markdown
    assert "<td>1 &lt; 2</td><td><code>x</code></td>" in page.replace("\n", "")
    assert page.count("data:image/svg+xml") == 1 and "http-equiv" in page
    with pytest.raises(InvalidValueError, match="no results"):
        run_report(tmp_path / "nowhere", tmp_path / "x.md", tmp_path / "x.html")
