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

from edge_runtime import Screener
from edge_runtime.cli import main
from edge_runtime.engines.names import ENGINE_NAMES
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
    assert code == 0 and diagnosis["recommended"] in ("litert", "onnxruntime", "openvino")
    for name in ("python", "machine", "numpy", "pillow", "litert"):
        assert found[name]["status"] == "ok", found[name]
    assert "3 known answers met" in found["litert"]["detail"]
    speeds = {
        name: float(found[name]["detail"].split(" met, ")[1].split(" ms")[0])
        for name in ENGINE_NAMES
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
    assert diagnosis["recommended"] in (None, "onnxruntime", "openvino")
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
    assert diagnosis["recommended"] in ("litert", "openvino")


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


def test_a_choice_is_kept_where_it_is_said_and_auto_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new folder" / "engine.json"
    monkeypatch.setenv("CXR_EDGE_ENGINE_FILE", str(file))
    assert Screener.load(check=False).engine_name.startswith(ENGINE_NAMES[0])
    assert not file.exists()  # nothing is kept unless it is asked for
    assert main(["doctor"]) in (0, 1) and not file.exists()
    assert "doctor --choose keeps this choice" in capsys.readouterr().out
    assert main(["doctor", "--choose"]) in (0, 1)
    said = capsys.readouterr()
    assert str(file) in said.err
    kept = json.loads(file.read_text(encoding="utf-8"))
    times = kept["milliseconds"]
    assert kept["engine"] == min(times, key=times.__getitem__)  # of those with right answers
    for name in times:
        file.write_text(json.dumps(kept | {"engine": name}))
        assert Screener.load(check=False).engine_name.startswith(name)
        assert main(["info"]) == 0
        told = capsys.readouterr().out
        assert f"{name} (chosen by doctor --choose on" in told and str(file) in told
        # Who names an engine gets that one.
        assert Screener.load(engine="litert", check=False).engine_name.startswith("litert")


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", "{", '{"schema": "cxr-edge/engine/1"}', "[" * 100_000,
     '{"schema": "cxr-edge/engine/9", "engine": "onnxruntime", "milliseconds": {}, "date": ""}',
     '{"schema": "cxr-edge/engine/1", "engine": "../x", "milliseconds": {}, "date": ""}',
     '{"schema": "cxr-edge/engine/1", "engine": "tflite-runtime", "milliseconds": {}, "date": ""}'],
)  # fmt: skip
def test_a_choice_that_cannot_be_followed_changes_nothing(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "engine.json"
    file.write_text(content)
    monkeypatch.setenv("CXR_EDGE_ENGINE_FILE", str(file))
    name = Screener.load(check=False).engine_name
    assert name.startswith(ENGINE_NAMES[0]) or "tflite-runtime" in content
    file.unlink()
    os.mkfifo(file)  # which nobody writes into
    assert Screener.load(check=False).engine_name.startswith(ENGINE_NAMES[0])
    monkeypatch.setenv("CXR_EDGE_ENGINE_FILE", str(tmp_path))  # a folder
    assert Screener.load(check=False).engine_name.startswith(ENGINE_NAMES[0])


def test_a_choice_that_cannot_be_kept_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CXR_EDGE_ENGINE_FILE", str(tmp_path / "file" / "engine.json"))
    assert main(["doctor", "--choose"]) == 2
    assert "cannot be kept" in capsys.readouterr().err
