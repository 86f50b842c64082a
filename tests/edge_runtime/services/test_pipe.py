"""`cxr-edge pipe`: every request is answered under its id, whatever it holds."""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import Screener
from edge_runtime.services.pipe import Answered, serve_pipe
from tests.conftest import ROOT
from tests.edge_runtime.services.conftest import comparable

EXAMPLES = ROOT / "examples"


def converse(*requests: object, **options: Any) -> list[dict[str, Any]]:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in requests]
    result = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "pipe", "--force"],
        input=b"\n".join(lines) + b"\n",
        capture_output=True,
        cwd=ROOT,
        check=False,
        **options,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_answers_equal_those_of_screen(pictures: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    path.write_bytes(pictures[1])
    text = base64.b64encode(pictures[1]).decode()
    answers = converse(
        {"id": 1, "path": str(path)},
        {"id": "two", "base64": text, "source": "bed 2", "heatmap": True},
        {"id": [3], "path": str(tmp_path / "nowhere.jpeg")},
    )
    found = {json.dumps(answer["id"]): answer for answer in answers}
    expected = json.loads(Screener.load(force=True).screen(str(path)).to_json())
    assert found["1"]["result"] == expected
    assert comparable(found['"two"']["result"]) == comparable(expected)
    assert found['"two"']["result"]["source"] == "bed 2"
    assert base64.b64decode(found['"two"']["heatmap_jpeg_base64"]).startswith(b"\xff\xd8")
    assert found["[3]"]["result"]["error"]["code"] == "unreadable_file"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"3", "JSON object"),
        (b'{"id": 1}', "either path or base64"),
        (b'{"id": 1, "path": "a", "base64": ""}', "either path or base64"),
        (b'{"id": 1, "path": 7}', "either path or base64"),
        (b'{"id": 1, "base64": "\\u00e9!"}', "base64 is damaged"),
        (b'{"id": 1, "path": "a", "surprise": 1}', "unknown keys"),
        (b'{"id": 1, "path": "a", "source": 1}', "source must be"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_bad_request_is_answered_and_stops_nothing(line: bytes, said: str) -> None:
    target = io.BytesIO()
    good = json.dumps({"id": "after", "base64": ""}).encode()
    answered = serve_pipe(Screener.load(), io.BytesIO(line + b"\n\n" + good + b"\n"), target, 1)
    first, after = sorted(map(json.loads, target.getvalue().splitlines()), key=str)[::-1]
    if first["id"] == "after":
        first, after = after, first
    assert answered == Answered(2, 0) and said in first["error"]["message"]
    assert after["result"]["error"]["code"] == "empty_file"


def test_no_more_is_read_than_can_be_worked_on(pictures: list[bytes]) -> None:
    request = json.dumps({"id": 0, "base64": base64.b64encode(pictures[0]).decode()}).encode()
    release = threading.Event()

    class Source(io.BytesIO):
        given = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.given += 1
            return request + b"\n" if self.given <= 50 else b""

    source, target = Source(), io.BytesIO()
    thread = threading.Thread(
        target=serve_pipe,
        args=(Screener.load(force=True), source, target, 1),
        kwargs={"before_record": lambda record: release.wait(60)},
    )
    thread.start()
    time.sleep(1)
    assert source.given <= 3, "a writer that is faster must wait"
    release.set()
    thread.join(60)
    assert len(target.getvalue().splitlines()) == 50


def test_a_stop_signal_answers_what_was_accepted(pictures: list[bytes]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", "pipe", "--force"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin and process.stdout
    text = base64.b64encode(pictures[0]).decode()
    for i in range(5):
        process.stdin.write(json.dumps({"id": i, "base64": text}).encode() + b"\n")
        process.stdin.flush()
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    process.stdin.close()
    rest = [json.loads(line) for line in process.stdout]
    assert process.wait(30) == 0
    process.stdout.close()
    assert {answer["id"] for answer in [first, *rest]} >= {first["id"]}
    assert all("result" in answer for answer in rest)


@pytest.mark.parametrize("name", ["shell", "node", "c"])
def test_the_examples_in_other_languages(name: str, pictures: list[bytes], tmp_path: Path) -> None:
    image = tmp_path / "a b.jpeg"
    image.write_bytes(pictures[1])
    if name == "shell":
        command = ["sh", str(EXAMPLES / "pipe.sh")]
    elif name == "node":
        if shutil.which("node") is None:
            pytest.skip("no node here")
        command = ["node", str(EXAMPLES / "pipe.js")]
    else:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler here")
        program = tmp_path / "pipe"
        subprocess.run(
            [compiler, "-Wall", "-Werror", "-O1", "-o", program, EXAMPLES / "pipe.c"], check=True
        )
        command = [str(program)]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)
    }  # fmt: skip
    result = subprocess.run(
        [*command, str(image), str(tmp_path / "none.jpeg")],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    probability = Screener.load(force=True).screen(str(image)).probability
    assert f"{probability}" in result.stdout or f"{probability:.4f}" in result.stdout
    assert "unreadable_file" in result.stdout
