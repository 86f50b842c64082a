"""The audit log: whole after any crash, and nothing can be changed in it unseen."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_runtime import Screener
from edge_runtime.cli import main
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import AuditError, AuditLog, read_log
from tests.conftest import ROOT

_KILLED = """
import os, random, signal, sys, time
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import AuditLog
folder, kills = sys.argv[1], int(sys.argv[2])
draw = random.Random(1)
for i in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        log = AuditLog(folder, max_file_bytes=20_000)
        while True:
            log.append("result", {"image": "x" * draw.randrange(400), "i": i})
            os.write(writer, b".")
    os.close(writer)
    if i % 3:  # the others may die while they open the log
        os.read(reader, 1)
    time.sleep(draw.random() * 0.008)
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not os.path.exists(folder + "/audit-000001.jsonl"):
        continue
    count, problems = verify_log(folder)
    if problems:
        print(i, count, *problems, sep="; ")
        sys.exit(1)
print(count)
"""


@pytest.mark.slow
def test_kills_leave_a_log_that_verifies_every_time(tmp_path: Path) -> None:
    """250 of them; with CXR_EDGE_KILLS, ten times as many as that says."""
    kills = 10 * int(os.environ.get("CXR_EDGE_KILLS", "25"))
    result = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "log"), str(kills)],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout) > 0.6 * kills, "it hardly wrote anything"


def fill(folder: Path, count: int = 40, **options: int) -> None:
    log = AuditLog(str(folder), **options)
    for i in range(count):
        log.append("result", {"image": f"{i:064x}", "probability": i / 100, "flags": ["a"]})
    log.close()


def test_each_of_100_random_edits_is_found(tmp_path: Path) -> None:
    draw = random.Random(1)
    for number in range(100):
        folder = tmp_path / str(number)
        fill(folder, 12)
        assert verify_log(str(folder)) == (12, [])
        path = folder / "audit-000001.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        place = draw.randrange(len(lines))
        kind = draw.choice(("byte", "drop", "swap", "copy", "field", "rehash"))
        if kind == "byte":
            line = bytearray(lines[place])
            at = draw.randrange(len(line) - 1)
            line[at] ^= 1 << draw.randrange(7)
            lines[place] = bytes(line)
        elif kind == "drop":
            del lines[place]
        elif kind == "swap":
            other = (place + 1) % len(lines)
            lines[place], lines[other] = lines[other], lines[place]
        elif kind == "copy":
            lines.insert(place, lines[place])
        else:
            entry = json.loads(lines[place])
            entry["probability"] = 0.999
            if kind == "rehash":  # by somebody who knows the rule, on that line alone
                from edge_runtime.records.audit_log import GENESIS, digest_of

                before = json.loads(lines[place - 1])["hash"] if place else GENESIS
                del entry["hash"]
                entry["hash"] = digest_of(before, entry)
            lines[place] = json.dumps(entry).encode() + b"\n"
        path.write_bytes(b"".join(lines))
        _, problems = verify_log(str(folder))
        assert problems, (number, kind, place)
        assert all(p.file in ("audit-000001.jsonl", "head.json") and p.line > 0 for p in problems)


def test_the_altered_line_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    path = tmp_path / "audit-000001.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[6] = lines[6].replace('"probability": 0.06', '"probability": 0.96')
    path.write_text("".join(lines), encoding="utf-8")
    (problem,) = verify_log(str(tmp_path))[1]
    assert str(problem) == "audit-000001.jsonl, line 7: was altered, or the one before it was"
    path.write_text("".join(lines[:5]), encoding="utf-8")
    (problem,) = verify_log(str(tmp_path))[1]
    assert "5 entries are missing at the end" in str(problem)
    # A writer that goes on afterwards does not cover it up.
    fill(tmp_path, 3)
    assert any("missing" in p.what for p in verify_log(str(tmp_path))[1])


def test_a_torn_line_is_dropped_and_said(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with open(tmp_path / "audit-000001.jsonl", "ab") as file:
        file.write(b'{"n": 4, "ti')
    assert verify_log(str(tmp_path)) == (3, [])
    fill(tmp_path, 1)
    assert verify_log(str(tmp_path)) == (5, [])
    assert [e["event"] for e in read_log(str(tmp_path))][3:] == ["recovered", "result"]


def test_rotation_and_retention_keep_the_chain(tmp_path: Path) -> None:
    fill(tmp_path / "all", 60, max_file_bytes=1500)
    assert len(list((tmp_path / "all").glob("audit-*.jsonl"))) > 3
    assert verify_log(str(tmp_path / "all")) == (60, [])
    some = tmp_path / "some"
    fill(some, 60, max_file_bytes=1500, keep_files=2)
    files = sorted(some.glob("audit-*.jsonl"))
    assert len(files) <= 3 and files[0].name != "audit-000001.jsonl"
    _, problems = verify_log(str(some))
    assert problems == []
    # A file that somebody else removed is no retention.
    files[0].unlink()
    assert any("missing" in p.what for p in verify_log(str(some))[1])


def test_threads_share_a_log_and_processes_do_not(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path))
    threads = [
        threading.Thread(target=lambda: [log.append("result", {}) for _ in range(25)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(AuditError, match="another process"):
        AuditLog(str(tmp_path))
    log.close()
    assert verify_log(str(tmp_path)) == (100, [])


def test_a_result_that_cannot_be_logged_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    image, output = tmp_path / "a.jpeg", tmp_path / "o.jsonl"
    image.write_bytes(phantom_jpeg(1, True))
    command = ["screen", str(image), "--format", "jsonl", "--force", "--output", str(output)]
    command += ["--resume", "--audit"]

    def refuse(self: AuditLog, record: object) -> None:
        raise AuditError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "record", refuse)
        assert main([*command, str(tmp_path / "full")]) == 2
    assert "the disk is full" in capfd.readouterr().err
    assert output.read_text(encoding="utf-8") == ""
    assert main([*command, str(tmp_path / "log")]) == 0
    assert len(output.read_text(encoding="utf-8").splitlines()) == 1


def test_verbs_write_it_and_audit_reads_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(3):
        (images / f"Doe_{seed}.jpeg").write_bytes(phantom_jpeg(seed, bool(seed % 2)))
    (images / "broken.jpeg").write_bytes(b"\xff\xd8\xff")
    log = tmp_path / "log"
    code = main(["screen", str(images), "--force", "--audit", str(log), "--format", "jsonl"])
    assert code == 1
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    entries = list(read_log(str(log)))
    assert [e["image"] for e in entries] == [r["sha256"] for r in records]
    assert [e["probability"] for e in entries] == [r["probability"] for r in records]
    text = (log / "audit-000001.jsonl").read_text(encoding="utf-8")
    assert "Doe" not in text and "jpeg" not in text, "file names can be names of patients"
    assert main(["audit", "verify", str(log)]) == 0
    assert "4 entries, whole and unaltered" in capfd.readouterr().out
    assert main(["audit", "export", str(log)]) == 0
    assert capfd.readouterr().out.count("\n") == 5
    assert main(["audit", "summary", str(log), "--json"]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert summary["events"] == {"result": 4} and summary["outcomes"]["error"] == 1
    path = log / "audit-000001.jsonl"
    path.write_text(text.replace('"status": "ok"', '"status": "no"', 1), encoding="utf-8")
    assert main(["audit", "verify", str(log)]) == 1
    assert "line" in capfd.readouterr().out
    with pytest.raises(InvalidValueError):
        verify_log(str(tmp_path / "nowhere"))
    assert Screener.load() is not None
