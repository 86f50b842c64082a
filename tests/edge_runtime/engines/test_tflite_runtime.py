"""tflite-runtime in its own environment (numpy 1), which `make test` sets up where it can."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Screener
from tests.conftest import ROOT

PYTHON = ROOT / ".venv-tflite-runtime" / "bin" / "python"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    if not PYTHON.exists():
        pytest.skip("no environment with tflite-runtime (needs Python 3.11); see the Makefile")
    command = [str(PYTHON), "-m", "edge_runtime", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_it_meets_its_known_answers() -> None:
    result = run("verify")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tflite-runtime 2.14" in result.stdout and "3 known answers met" in result.stdout


def test_the_oldest_promised_pillow_gives_the_golden_tensors() -> None:
    code = (
        "import hashlib, json, pathlib, PIL\n"
        "from edge_runtime.images.preprocess import InputSpec, prepare\n"
        "golden = pathlib.Path('tests/data/golden')\n"
        "for name, expected in json.loads((golden / 'tensors.json').read_text()).items():\n"
        "    tensor = prepare((golden / name).read_bytes(), InputSpec(224, 224))\n"
        "    assert hashlib.sha256(tensor.tobytes()).hexdigest() == expected, name\n"
        "print(PIL.__version__)\n"
    )
    if not PYTHON.exists():
        pytest.skip("no environment with tflite-runtime (needs Python 3.11); see the Makefile")
    result = subprocess.run(
        [str(PYTHON), "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("9.4")


def test_it_prepares_the_same_tensors_and_agrees_with_litert(phantoms: Path) -> None:
    result = run("screen", "--force", phantoms, "--format", "jsonl")
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 6 and "tflite-runtime" in records[0]["model"]["engine"]
    # The very tensors are held to their hashes by `verify` above; here the scores.
    screener = Screener.load(engine="litert", force=True)
    expected = [screener.screen(r["source"]).probability for r in records]
    found = [r["probability"] for r in records]

    def logit(p: object) -> np.ndarray:
        values = np.array(p, dtype=float)
        return np.asarray(np.log(values / (1 - values)))

    scale = screener.bundle.manifest.calibration.temperature
    assert np.abs(logit(found) - logit(expected)).mean() * scale < 0.5


def test_it_agrees_on_real_radiographs(data: Path) -> None:
    folder = data / "chest_xray" / "test"
    some = sorted(folder.rglob("*.jpeg"))[::20]
    result = run("screen", "--force", *some, "--format", "jsonl")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    screener = Screener.load(engine="litert", force=True)
    same = [screener.screen(r["source"]).decision == r["decision"] for r in records]
    assert len(same) == 32 and np.mean(same) >= 0.93


def test_numpy_2_with_it_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_runtime.engines import tflite_runtime
    from edge_runtime.errors import EngineError

    monkeypatch.setattr(tflite_runtime.np, "__version__", "2.4.6")
    with pytest.raises(EngineError, match="numpy<2"):
        tflite_runtime.load(b"", 1)
