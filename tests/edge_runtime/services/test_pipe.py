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

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_runtime import Screener
from edge_runtime.images.phantom import as_jpeg, draw_film
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


def example(name: str, folder: Path) -> list[str]:
    """The command of an example in another language; skips where its tools are missing."""
    if name == "shell":
        return ["sh", str(EXAMPLES / "pipe.sh")]
    if name == "node":
        node = shutil.which("node")
        if node is None:
            pytest.skip("no node here")
        return [node, str(EXAMPLES / "pipe.js")]
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    program = folder / "pipe"
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, EXAMPLES / "pipe.c"],
        check=True,
    )
    return [str(program)]


@pytest.mark.parametrize("name", ["shell", "node", "c"])
def test_the_examples_in_other_languages(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    films = {
        "a b.jpeg": as_jpeg(draw_film(80)),
        "noise.png": _png(rng.integers(0, 256, (500, 500), np.uint8)),
        "cut.jpeg": as_jpeg(draw_film(80))[:3000],
    }
    for file, content in films.items():
        (tmp_path / file).write_bytes(content)
    command = example(name, tmp_path)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)
    }  # fmt: skip

    def run(*names: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *(str(tmp_path / file) for file in names)],
            capture_output=True, text=True, env=environment | changes, cwd=tmp_path, timeout=60,
            check=False,
        )  # fmt: skip

    good = run("a b.jpeg")
    record = Screener.load().screen(str(tmp_path / "a b.jpeg"))
    assert record.status == "ok"
    assert good.returncode == 0, good.stderr
    assert record.decision is not None and record.decision in good.stdout
    bad = run("a b.jpeg", "noise.png", "cut.jpeg", "none.jpeg")
    assert bad.returncode == 1, bad.stderr
    # Noise is no pneumonia, whatever the network answers.
    noise = next(line for line in bad.stdout.splitlines() if "noise.png" in line)
    assert "rejected" in noise or "refused" in noise
    assert '"decision": "' not in noise and "pneumonia" not in noise.replace("pneumonia-", "")
    assert "corrupt_image" in bad.stdout and "unreadable_file" in bad.stdout
    if name != "c":  # its environment has the interpreter of the others
        lost = run("a b.jpeg", PATH="/usr/bin:/bin")
        if shutil.which("cxr-edge", path="/usr/bin:/bin") is None:
            assert lost.returncode == 127 and "not on the PATH" in lost.stderr
    else:
        lost = run("a b.jpeg", PATH="/nowhere")
        assert lost.returncode == 127 and "not on the PATH" in lost.stderr


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_python_examples(tmp_path: Path) -> None:
    film, noise = tmp_path / "film.jpeg", tmp_path / "noise.png"
    film.write_bytes(as_jpeg(draw_film(80)))
    noise.write_bytes(_png(np.random.default_rng(0).integers(0, 256, (500, 500), np.uint8)))

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "python" / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert len(list((EXAMPLES / "python").glob("*.py"))) == 5  # each is run here
    expected = str(Screener.load().screen(film).decision)
    assert expected in run("one_film.py", film).stdout
    refused = run("one_film.py", noise)
    assert refused.returncode == 1 and "refused: " in refused.stderr
    missing = run("one_film.py", tmp_path / "none.png")
    assert missing.returncode == 1 and "unreadable_file" in missing.stderr
    lines = run("folder.py", tmp_path).stdout.splitlines()
    assert lines[0].startswith(expected) and lines[1].startswith("rejected")
    picture = tmp_path / "map.jpeg"
    assert run("heatmap.py", film, picture).returncode == 0
    assert picture.read_bytes().startswith(b"\xff\xd8")
    assert run("heatmap.py", noise, picture).returncode == 1
    own = run("own_threshold.py", film, 0.25)
    assert own.returncode == 0 and "custom 0.25" in own.stdout
    assert "between 0 and 1" in run("own_threshold.py", film, 7).stderr
    assert "pneumonia-mobilenetv2-tiny" in run("other_bundle.py", film, "tiny").stdout
    assert run("other_bundle.py", film, tmp_path).returncode == 1
