"""`cxr-edge doctor` with engines broken one at a time: fault and remedy named, never a crash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def doctor(stubs: Path | None = None, *options: object) -> tuple[int, dict[str, Any]]:
    """Exit code and diagnosis; modules in `stubs` stand before the installed ones."""
    path = [str(ROOT)] if stubs is None else [str(stubs), str(ROOT)]
    result = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "doctor", "--json", *map(str, options)],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(path)},
    )  # fmt: skip
    assert "Traceback" not in result.stderr, result.stderr
    return result.returncode, json.loads(result.stdout)


def checks(diagnosis: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in diagnosis["checks"]}


def stub(folder: Path, module: str, code: str) -> Path:
    package = folder / module
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return folder


def test_a_good_box_and_what_it_recommends() -> None:
    code, diagnosis = doctor()
    found = checks(diagnosis)
    assert code == 0 and diagnosis["recommended"] in ("litert", "onnxruntime")
    for name in ("python", "machine", "numpy", "pillow", "litert"):
        assert found[name]["status"] == "ok", found[name]
    assert "3 known answers met" in found["litert"]["detail"]
    speeds = {
        name: float(found[name]["detail"].split(" met, ")[1].split(" ms")[0])
        for name in ("litert", "onnxruntime")
        if found[name]["status"] == "ok"
    }
    assert diagnosis["recommended"] == min(speeds, key=lambda n: speeds[n])


@pytest.mark.parametrize(
    ("code", "detail", "remedy"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL", "instructions"),
        ("import os; os._exit(3)", "exit status 3", "reinstall"),
        (
            "raise ImportError('libfoo.so.1: cannot open shared object file: No such file')",
            "libfoo.so.1",
            "a library is missing",
        ),
        (
            'raise ImportError("/lib/libc.so.6: version `GLIBC_2.38\' not found")',
            "GLIBC_2.38",
            "older version",
        ),
        ("raise AttributeError('_ARRAY_API not found')", "_ARRAY_API", "numpy<2"),
        ("raise SystemExit('gone')", "gone", "reinstall"),
    ],
)
def test_an_engine_that_breaks_is_named_with_its_remedy(
    code: str, detail: str, remedy: str, tmp_path: Path
) -> None:
    exit_code, diagnosis = doctor(stub(tmp_path, "ai_edge_litert", code))
    found = checks(diagnosis)["litert"]
    assert found["status"] == "fault" and detail in found["detail"], found
    assert remedy in found["remedy"], found
    # The other engine, where it is installed, is recommended instead.
    assert diagnosis["recommended"] in (None, "onnxruntime")
    assert exit_code == (1 if diagnosis["recommended"] else 2)


def test_an_engine_with_wrong_scores_is_not_recommended(tmp_path: Path) -> None:
    # The same engine, but its numbers are off, as where kernels do not fit the processor.
    wrapper = f"""
        import importlib.util, sys
        sys.path = [p for p in sys.path if p != {str(tmp_path)!r}]
        del sys.modules["onnxruntime"]
        import onnxruntime
        class InferenceSession(onnxruntime.InferenceSession):
            def run(self, *arguments):
                return [value * 0 + 1 for value in super().run(*arguments)]
        onnxruntime.InferenceSession = InferenceSession
        sys.modules["onnxruntime"] = onnxruntime
    """
    pytest.importorskip("onnxruntime")
    _, diagnosis = doctor(stub(tmp_path, "onnxruntime", wrapper))
    found = checks(diagnosis)["onnxruntime"]
    assert found["status"] == "fault" and "wrong scores" in found["remedy"], found
    assert diagnosis["recommended"] == "litert"


def test_a_broken_numpy_is_the_fault_and_doctor_still_speaks(tmp_path: Path) -> None:
    code, diagnosis = doctor(stub(tmp_path, "numpy", "raise ImportError('numpy is broken')"))
    found = checks(diagnosis)
    assert code == 2 and diagnosis["recommended"] is None
    assert found["numpy"]["status"] == "fault" and "numpy is broken" in found["numpy"]["detail"]
    assert "--force-reinstall numpy" in found["numpy"]["remedy"]


@pytest.mark.parametrize("name", ["model.tflite", "manifest.json"])
def test_one_flipped_bit_is_found(name: str, tmp_path: Path, bundle: Path) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(bundle, other)
    data = bytearray((other / name).read_bytes())
    data[len(data) // 2 if name == "model.tflite" else 3] ^= 1
    (other / name).write_bytes(data)
    _, diagnosis = doctor(None, "--bundle", other)
    found = checks(diagnosis)["litert"]
    assert found["status"] == "fault" and "copy" in found["remedy"], found


def test_text_for_people() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "doctor"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert result.returncode == 0 and "use: --engine" in result.stdout


def test_a_board_without_an_engine_hears_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_runtime.device import doctor as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    diagnosis = module.examine_machine()
    assert diagnosis.recommended is None
    (fault,) = diagnosis.faults
    assert fault.remedy == "pip install ai-edge-litert"
    assert "do not screen" in module.describe(diagnosis)
