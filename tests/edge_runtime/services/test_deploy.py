"""A device that runs by itself: units, support file, C program, no network for screen and pipe."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.basics.verbs import parse_verb
from edge_runtime.cli import VERBS, main
from tests.conftest import ROOT, onnx_for_programs
from tests.edge_runtime.services.conftest import no_network

UNITS = sorted((ROOT / "deploy").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.stem)
def test_units_are_valid_and_their_commands_parse(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    words = command.removeprefix("ExecStart=").split()[1:]
    assert parse_verb("cxr-edge", None, VERBS, words).verb == words[0]
    for setting in ("ProtectSystem=strict", "MemoryMax=", "NoNewPrivileges=yes"):
        assert setting in text
    assert ("PrivateNetwork=yes" in text) == ("watch" in unit.name)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    # The program is not installed at /opt here.
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/cxr-edge/bin/cxr-edge", "/bin/true"), encoding="utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    complaints = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert complaints == []


def test_support_holds_no_path_and_no_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--support"]) == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    tests = document["largest logit difference of each known answer"]
    assert any(isinstance(value, list) and max(value) < 1e-3 for value in tests.values())
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text
    assert socket.gethostname() not in text


@pytest.mark.parametrize("verb", ["screen", "pipe"])
def test_without_a_network(verb: str, pictures: list[bytes], tmp_path: Path) -> None:
    image = tmp_path / "a.jpeg"
    image.write_bytes(pictures[0])
    command = [*no_network(), sys.executable, "-m", "edge_runtime", verb, "--force"]
    command += ["--format", "jsonl", str(image)] if verb == "screen" else []
    result = subprocess.run(
        command,
        input=json.dumps({"id": 1, "path": str(image)}),
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert '"status": "ok"' in result.stdout, result.stderr


def test_the_c_program_reproduces_the_known_answers(tmp_path: Path, bundle: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    onnxruntime = pytest.importorskip("onnxruntime")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    source = tmp_path / "c"
    made = subprocess.run(
        [sys.executable, "-m", "export", "c-array", bundle, "--output", source],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    operators = {line.split()[0] for line in (source / "operators.txt").read_text().splitlines()}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN"} <= operators
    example = ROOT / "examples" / "embed"
    program = tmp_path / "known_answers"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-I", source, "-I", example, "-o", program,
         example / "known_answers.c", "-L", tmp_path, "-lonnxruntime", "-lm"],
        check=True,
    )  # fmt: skip
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    offset = next(f["logit_offset"][0] for f in manifest["files"] if f["format"] == "onnx")
    environment = dict(os.environ) | {"LD_LIBRARY_PATH": str(tmp_path)}
    model = onnx_for_programs(bundle, tmp_path)

    def run(value: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, model, repr(value)],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    result = run(offset)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": met") == len(manifest["known_answers"])
    assert run(offset + 1).returncode == 1, "it must be able to fail"
    # The array is the file, byte for byte.
    array = (source / "model.c").read_text(encoding="utf-8").split("{\n", 1)[1]
    values = bytes(int(v, 16) for v in array.split("}")[0].replace("\n", "").split(",") if v)
    assert values == (bundle / "model.tflite").read_bytes()
