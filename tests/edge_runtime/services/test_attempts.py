"""An input that ends the process is met twice and never again; what is behind it is screened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.images.file import hash_file
from edge_runtime.services.attempts import Attempts
from tests.conftest import ROOT
from tests.edge_runtime.services.conftest import records

# The command, but that one image ends the process as the system does where memory is short.
DEADLY = (
    "import os, signal, sys\n"
    "from edge_runtime.screener import Screener\n"
    "examine, deadly = Screener.examine, open(sys.argv[1], 'rb').read()\n"
    "def deadly_examine(self, image, source=None, timings=False):\n"
    "    data = image if isinstance(image, bytes) else open(image, 'rb').read()\n"
    "    if data == deadly:\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "    return examine(self, image, source, timings)\n"
    "Screener.examine = deadly_examine\n"
    "from edge_runtime.cli import main\n"
    "sys.exit(main(sys.argv[2:]))\n"
)


def test_notes_outlive_the_process_and_are_taken_back(tmp_path: Path) -> None:
    path = str(tmp_path / "attempts")
    first = Attempts(path)
    with first.attempt("done"):
        assert not first.is_given_up("done")
    first.begin("bad")
    first.begin("neighbour")
    first.done("neighbour")
    first.close()  # as if it had ended
    second = Attempts(path)
    assert second.suspects() == ["bad"] and not second.is_given_up("bad")
    second.begin("bad")
    second.close()
    with open(path, "ab") as file:
        file.write(b'["begun", "torn')
    third = Attempts(path)
    assert third.is_given_up("bad")
    third.done("bad")
    third.close()
    assert Path(path).read_bytes() == b""


def test_notes_stay_few_while_something_is_always_in_hand(tmp_path: Path) -> None:
    """A film that was taken away after a crash, or workers that are never idle."""
    path = tmp_path / "attempts"
    attempts = Attempts(str(path))
    attempts.begin("gone")
    most = 0
    for number in range(5000):
        with attempts.attempt(f"{number}"):
            most = max(most, path.read_bytes().count(b"\n"))
    attempts.close()
    assert most <= 2000 + 2  # and what is in hand
    again = Attempts(str(path))
    assert again.suspects() == ["gone"]
    again.close()


def deadly(tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DEADLY, tmp_path / "deadly", *arguments]
    return subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_watch_sets_it_aside_and_screens_the_rest(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    for i, content in enumerate(pictures):
        (inbox / f"{i}.jpeg").write_bytes(content)
    (tmp_path / "deadly").write_bytes(pictures[2])
    output = tmp_path / "out.jsonl"
    options = ["--once", "--force", "--interval", 0.05, "--settle", 0.1, "--threads", 2]
    for expected in (-9, -9, 0):
        done = deadly(tmp_path, "watch", inbox, "--output", output, "--failed", tmp_path / "f",
                      "--done", tmp_path / "d", *options)  # fmt: skip
        assert done.returncode == expected, done.stderr
    assert "set aside" in done.stderr and "2.jpeg" in done.stderr
    found = {Path(r["source"]).name: r for r in records(output)}
    assert len(found) == len(records(output)) == len(pictures)
    statuses = {name: record["status"] for name, record in found.items()}
    assert statuses == {f"{i}.jpeg": "error" if i == 2 else "ok" for i in range(len(pictures))}
    assert found["2.jpeg"]["error"]["code"] == "set_aside"
    assert found["2.jpeg"]["sha256"] == hash_file(tmp_path / "deadly")
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["2.jpeg"]
    again = deadly(tmp_path, "watch", inbox, "--output", output, *options)
    assert again.returncode == 0 and len(records(output)) == len(pictures)


def test_listen_sets_it_aside_and_screens_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("pynetdicom")
    from tests.edge_runtime.services.test_listen import make_dicom, wait_until

    spool = tmp_path / "spool"
    spool.mkdir()
    digests = []
    for i in range(5):
        path = make_dicom(tmp_path / f"{i}.dcm", i)
        digests.append(hash_file(path))
        path.rename(spool / f"{digests[-1]}.dcm")  # accepted by a process that has ended
    deadly_path = spool / f"{digests[2]}.dcm"
    (tmp_path / "deadly").write_bytes(deadly_path.read_bytes())
    arguments = [
        "listen", "--port", "0", "--spool", spool, "--output", tmp_path / "out.jsonl", "--objects",
        tmp_path / "objects", "--force", "--threads", "2", "--log-json",
    ]  # fmt: skip
    for _ in range(2):
        assert deadly(tmp_path, *arguments).returncode == -9
    command = [sys.executable, "-c", DEADLY, tmp_path / "deadly", *arguments]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([*map(str, command)], cwd=ROOT, stderr=file)
    try:
        wait_until(lambda: not list(spool.glob("*.dcm")))
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert "set aside" in log.read_text()
    found = {record["sha256"]: record for record in records(tmp_path / "out.jsonl")}
    assert len(found) == 5
    assert found[digests[2]]["error"]["code"] == "set_aside"
    assert [p.name for p in (spool / "set-aside").iterdir()] == [f"{digests[2]}.dcm"]
    assert len(list((tmp_path / "objects").glob("*-sr.dcm"))) == 4
