"""A Raspberry Pi without a Pi: bytes, map and record as here, with the board's own wheels."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.emulation.boards import (
    ADAPT_TASK,
    BOARDS,
    Board,
    missing,
    prepare_board,
    run_here,
    run_task,
)
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom, phantom_jpeg
from tests.conftest import ROOT

BUILT = ROOT / "build" / "emulation"
# Real radiographs beside the drawn ones, where they are.
REAL = Path(os.environ.get("CXR_DATA", ROOT / "../shared/data")) / "chest_xray_originals"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    deep = draw_phantom(3, True, 500, 600).astype(np.uint16) * 200
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, format="PNG")
    files = {
        "full-size.jpeg": phantom_jpeg(1, True, 1400, 1700),  # decoded at a reduced scale
        "small.jpeg": phantom_jpeg(2, False, 200, 210),
        "sixteen-bit.png": buffer.getvalue(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files] + sorted(REAL.rglob("*.jpeg"))[:2]


def _home(board: Board) -> Path:
    lacking = missing(board)
    if lacking:
        pytest.skip(lacking)
    try:
        return prepare_board(board, BUILT)
    except InvalidValueError as error:
        pytest.skip(f"cannot download {board.name}'s packages: {error}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        (board, engine)
        for board in ("aarch64", "x86-64-no-vnni")
        for engine in ("litert", "onnxruntime")
    ],
)
def test_everything_is_equal(name: str, engine: str, images: list[Path]) -> None:
    board = BOARDS[name]
    there = run_task(board, _home(board), engine, images)
    here = run_here(engine, images)
    assert there["machine"] == ("aarch64" if name == "aarch64" else "x86_64")
    assert there["versions"]["engine"] == here["versions"]["engine"]
    for path, one, other in zip(images, there["images"], here["images"], strict=True):
        assert one == other, path.name  # tensor, map, features and record
    assert all(isinstance(answer, float) for answer in there["known_answers"])


def test_without_vnni_openvino_is_found_to_saturate_and_unsigned_weights_are_right() -> None:
    """A whole film with unsigned weights takes it two minutes there; one product tells as much."""
    pytest.importorskip("openvino")
    board = BOARDS["x86-64-no-vnni"]
    _home(board)
    program = """
import numpy as np
from edge_runtime.engines.openvino import _core, _saturates
from edge_runtime.engines.saturation import quantised_convolution
from edge_runtime.engines.signed_weights import with_unsigned_weights
model = _core().read_model(with_unsigned_weights(quantised_convolution()))
request = _core().compile_model(model, "CPU").create_infer_request()
request.infer({"x": np.full((1, 32, 8, 8), 255, np.uint8)})
print(_saturates(), set(request.get_tensor("y").data.ravel().tolist()))
"""
    done = subprocess.run(
        [board.qemu, "-cpu", board.cpu, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_CORETYPE": "Haswell"},
        check=False,
    )
    assert done.stdout.strip() == "True {200}", done.stderr[-2000:]


@pytest.mark.slow
def test_32_bit_arm_prepares_the_same_bytes_and_meets_its_known_answers(
    images: list[Path],
) -> None:
    board = BOARDS["armv7l"]
    there = run_task(board, _home(board), "tflite-runtime", images)
    assert there["machine"].startswith("armv7") or there["machine"] == "armv8l"
    assert there["versions"]["numpy"].startswith("1.24")
    assert all(isinstance(answer, float) for answer in there["known_answers"])
    here = run_here("litert", images)

    def tensors(result: dict[str, Any]) -> list[str]:
        return [image["tensor"] for image in result["images"]]

    assert tensors(there) == tensors(here)
    # Other kernels by design: near, not equal.
    for one, other in zip(there["images"], here["images"], strict=True):
        difference = one["record"]["probability"] - other["record"]["probability"]
        assert abs(difference) < 0.15


@pytest.mark.slow
def test_a_site_is_adapted_to_alike(tmp_path: Path) -> None:
    """Profile and proof to 1e-6, with another processor's linear algebra."""
    board = BOARDS["aarch64"]
    home = _home(board)
    rng = np.random.default_rng(0)
    positive = np.repeat([0, 1], 80)
    features = rng.gamma(2.0, size=(160, 1280))
    features[:, :40] += positive[:, np.newaxis] * 0.5
    file = tmp_path / "films.npz"
    np.savez(
        file,
        logits=rng.normal(positive, 2.0),
        features=features,
        positive=positive,
        patients=np.array([f"p{i // 2}" for i in range(160)]),
    )
    there = run_task(board, home, "none", [file], task=ADAPT_TASK)
    here = run_here("none", [file], task=ADAPT_TASK)
    assert there["machine"] == "aarch64"
    assert there["strength"] == here["strength"] is not None
    for key in ("slope", "bias", "weights", "scores"):
        assert there[key] == pytest.approx(here[key], abs=1e-6), key
