"""The drawing of the import graph is of this very code."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT


def test_the_drawing_of_the_imports_is_of_this_code() -> None:
    drawn = subprocess.run(
        [sys.executable, "docs/draw_imports.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [
        folder.name
        for package in ("edge_runtime", "train", "export", "benchmarks")
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").is_file()
    ]
    assert len(rooms) > 15
    assert [room for room in rooms if f"{room}/`" not in text] == []
