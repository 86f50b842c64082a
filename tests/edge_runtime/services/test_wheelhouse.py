"""A wheelhouse installs with no network, here and on an emulated board, and then it screens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.emulation.boards import BOARDS, missing, prepare_board
from edge_runtime import Screener
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT
from tests.edge_runtime.services.conftest import no_network

_TAGS = [f"manylinux_2_{n}_aarch64" for n in (31, 28, 27, 26, 24, 17)] + ["manylinux2014_aarch64"]


def wheelhouse(platform: str, folder: Path) -> Path:
    command = [sys.executable, ROOT / "deploy" / "wheelhouse.py", platform, folder]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if platform == "x86_64":
        command += ["--python", python]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"the wheels cannot be downloaded: {made.stderr.strip()[-200:]}")
    return folder


def test_install_and_screen_without_a_network(tmp_path: Path) -> None:
    prefix = no_network()
    wheels = wheelhouse("x86_64", tmp_path / "wheels")
    image = tmp_path / "a.jpeg"
    image.write_bytes(phantom_jpeg(1, True))
    venv = tmp_path / "venv"
    subprocess.run([*prefix, sys.executable, "-m", "venv", venv], check=True)
    pip = [str(venv / "bin/pip"), "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    installed = subprocess.run(
        [*prefix, *pip, "cxr-edge"], capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    screened = subprocess.run(
        [*prefix, venv / "bin/cxr-edge", "screen", "--force", "--format", "jsonl", image],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert screened.returncode == 0, screened.stderr
    assert json.loads(screened.stdout)["status"] == "ok"
    judged = subprocess.run(
        [*prefix, venv / "bin/cxr-edge", "doctor"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout


@pytest.mark.slow
def test_on_an_emulated_board_without_a_network(tmp_path: Path) -> None:
    prefix = no_network()
    board = BOARDS["aarch64"]
    lacking = missing(board)
    if lacking:
        pytest.skip(lacking)
    try:
        home = prepare_board(board, ROOT / "build" / "emulation")
    except InvalidValueError as error:
        pytest.skip(f"cannot download the board's packages: {error}")
    wheels = wheelhouse("aarch64", tmp_path / "wheels")
    site = tmp_path / "site"
    command = [
        *prefix, sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links",
        str(wheels), "--target", str(site), "--only-binary=:all:", "--python-version=3.11",
        "--implementation=cp", "--abi=cp311", "--abi=none", *(f"--platform={t}" for t in _TAGS),
        "cxr-edge",
    ]  # fmt: skip
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    image = tmp_path / "a.jpeg"
    image.write_bytes(phantom_jpeg(1, True, 900, 1000))
    root = home / "root"
    screened = subprocess.run(
        [*prefix, board.qemu, "-cpu", board.cpu, "-L", root, root / "usr/bin/python3.11", "-m",
         "edge_runtime", "screen", "--force", "--format", "jsonl", image],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert screened.returncode == 0, screened.stderr
    found = json.loads(screened.stdout)
    here = json.loads(Screener.load(engine="litert", force=True).screen(str(image)).to_json())
    assert found["probability"] == here["probability"] and found["sha256"] == here["sha256"]
