"""Running the verbs that go on as processes of their own, as a clinic would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def sockets_of_pynetdicom_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a connection that the peer ended, pynetdicom (3.0) leaves the socket to the collector,
    whose warning would then fail whatever test it interrupts.
    """
    from pynetdicom import transport

    original = transport.AssociationSocket._shutdown_socket

    def shut_down_and_close(self: Any) -> None:
        original(self)
        if self.socket is not None:
            self.socket.close()

    monkeypatch.setattr(transport.AssociationSocket, "_shutdown_socket", shut_down_and_close)


@contextlib.contextmanager
def running(*arguments: object, ready: bool = True) -> Iterator[subprocess.Popen[str]]:
    """`cxr-edge ARGUMENTS --log-json`, waited for until it says that it is ready."""
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments), "--log-json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        if ready:
            process.ready = wait_for(process, "ready")  # type: ignore[attr-defined]
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        assert process.stderr is not None
        process.stderr.close()


def wait_for(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    """The next log line of that event."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if found.get("event") == event:
                return dict(found)
    raise AssertionError(f"no event {event!r}; it said: {''.join(lines)}")


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON Lines file; every line must be whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the name under which the image came."""
    return {key: value for key, value in record.items() if key not in ("source", "timing_ms")}


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    return [phantom_jpeg(seed, bool(seed % 2), 300, 340) for seed in range(6)]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def no_network() -> list[str]:
    """A command prefix that takes the network away; skips where that is not allowed."""
    prefix = ["unshare", "-rn"] if os.getuid() else ["unshare", "-n"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to a network namespace here")
    return prefix


def check_api(server: str) -> None:
    """Requests drawn from the server's own description, for every operation in it."""
    schemathesis = pytest.importorskip("schemathesis")
    document = httpx.get(f"{server}openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    from hypothesis import HealthCheck, Phase, given, settings

    tested = 0
    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy()

        @given(case=strategy)
        @settings(
            max_examples=25, deadline=None, derandomize=True, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def check(case: Any) -> None:
            case.call_and_validate(
                base_url=server.rstrip("/"), excluded_checks=_excluded(schemathesis)
            )

        check()
        tested += 1
    assert tested == len(document["paths"])  # none has two methods


def _excluded(schemathesis: Any) -> list[Any]:
    # Bytes that are no image are data here, not a malformed request: they get a record.
    names = ("negative_data_rejection", "positive_data_acceptance", "unsupported_method")
    checks = schemathesis.checks.CHECKS
    return [check for name in names for check in [checks.get_by_names([name])[0]] if check]
