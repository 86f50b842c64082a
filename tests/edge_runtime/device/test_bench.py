"""`cxr-edge bench`: it measures what it says, and noise is no change. No time is asserted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.device import compare as bench_compare
from edge_runtime.device import machine
from edge_runtime.device.bench import run_bench
from edge_runtime.device.bench_result import BenchResult, Latency, table
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "edge_runtime/schemas/bench-1.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "images").mkdir()
    for seed in range(2):
        (folder / "images" / f"{seed}.jpeg").write_bytes(phantom_jpeg(seed, bool(seed)))
    file = folder / "result.json"
    options = "--threads 2 --all-threads --min-seconds 0.3 --min-queries 12 --cold-starts 1"
    code = main(["bench", str(folder / "images"), *options.split(), "--output", str(file)])
    assert code == 0
    return file


@pytest.fixture(scope="module")
def result(result_file: Path) -> BenchResult:
    return bench_compare.read_result(result_file)


def test_a_result_follows_its_schema_and_says_what_was_measured(
    result_file: Path, result: BenchResult
) -> None:
    jsonschema.validate(json.loads(result_file.read_text(encoding="utf-8")), SCHEMA)
    scenarios = [(s.name, s.threads) for s in result.scenarios]
    assert scenarios == [
        ("single-stream", 1), ("offline", 1), ("single-stream", 2), ("offline", 2)
    ]  # fmt: skip
    for scenario in result.scenarios:
        assert scenario.queries >= 12 and scenario.seconds >= 0.3
        assert scenario.images_per_second == pytest.approx(
            scenario.queries / scenario.seconds, rel=0.01
        )
        assert all(value > 0 for value in scenario.relative)
        if scenario.name == "single-stream":
            latency = scenario.latency_ms
            assert latency and latency.minimum <= latency.p50 <= latency.p90 <= latency.p99
            assert list(scenario.stages_ms) == ["read", "decode", "preprocess", "infer", "post"]
            assert 0 < sum(scenario.stages_ms.values()) <= latency.maximum
    assert not result.images.synthetic and result.images.count == 2
    assert result.cold_start and result.cold_start.processes == 1
    # A process with numpy, Pillow and an engine, not that of this test.
    assert result.cold_start.peak_memory_mb and 20 < result.cold_start.peak_memory_mb < 120
    text = table(result)
    assert "single-stream" in text and "SYNTHETIC" not in text


def test_percentiles_are_nearest_ranks() -> None:
    latency = Latency.of([i / 1000 for i in range(100, 0, -1)])
    assert (latency.p50, latency.p90, latency.p99, latency.maximum) == (50, 90, 99, 100)
    assert latency.jitter == 49


def _with_relative(result: BenchResult, values: Sequence[float]) -> BenchResult:
    scenarios = tuple(dataclasses.replace(s, relative=tuple(values)) for s in result.scenarios[:1])
    return dataclasses.replace(result, scenarios=scenarios, cold_start=None)


def test_noise_is_no_change_and_a_change_is(result: BenchResult) -> None:
    rng = np.random.default_rng(1)

    def blocks(factor: float) -> BenchResult:
        # A slow drift and heavy tails, as on a machine with neighbours.
        drift = 1 + 0.05 * np.sin(np.arange(40) / 6 + rng.uniform(0, 6))
        noise = np.exp(rng.standard_t(3, 40) * 0.03)
        return _with_relative(result, (factor * drift * noise).tolist())

    same = [bench_compare.compare(blocks(1), blocks(1)).changed for _ in range(40)]
    assert sum(same) <= 1
    verdicts = [bench_compare.compare(blocks(1), blocks(1.3)).changes[0] for _ in range(20)]
    assert all(change.verdict == "worse" for change in verdicts)
    assert all(change.low < 1.3 < change.high for change in verdicts[:10])
    better = bench_compare.compare(blocks(1.3), blocks(1)).changes[0]
    assert better.verdict == "better"


def test_compare_speaks_through_its_exit_code(
    result_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "compare", str(result_file), str(result_file)]) == 0
    assert "no change" in capsys.readouterr().out
    document = json.loads(result_file.read_text(encoding="utf-8"))
    document["model"]["size_bytes"] *= 2
    document["environment"]["engine"] = "another 1.0"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    assert main(["bench", "compare", str(result_file), str(other)]) == 1
    said = capsys.readouterr().out
    assert "worse" in said and "engine differ" in said


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "cxr-edge/bench/9"}', "{"])
def test_a_file_that_is_no_result_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=r"x\.json"):
        bench_compare.read_result(file)
    assert main(["bench", "compare", str(file)]) == 2


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpeg"
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InvalidValueError, match=r"broken\.jpeg"):
        run_bench(images=[str(broken)], cold_starts=0)
    assert main(["bench", str(tmp_path / "nowhere")]) == 2


def test_a_pi_tells_its_throttling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    monkeypatch.setattr(machine, "_THROTTLED", file("throttled", "50005\n"))
    monkeypatch.setattr(machine, "_BOARD", file("board", "Raspberry Pi 4 Model B Rev 1.4\0"))
    cpuinfo = "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU part\t: 0xd08\n"
    monkeypatch.setattr(machine, "_CPUINFO", file("cpuinfo", cpuinfo))
    monkeypatch.setattr(machine, "_GOVERNOR", file("governor", "ondemand\n"))
    monkeypatch.setattr(machine, "_THERMAL", tmp_path)
    file("thermal_zone0/temp", "81234\n")
    found = machine.describe_machine()
    assert found.board == "Raspberry Pi 4 Model B Rev 1.4" and found.processor == "Cortex-A72"
    assert found.features == ("asimd",) and found.governor == "ondemand"
    condition = machine.current_condition()
    assert condition.temperature_c == pytest.approx(81.234)
    assert condition.throttling == (
        "under-voltage", "throttled", "under-voltage has occurred", "was throttled",
    )  # fmt: skip


def test_a_system_that_tells_nothing_is_described_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_THROTTLED", "_BOARD", "_CPUINFO", "_GOVERNOR", "_THERMAL", "_MEMINFO"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    found = machine.describe_machine()
    assert found.board is None and found.governor is None and found.memory_mb is None
    assert machine.current_condition().temperature_c is None
    assert machine.current_condition().throttling is None


@pytest.mark.parametrize("other", [["--engine", "litert"], ["--profile"]])
def test_every_engine_and_one_of_them_exclude_each_other(
    other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--all-engines", *other]) == 2
    assert f"leave {' '.join(other)} out" in capsys.readouterr().err


def test_every_engine_is_measured_on_the_same_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "engines.json"
    options = "--all-engines --threads 1 --min-seconds 0.1 --min-queries 8 --cold-starts 0"
    assert main(["bench", *options.split(), "--output", str(file)]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0].startswith("engine") and "decisions" in told
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["schema"] == "cxr-edge/bench-engines/1"
    measured = [row for row in document["engines"] if row["result"]]
    assert {row["engine"].split()[0] for row in measured} >= {"litert", "onnxruntime"}
    for row in measured:
        jsonschema.validate(row["result"], SCHEMA)
        assert row["result"]["images"] == measured[0]["result"]["images"]
        assert row["result"]["images"]["synthetic"] and 0 <= row["equal"] <= 8
    assert measured[0]["equal"] == 8  # the first is compared with itself
    for row in document["engines"]:
        assert (row["result"] is None) == bool(row["why"])


@pytest.mark.parametrize(
    ("engine", "convolution"),
    [
        ("onnxruntime", "QLinearConv"),
        ("litert", "DEPTHWISE_CONV_2D"),
        ("openvino", "GroupConvolution"),
    ],
)
def test_a_profile_names_every_operator_of_the_graph(
    engine: str, convolution: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.json"
    options = ["--profile", "--bundle", "tiny", "--engine", engine, "--output", str(file)]
    assert main(["bench", *options]) == 0
    told = capsys.readouterr().out
    document = json.loads(file.read_text(encoding="utf-8"))
    kinds = {row["name"]: row for row in document["kinds"]}
    assert convolution in kinds and kinds[convolution]["count"] > 15
    assert convolution in told and "share" in told
    assert sum(row["share"] for row in document["kinds"]) == pytest.approx(1, abs=0.01)
    assert sum(row["count"] for row in document["kinds"]) == len(document["nodes"]) > 50
    assert all(row["ms"] >= 0 for row in document["nodes"])
