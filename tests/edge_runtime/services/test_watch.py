"""`cxr-edge watch`: complete files once each, through restarts, crashes and duplicates."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime import Screener
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import read_log
from edge_runtime.records.record import Record
from edge_runtime.services.watch import Watcher, WatchSettings
from tests.conftest import ROOT
from tests.edge_runtime.services.conftest import comparable, no_network, records, running


def once(
    inbox: Path, *options: object, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "edge_runtime", "watch", inbox, "--once", "--force"]
    return subprocess.run(
        [*map(str, command), "--interval", "0.05", "--settle", "0.1", *map(str, options)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip


def test_files_are_screened_recorded_and_moved(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    (inbox / "ward").mkdir()
    for i, content in enumerate(pictures[:3]):
        (inbox / "ward" / f"{i}.jpeg").write_bytes(content)
    (inbox / "broken.jpeg").write_bytes(b"\xff\xd8\xff")
    (inbox / "arriving.jpeg.part").write_bytes(pictures[0])
    output, done, failed = tmp_path / "out.jsonl", tmp_path / "done", tmp_path / "failed"
    result = once(inbox, "--output", output, "--done", done, "--failed", failed)
    assert result.returncode == 0, result.stderr
    found = {Path(r["source"]).name: r for r in records(output)}
    assert set(found) == {"0.jpeg", "1.jpeg", "2.jpeg", "broken.jpeg"}
    screener = Screener.load(force=True)
    for i in range(3):
        expected = json.loads(screener.screen(pictures[i]).to_json())
        assert comparable(found[f"{i}.jpeg"]) == comparable(expected)
    assert found["broken.jpeg"]["status"] == "error"
    assert sorted(p.name for p in (done / "ward").iterdir()) == ["0.jpeg", "1.jpeg", "2.jpeg"]
    assert [p.name for p in failed.iterdir()] == ["broken.jpeg"]
    assert [p.name for p in inbox.rglob("*") if p.is_file()] == ["arriving.jpeg.part"]


def test_a_file_is_left_alone_until_it_is_complete(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    settings = WatchSettings(str(inbox), str(tmp_path / "o.jsonl"), settle=0.4)
    watcher = Watcher(Screener.load(force=True), settings, 1)
    content = pictures[0]
    with open(inbox / "slow.jpeg", "wb") as file:
        for part in range(4):
            file.write(content[part * 4000 : (part + 1) * 4000 if part < 3 else None])
            file.flush()
            assert watcher.step() == 0 and watcher.waiting
            time.sleep(0.2)
    deadline = time.monotonic() + 30
    while watcher.step() == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert watcher.step() == 0 and not watcher.waiting
    watcher.close()
    (record,) = records(tmp_path / "o.jsonl")
    assert record["status"] == "ok"


def test_a_restart_screens_nothing_twice(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    output = tmp_path / "o.jsonl"
    (inbox / "a.jpeg").write_bytes(pictures[0])
    assert once(inbox, "--output", output).returncode == 0
    assert once(inbox, "--output", output).returncode == 0
    assert len(records(output)) == 1
    # Other content under the same name is another image.
    (inbox / "a.jpeg").write_bytes(pictures[1])
    assert once(inbox, "--output", output).returncode == 0
    assert len(records(output)) == 2
    # A crash after the record and before the move: only the move is made up for.
    done = tmp_path / "done"
    assert once(inbox, "--output", output, "--done", done).returncode == 0
    assert len(records(output)) == 2 and [p.name for p in done.iterdir()] == ["a.jpeg"]
    # The same name on another day does not replace the earlier file.
    (inbox / "a.jpeg").write_bytes(pictures[2])
    assert once(inbox, "--output", output, "--done", done).returncode == 0
    assert sorted(p.name for p in done.iterdir()) == ["a-2.jpeg", "a.jpeg"]


def test_kill_in_the_middle_loses_nothing(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    for i in range(60):
        (inbox / f"{i:02}.jpeg").write_bytes(pictures[i % 6] + bytes([i]))
    output, done, log = tmp_path / "o.jsonl", tmp_path / "done", tmp_path / "log"
    keep = ("--output", output, "--done", done, "--audit", log)
    options = (*keep, "--interval", 0.05, "--settle", 0.1, "--force")
    for _ in range(3):
        with running("watch", inbox, *options) as process:
            wanted = (len(records(output)) if output.exists() else 0) + 5
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if output.exists() and output.read_bytes().count(b"\n") >= wanted:
                    break
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert once(inbox, *keep).returncode == 0
    found = records(output)
    assert sorted(Path(r["source"]).name for r in found) == [f"{i:02}.jpeg" for i in range(60)]
    assert len(list(done.iterdir())) == 60
    assert verify_log(str(log))[1] == []
    entries = {entry["image"] for entry in read_log(str(log)) if entry["event"] == "result"}
    assert entries == {r["sha256"] for r in found}, "no result without its entry"


def test_two_watchers_of_one_output_are_one_too_many(inbox: Path, tmp_path: Path) -> None:
    settings = WatchSettings(str(inbox), str(tmp_path / "o.jsonl"))
    screener = Screener.load()
    watcher = Watcher(screener, settings, 1)
    with pytest.raises(InvalidValueError, match="another watcher"):
        Watcher(screener, settings, 1)
    watcher.close()
    Watcher(screener, settings, 1).close()
    with pytest.raises(InvalidValueError, match="no folder"):
        Watcher(screener, WatchSettings(str(inbox / "none"), "x"), 1)


def test_a_signal_ends_it_in_order(inbox: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.jsonl"
    with running("watch", inbox, "--output", output) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0 and '"stopped"' in said


def test_without_a_network(inbox: Path, tmp_path: Path, pictures: list[bytes]) -> None:
    (inbox / "a.jpeg").write_bytes(pictures[0])
    result = once(inbox, "--output", tmp_path / "o.jsonl", prefix=tuple(no_network()))
    assert result.returncode == 0, result.stderr
    assert records(tmp_path / "o.jsonl")[0]["status"] == "ok"


def test_a_model_that_fails_its_self_test_refuses_to_work(
    inbox: Path, tmp_path: Path, bundle: Path
) -> None:
    import shutil

    other = tmp_path / "bundle"
    shutil.copytree(bundle, other)
    document = json.loads((other / "manifest.json").read_text(encoding="utf-8"))
    # The second known answer only: `screen` looks at the first, a service at all of them.
    answer = document["known_answers"][1]
    answer["logits"] = {
        family: [v + 1 for v in values] for family, values in answer["logits"].items()
    }
    (other / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    result = once(inbox, "--output", tmp_path / "o.jsonl", "--bundle", other)
    assert result.returncode == 2 and "known answer" in result.stderr


def test_no_name_stops_the_watcher(inbox: Path, tmp_path: Path, pictures: list[bytes]) -> None:
    """A name that is taken by a folder, a folder's name taken by a file, 255 bytes twice."""
    done, output = tmp_path / "done", tmp_path / "o.jsonl"
    options = ("--output", output, "--done", done)
    (done / "a.jpeg").mkdir(parents=True)
    (done / "ward").write_bytes(b"")
    long = "n" * 250 + ".jpeg"
    for _ in range(2):
        (inbox / "ward").mkdir(exist_ok=True)
        for i, name in enumerate(("a.jpeg", "ward/b.jpeg", long)):
            (inbox / name).write_bytes(pictures[i])
        assert once(inbox, *options).returncode == 0
    assert len(records(output)) == 3  # the second time each was known
    assert [p for p in inbox.rglob("*") if p.is_file()] == []
    assert sum(p.is_file() and p.stat().st_size > 0 for p in done.rglob("*")) == 6


def test_a_file_that_cannot_be_moved_or_is_gone_stops_nothing(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    done, troubles = tmp_path / "done", []
    for i in range(3):
        (inbox / f"{i}.jpeg").write_bytes(pictures[i])

    def gone(record: Record) -> None:
        if record.source.endswith("1.jpeg"):
            (inbox / "1.jpeg").unlink()
        if record.source.endswith("2.jpeg"):
            shutil.rmtree(done)
            done.write_bytes(b"")  # nothing can be put there now

    watcher = Watcher(
        Screener.load(force=True),
        WatchSettings(str(inbox), str(tmp_path / "o.jsonl"), done=str(done), settle=0.0),
        1,
        on_record=gone,
        on_trouble=lambda event, text: troubles.append(f"{event}: {text}"),
    )
    watcher.step()
    assert watcher.step() + watcher.step() >= 0
    watcher.close()
    assert [Path(r["source"]).name for r in records(tmp_path / "o.jsonl")] == [
        "0.jpeg", "1.jpeg", "2.jpeg",
    ]  # fmt: skip
    assert len(troubles) == 1 and "2.jpeg" in troubles[0] and "not_moved" in troubles[0]


def test_own_files_inside_the_folder_are_never_screened(
    inbox: Path, tmp_path: Path, pictures: list[bytes]
) -> None:
    (inbox / "a.jpeg").write_bytes(pictures[0])
    (inbox / "link.jsonl").symlink_to(inbox / "o.jsonl")
    options = ("--output", inbox / "o.jsonl", "--audit", inbox / "log", "--done", inbox / "done")
    for _ in range(2):
        assert once(inbox, *options).returncode == 0
    assert [Path(r["source"]).name for r in records(inbox / "o.jsonl")] == ["a.jpeg"]
    assert verify_log(str(inbox / "log"))[1] == []
