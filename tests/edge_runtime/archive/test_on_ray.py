"""The command, on Ray: what it opens, what it writes, and what kills do to it.

CXR_EDGE_KILLS=20 is the full form of the kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.edge_runtime.archive.conftest import rows_of, small_films

Run = Callable[..., subprocess.CompletedProcess[str]]
OPTIONS = ["--bundle", "tiny", "--force", "--workers", "2"]


def archive(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_runtime", "archive", *map(str, arguments), *OPTIONS]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True, **options
    )


def finished(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    _, errors = process.communicate(timeout=seconds)
    return process.returncode, errors


def descendants(pid: int) -> set[int]:
    found = {pid}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            found |= {int(entry.name)} if parent == pid else set()
    return found if found == {pid} else found.union(*(descendants(p) for p in found - {pid}))


def listening(pids: set[int]) -> set[str]:
    """Addresses on which these processes listen, as the kernel writes them."""
    inodes = set()
    for pid in pids:
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    target = os.readlink(descriptor)
                except OSError:
                    continue
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].rpartition(":")[0])
    return found


# 127.0.0.1, and the same as an address of version 6, in the kernel's order of bytes.
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def parts(out: Path) -> int:
    return len([*out.glob("results/*/*.parquet")])


@pytest.mark.slow
def test_stopped_killed_and_finished_on_loopback_alone(tmp_path: Path) -> None:
    """Ctrl-C, then a kill, each with a part of the work done; what is left is finished."""
    films, out = tmp_path / "films", tmp_path / "out"
    names = [str(p) for p in small_films(films, [f"{i:03}.png" for i in range(320)])]
    seen: set[str] = set()
    for how in (signal.SIGINT, signal.SIGKILL):
        process, before = archive(films, "--output", out), parts(out)
        deadline = time.monotonic() + 120
        while parts(out) == before and time.monotonic() < deadline:
            seen |= listening(descendants(process.pid))
            time.sleep(0.1)
        os.killpg(process.pid, how)
        code, errors = finished(process)
        assert code in (0, 130, -signal.SIGKILL) and "Traceback" not in errors, errors
        assert code != 130 or "the same command goes on" in errors
        rows = rows_of(out)
        assert rows and len({row["source"] for row in rows}) == len(rows)
        if len(rows) == len(names):  # it was quicker
            names += [str(p) for p in small_films(films / "more", [f"{i:03}.png"
                                                                  for i in range(64)])]  # fmt: skip
    assert seen and seen <= _LOOPBACK
    code, errors = finished(archive(films, "--output", out))
    assert code == 0, errors
    assert [row["source"] for row in rows_of(out)] == names
    assert "Traceback" not in errors and "ray" not in errors.lower()
    assert not [*out.glob("plans/*")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and two machines, as far as Ray can tell, on this one."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    made = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False,
                        "object_store_memory": 100 << 20},
    )  # fmt: skip
    yield made
    made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_kills_lose_no_row_and_double_none(tmp_path: Path, cluster: Any) -> None:
    """An actor, a machine of the cluster, or the driver is killed at a random moment, each time."""
    rng = random.Random(4)
    films, out = tmp_path / "films", tmp_path / "out"
    names = [str(p) for p in small_films(films, [f"{i:04}.png" for i in range(500)])]
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    nodes = [cluster.add_node(**node) for _ in range(2)]
    command = (films, "--output", out, "--ray", cluster.address)
    process = archive(*command)
    killed: list[str] = []
    for _ in range(int(os.environ.get("CXR_EDGE_KILLS", "3"))):
        what = ("machine", "actor", "driver")[len(killed) % 3]
        done = len([*out.glob("results/*/*.parquet")])
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len([*out.glob("results/*/*.parquet")]) > done:
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.0))
        if process.poll() is not None:  # all is done: begin again with more
            number = len(names)
            names += [str(p) for p in small_films(films, [f"{number + i:04}.png"
                                                          for i in range(250)])]  # fmt: skip
            process.communicate()
            process = archive(*command)
            continue
        if what == "machine":
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
            nodes.append(cluster.add_node(**node))
        elif what == "actor":
            found = subprocess.run(["pgrep", "-f", "ray::MapWorker"], capture_output=True,
                                   text=True, check=False).stdout.split()  # fmt: skip
            for pid in found[:1]:
                os.kill(int(pid), signal.SIGKILL)
        else:
            process.kill()
            process.communicate()
            process = archive(*command)
        killed.append(what)
    code, errors = finished(process)
    if code:
        code, errors = finished(archive(*command))
    assert code == 0, errors
    code, errors = finished(archive(*command))
    assert code == 0, errors
    assert [row["source"] for row in rows_of(out)] == names, killed
    assert killed


def test_report(tmp_path: Path, cxr_edge: Run) -> None:
    """Groups that differ are marked, those that do not are not; the worklist leaves reports out."""
    from edge_runtime.archive.folder import ArchiveFolder
    from tests.edge_runtime.archive.made_up import made_up_rows

    out = tmp_path / "out"
    folder = ArchiveFolder(str(out))
    folder.begin({"model_sha256": "ab" * 32, "engine": "litert 2", "operating_point": "triage",
                  "thresholds": [[None, 0.5]], "site": None}, ())  # fmt: skip
    rows = made_up_rows(4000, seed=1)
    for part, origin in enumerate(("huye", "kigali")):
        own = [{k: v for k, v in row.items() if k != "origin"}
               for row in rows if row["origin"] == origin]  # fmt: skip
        folder.commit(folder.result_path(origin, "20260101T000000-0000", part), own, ())
    folder.end()
    positives = sorted((r for r in rows if r["decision"] == "pneumonia"),
                       key=lambda r: (-r["probability"], r["source"]))  # fmt: skip
    reported = tmp_path / "reported.txt"
    reported.write_text(f"{positives[0]['source']}\n{positives[1]['sha256']}\nunknown\n")
    page, worklist = tmp_path / "page.html", tmp_path / "list.csv"
    found = cxr_edge("archive", "report", out, "--output", page, "--worklist", worklist,
                     "--reported", reported, "--json", "--most", 50)  # fmt: skip
    assert found.returncode == 0, found.stderr
    answers = json.loads(found.stdout)
    assert answers["total"]["films"] == 4000 and answers["reported"] == 2
    differs = {group["name"] for groups in answers["groups"].values() for group in groups
               if group["differs"]}  # fmt: skip
    assert differs == {"ACME <b>OLD</b>", "ACME NEW"}, "one machine's scores are shifted"
    listed = worklist.read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in listed] == [r["source"] for r in positives[2:52]]
    text = page.read_text()
    assert (
        "<b>OLD" not in text
        and "Unlike the others" in text
        and "http:" not in text
        and "https:" not in text
    )
    assert page.stat().st_mode & 0o077 == 0
    assert cxr_edge("archive", "report", tmp_path / "none").returncode == 2
    spoken = cxr_edge("archive", "report", out, "--lang", "fr", "--output", page)
    assert spoken.returncode == 0 and "À regarder" in page.read_text()
