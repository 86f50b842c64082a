"""A report of a large folder: memory does not grow with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT

if not Path("/proc/self/status").exists():
    pytest.skip("peak memory is read from /proc", allow_module_level=True)


def peak(folder: Path, report: Path, count: int) -> float:
    program = (
        "import re, sys\n"
        "from edge_runtime.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())\n"
        "print(peak[1], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    paths = "\n".join(str(folder / f"{i % 20}.jpeg") for i in range(count))
    done = subprocess.run(
        [sys.executable, "-c", program, "screen", "-", "--force", "--bundle", "tiny", "--output",
         report.with_suffix(".jsonl"), "--format", "jsonl", "--report", report],
        input=paths, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\d+)$", done.stderr, re.MULTILINE)
    return int(found[-1]) / 1024


def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.jpeg").write_bytes(phantom_jpeg(i, bool(i % 2), 200, 220))
    few = peak(tmp_path, tmp_path / "few.html", 300)
    many = peak(tmp_path, tmp_path / "many.html", 1000)
    assert many < few + 15
    assert (tmp_path / "many-4.html").exists()
