"""Links, pipes, devices and depths: a record for each, and the rest of the folder all the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.errors import BundleError, ErrorCode, ImageError
from edge_runtime.images.file import read_file
from edge_runtime.images.inputs import find_inputs
from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")


def test_a_link_that_leads_to_itself_is_one_entry(tmp_path: Path) -> None:
    for name in ("a.png", "z.png"):
        (tmp_path / name).touch()
    (tmp_path / "m").symlink_to(tmp_path / "n")
    (tmp_path / "n").symlink_to(tmp_path / "m")
    found = [os.path.basename(item.path) for item in find_inputs([str(tmp_path)])]
    assert found == ["a.png", "m", "n", "z.png"]
    with pytest.raises(ImageError) as caught:
        read_file(tmp_path / "m")
    assert caught.value.code == ErrorCode.UNREADABLE_FILE


def test_no_depth_is_too_deep_and_none_holds_descriptors(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("film.png", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    (tmp_path / "z.png").touch()
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from edge_runtime.images.inputs import find_inputs\n"
        "items = list(find_inputs([sys.argv[1]]))\n"
        "print(len(items), items[-1].path.endswith('z.png'), items[0].error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "True", "None"], done.stderr[-1000:]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # Python's own would recurse


def test_pipes_sockets_and_devices_have_records_and_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpeg").write_bytes(phantom_jpeg(1, True))
    os.mkfifo(tmp_path / "b.jpeg")
    (tmp_path / "c.jpeg").symlink_to("/dev/zero")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "d.jpeg"))
    (tmp_path / "e.jpeg").write_bytes(phantom_jpeg(2, False))
    if Path("/proc/kmsg").exists():
        (tmp_path / "f.jpeg").symlink_to("/proc/kmsg")  # a regular file, it says, that never ends
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "screen", tmp_path, "--format", "jsonl", "--force"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    listening.close()
    records = {Path(r["source"]).name: r for r in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1 and len(records) == len(list(tmp_path.iterdir()))
    assert [records[f"{name}.jpeg"]["status"] for name in "ae"] == ["ok", "ok"]
    for name in "bcd":
        assert records[f"{name}.jpeg"]["error"]["code"] == "unreadable_file"
        assert "not a regular file" in records[f"{name}.jpeg"]["error"]["message"]
    if "f.jpeg" in records:
        assert records["f.jpeg"]["status"] == "error"


def test_a_manifest_that_is_a_pipe_or_a_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match="not a regular file"):
        load_bundle(tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="not a regular file"):
        load_bundle(tmp_path)
