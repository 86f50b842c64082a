"""Clients that hold what they do not use, logs that cannot be written, readers that go away."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT
from tests.edge_runtime.services.conftest import running
from tests.hostile.test_large_input import film, write

if not Path("/proc/self/status").exists():
    pytest.skip("peak memory is read from /proc", allow_module_level=True)
MOST_MEMORY_MB = 300


def peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@contextlib.contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_unfinished_heads_hold_nothing_for_long() -> None:
    with contextlib.ExitStack() as stack:
        with few_descriptors(200):  # the server takes this over
            process = stack.enter_context(running("serve", "--port", 0))
        url = process.ready["url"]  # type: ignore[attr-defined]
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        for _ in range(400):
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        begun = time.monotonic()
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}healthz", timeout=1).status_code == 200:
                    break
            assert time.monotonic() - begun < 20, "unfinished heads keep everybody out"
            time.sleep(0.2)
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(b"POST /v1/screen HTTP/1.1\r\nX: ")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0 and len(said) < 10_000 and "Traceback" not in said


def test_uploads_that_never_end_take_bounded_memory() -> None:
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running("serve", "--port", 0, "--timeout", 8))
        url = process.ready["url"]  # type: ignore[attr-defined]
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        head = (
            f"POST /v1/screen HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 60000000\r\n\r\n"
        )
        for _ in range(12):
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                connection.sendall(head.encode() + bytes(50_000_000))
        assert peak_mb(process.pid) < MOST_MEMORY_MB
        time.sleep(8)
        answer = httpx.post(f"{url}v1/screen", content=phantom_jpeg(1, True), timeout=30)
        assert answer.status_code == 200


def test_serve_says_when_it_cannot_record_and_when_it_can_again(tmp_path: Path) -> None:
    picture, audit = phantom_jpeg(1, True), tmp_path / "audit"
    with running("serve", "--port", 0, "--force", "--audit", audit) as process:
        url = process.ready["url"]  # type: ignore[attr-defined]
        assert httpx.post(f"{url}v1/screen", content=picture).status_code == 200
        audit.rename(tmp_path / "gone")
        answer = httpx.post(f"{url}v1/screen", content=picture)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_recorded")
        assert httpx.get(f"{url}readyz").status_code == 503
        (tmp_path / "gone").rename(audit)
        assert httpx.get(f"{url}readyz").status_code == 200
        assert httpx.post(f"{url}v1/screen", content=picture).status_code == 200


def test_a_form_in_an_odd_charset_is_a_bad_request_or_read() -> None:
    picture = phantom_jpeg(1, True)
    with running("serve", "--port", 0, "--force") as process:
        url = process.ready["url"]  # type: ignore[attr-defined]
        for charset in ("utf-7", "no-such-charset", "utf-16", "undefined", "idna", "base64", "hex"):
            body = (
                b'--b\r\nContent-Disposition: form-data; name="f"; filename="a\xff.jpeg"\r\n\r\n'
                + picture
                + b"\r\n--b--\r\n"
            )
            answer = httpx.post(
                f"{url}v1/screen",
                content=body,
                headers={"content-type": f"multipart/form-data; boundary=b; charset={charset}"},
            )
            assert answer.status_code in (200, 400), (charset, answer.text)


def pipe(lines: list[bytes], *options: object, **given: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edge_runtime", "pipe", "--force", *map(str, options)]
    return subprocess.run(
        command, input=b"\n".join(lines), capture_output=True, cwd=ROOT, timeout=60, check=False,
        **given,
    )  # fmt: skip


def test_pipe_answers_each_request_where_the_log_cannot_be_written(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    text = base64.b64encode(phantom_jpeg(1, True)).decode()
    command = [sys.executable, "-m", "edge_runtime", "pipe", "--force", "--audit", str(audit)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps({"id": -1, "base64": text}).encode() + b"\n")
    process.stdin.flush()
    assert "result" in json.loads(process.stdout.readline())
    audit.rename(tmp_path / "gone")
    rest = b"".join(json.dumps({"id": i, "base64": text}).encode() + b"\n" for i in range(60))
    out, said = process.communicate(rest, timeout=60)
    answers = [json.loads(line) for line in out.splitlines()]
    assert sorted(answer["id"] for answer in answers) == list(range(60))
    assert {answer["error"]["code"] for answer in answers} == {"not_recorded"}
    assert process.returncode == 2 and b"60 requests could not be answered" in said


def test_pipe_ends_where_nobody_reads(tmp_path: Path) -> None:
    text = base64.b64encode(phantom_jpeg(1, True)).decode()
    line = json.dumps({"id": 1, "base64": text, "heatmap": True}).encode() + b"\n"
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", "pipe", "--force"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    with contextlib.suppress(OSError):
        for _ in range(200):
            process.stdin.write(line)
            process.stdin.flush()
    with contextlib.suppress(OSError):
        process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 2 and b"could not be answered" in said and b"Traceback" not in said


def test_pipe_takes_a_large_film_in_bounded_memory(tmp_path: Path) -> None:
    """A full-size DICOM film as text, three times, and a line that is too long."""
    content = base64.b64encode(write(film())).decode()
    large = json.dumps({"id": 1, "base64": content}).encode()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", "pipe", "--force"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin and process.stdout
    for line in (large, large, b'{"base64": "' + b"A" * 90_000_000 + b'"}', large):
        process.stdin.write(line + b"\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(4)]
    peak = peak_mb(process.pid)
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0
    assert sorted("result" in answer for answer in answers) == [False, True, True, True]
    assert all(a["result"]["status"] == "ok" for a in answers if "result" in a)
    assert peak < MOST_MEMORY_MB
