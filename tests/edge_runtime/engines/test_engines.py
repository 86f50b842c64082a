"""Every engine behind one protocol: the same shapes, and scores as close as families allow."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.engines.choose import choose_engine, engine_module
from edge_runtime.engines.interpreter import InterpreterEngine
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.engines.saturation import onnxruntime_saturates, openvino_saturates
from edge_runtime.engines.signed_weights import with_unsigned_weights
from edge_runtime.errors import EngineError, InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import prepare_pixels
from edge_runtime.screener import Screener
from tests.conftest import ROOT


def load(bundle: Path, engine: str) -> Screener:
    try:
        return Screener.load(bundle, engine=engine)
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_outputs_have_the_shapes_of_the_manifest(bundle: Path, name: str) -> None:
    screener = load(bundle, name)
    manifest = screener.bundle.manifest
    outputs = screener.run(prepare_pixels(draw_phantom(1, True), manifest.input))
    assert outputs.evidence_map.shape == manifest.outputs.map_shape
    assert outputs.features.shape == (manifest.outputs.features,)
    assert outputs.evidence_map.dtype == outputs.features.dtype == np.float32
    assert name in screener.engine_name


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_known_answers_are_met(bundle: Path, name: str) -> None:
    screener = load(bundle, name)
    answers = screener.bundle.manifest.known_answers
    assert len(answers) == 3
    assert all(screener.check_known_answer(answer) is not None for answer in answers)


def test_engines_agree_on_phantoms(bundle: Path) -> None:
    one, other = load(bundle, "litert"), load(bundle, "onnxruntime")
    spec = one.bundle.manifest.input
    differences = []
    for seed in range(20):
        pixels = prepare_pixels(draw_phantom(seed, bool(seed % 2)), spec)
        differences.append(one.logits(one.run(pixels)) - other.logits(other.run(pixels)))
    # Phantoms are far from the training images, so this is a loose bound on rounding.
    assert np.abs(differences).mean() < 0.5


def test_running_one_image_does_not_change_the_answer_for_the_next(bundle: Path) -> None:
    screener = Screener.load(bundle)
    spec = screener.bundle.manifest.input
    first, second = (prepare_pixels(draw_phantom(s, True), spec) for s in (1, 2))
    before = screener.run(first)
    kept = before.evidence_map.copy()
    screener.run(second)
    np.testing.assert_array_equal(before.evidence_map, kept)
    np.testing.assert_array_equal(screener.run(first).evidence_map, kept)


def test_threads_share_a_screener(bundle: Path) -> None:
    screener = Screener.load(bundle, threads=1, parallel=3)
    spec = screener.bundle.manifest.input
    images = [prepare_pixels(draw_phantom(seed, bool(seed % 2)), spec) for seed in range(8)]
    alone = [screener.logits(screener.run(pixels)) for pixels in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda p: screener.logits(screener.run(p)), images * 10))
    np.testing.assert_array_equal(together, alone * 10)


def test_auto_takes_the_first_installed_engine(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module("litert"), "is_available", lambda: False)
    monkeypatch.setattr(engine_module("onnxruntime"), "is_available", lambda: True)
    assert choose_engine("auto", load_bundle(bundle))[0].NAME == "onnxruntime"


def test_a_named_engine_that_is_missing_is_an_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module("litert"), "is_available", lambda: False)
    with pytest.raises(EngineError, match="pip install ai-edge-litert"):
        Screener.load(bundle, engine="litert")


def test_no_engine_at_all_is_an_error_with_remedies(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENGINE_NAMES:
        monkeypatch.setattr(engine_module(name), "is_available", lambda: False)
    with pytest.raises(EngineError, match=r"litert.*onnxruntime.*tflite-runtime"):
        Screener.load(bundle)


def test_an_unknown_engine_is_refused(bundle: Path) -> None:
    with pytest.raises(InvalidValueError, match="tensorrt"):
        Screener.load(bundle, engine="tensorrt")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_eight_bits_mean_scale_times_distance_from_the_zero_point(dtype: type) -> None:
    stored = np.arange(256, dtype=np.uint8).view(dtype)
    engine = InterpreterEngine("fake", "fake", FakeInterpreter(stored, (0.0223, -3)))
    outputs = engine.run(np.zeros((8, 8, 1), np.uint8))
    expected = (stored.astype(np.float64) + 3).astype(np.float32) * np.float32(0.0223)
    np.testing.assert_array_equal(outputs.features, expected)
    np.testing.assert_array_equal(outputs.evidence_map, expected.reshape(16, 16, 1))


def test_outputs_that_are_floats_already_pass_unchanged() -> None:
    stored = np.linspace(-5, 5, 256, dtype=np.float32)
    engine = InterpreterEngine("fake", "fake", FakeInterpreter(stored, (0.0, 0)))
    np.testing.assert_array_equal(engine.run(np.zeros((8, 8, 1), np.uint8)).features, stored)


def test_outputs_of_sixteen_bits_are_refused() -> None:
    with pytest.raises(EngineError, match="int16"):
        InterpreterEngine("fake", "fake", FakeInterpreter(np.zeros(256, np.int16), (1.0, 0)))


class FakeInterpreter:
    """Gives `stored`, 256 numbers, as map and as features."""

    def __init__(self, stored: np.ndarray, quantization: tuple[float, int]) -> None:
        kind = {"dtype": stored.dtype.type, "quantization": quantization}
        self._outputs = [stored.reshape(1, 256), stored.reshape(1, 16, 16, 1)]
        self._details = [
            {"index": i, "shape": np.array(values.shape), **kind}
            for i, values in enumerate(self._outputs)
        ]

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 9, "dtype": np.uint8}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return self._details

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        pass

    def invoke(self) -> None:
        pass

    def get_tensor(self, index: int) -> np.ndarray:
        return self._outputs[index].copy()


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_file_that_is_no_model_is_an_engine_error(name: str) -> None:
    module = engine_module(name)
    if not module.is_available():
        pytest.skip(f"{name} is not installed")
    with pytest.raises(EngineError, match=name):
        module.load(b"not a model at all", 1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_files_that_are_no_onnx_are_refused_by_name(name: str) -> None:
    rng = np.random.default_rng(0)
    pytest.importorskip(name)
    engine = engine_module(name)
    model = (Path(load_bundle().folder) / "model.onnx").read_bytes()
    for cut in (1, 7, 100, len(model) // 2, len(model) - 1):
        for content in (model[:cut], rng.bytes(cut % 4096), b"\xff" * 20, b"\x3a\xff\xff\xff\xff"):
            with pytest.raises(EngineError, match=name):
                engine.load(content, 1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_kernels_of_this_processor_are_asked(name: str) -> None:
    module = pytest.importorskip(name)
    saturates = (
        onnxruntime_saturates(module)
        if name == "onnxruntime"
        else openvino_saturates(module.Core())
    )
    if Path("/proc/cpuinfo").exists() and platform.machine() == "x86_64":
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        assert saturates == (not ("avx512_vnni" in flags or "avx_vnni" in flags))
    elif platform.machine() in ("aarch64", "arm64"):
        assert not saturates


def test_openvino_keeps_to_32_bits_and_an_output_outlives_the_next_run(bundle: Path) -> None:
    openvino = pytest.importorskip("openvino")
    screener = Screener.load(bundle, engine="openvino", check=False)
    spec = screener.bundle.manifest.input
    first = screener.run(prepare_pixels(draw_phantom(1, True), spec))
    kept = first.features.copy(), first.evidence_map.copy()
    screener.run(prepare_pixels(draw_phantom(2, False), spec))
    np.testing.assert_array_equal(first.features, kept[0])
    np.testing.assert_array_equal(first.evidence_map, kept[1])
    engine = screener._pool._idle[0]
    compiled = engine._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_openvino_gets_unsigned_weights_where_signed_ones_saturate(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    engine = engine_module("openvino")
    model = (Path(bundle) / "model.onnx").read_bytes()
    pixels = prepare_pixels(draw_phantom(1, True), load_bundle(bundle).manifest.input)
    monkeypatch.setattr(engine, "_last", None)
    monkeypatch.setattr(engine, "_saturates", lambda: True)
    moved = engine.load(model, 1).run(pixels)
    monkeypatch.setattr(engine, "_saturates", lambda: False)
    monkeypatch.setattr(engine, "_last", None)
    unsigned = engine.load(with_unsigned_weights(model), 1).run(pixels)
    signed = engine.load(model, 1).run(pixels)
    np.testing.assert_array_equal(moved.evidence_map, unsigned.evidence_map)
    # The same network, rounded in other places.
    assert abs(moved.evidence_map.mean() - signed.evidence_map.mean()) < 0.3


def test_openvino_holds_no_thread_on_one_processor(bundle: Path) -> None:
    """Or two processes would share one: OpenVINO pins whoever asks it, unless told not to."""
    pytest.importorskip("openvino")
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor, or a system that does not tell")
    program = f"""
import os, threading
from edge_runtime.screener import Screener
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import prepare_pixels
screener = Screener.load({str(bundle)!r}, engine="openvino", threads=1, check=False)
pixels = prepare_pixels(draw_phantom(1, True), screener.bundle.manifest.input)
worker = threading.Thread(target=lambda: [screener.run(pixels) for _ in range(300)])
worker.start()
seen = set()
while worker.is_alive():
    try:
        seen.add(len(os.sched_getaffinity(worker.native_id)))
    except ProcessLookupError:  # it has just ended
        break
print(seen == {{len(os.sched_getaffinity(0))}}, seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("True"), done.stdout + done.stderr[-2000:]


def test_openvinos_second_engine_is_a_copy_of_the_first_and_runs_by_itself(bundle: Path) -> None:
    pytest.importorskip("openvino")
    engine = engine_module("openvino")
    spec = load_bundle(bundle).manifest.input
    model = (Path(bundle) / "model.onnx").read_bytes()
    engines = [engine.load(model, 1) for _ in range(3)]
    images = [prepare_pixels(draw_phantom(seed, bool(seed % 2)), spec) for seed in range(3)]
    alone = [engines[0].run(pixels) for pixels in images]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            together = list(
                pool.map(lambda pair: pair[0].run(pair[1]), zip(engines, images, strict=True))
            )
            for one, other in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one.evidence_map, other.evidence_map)
                np.testing.assert_array_equal(one.features, other.features)
    # Another file, or another number of threads, is compiled anew.
    other_threads = engine.load(model, 2).run(images[0])
    np.testing.assert_array_equal(other_threads.evidence_map, alone[0].evidence_map)
