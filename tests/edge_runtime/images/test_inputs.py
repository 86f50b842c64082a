"""Paths to inputs: lazily, in a stable order, without ever stopping."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.errors import ErrorCode
from edge_runtime.images.inputs import find_inputs


def names(folder: Path) -> list[str]:
    return [os.path.relpath(item.path, folder) for item in find_inputs([str(folder)])]


def test_folders_are_walked_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a/z.png", "c.png", ".hidden/x.png", "Thumbs.db"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert names(tmp_path) == ["a/z.png", "b/1.png", "b/2.png", "c.png"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "real" / "1.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    # A broken link is an input whose record says so.
    assert names(tmp_path) == ["broken.png", "link.png", "real/1.png"]


def test_a_folder_that_cannot_be_read_has_its_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open.png").touch()
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = list(find_inputs([str(tmp_path)]))
    assert [os.path.basename(i.path) for i in found] == ["closed", "open.png"]
    assert found[0].error is not None and found[0].error.code == ErrorCode.UNREADABLE_FILE


def test_a_mount_that_vanishes_in_the_middle_is_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.png").touch()

    class Vanishing:
        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            def entries() -> Iterator[os.DirEntry[str]]:
                with real(tmp_path) as found:
                    yield from found
                raise OSError(5, "Input/output error")

            return entries()

        def __exit__(self, *error: object) -> None:
            return None

    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: Vanishing())
    found = list(find_inputs([str(tmp_path)]))
    assert found[-1].error is not None and "Input/output error" in str(found[-1].error)


_HUGE = 300_000  # entries; held as a whole they would take 100 MB


def test_a_huge_folder_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, number: int) -> None:
            self.name = f"{number:07}.png"
            self.path = f"{tmp_path}/{self.name}"

        def is_dir(self, follow_symlinks: bool = True) -> bool:
            return False

    class Listing:
        def __enter__(self) -> Iterator[Entry]:
            return (Entry(n) for n in range(_HUGE))

        def __exit__(self, *error: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", lambda path: Listing())
    tracemalloc.start()
    count = sum(1 for _ in find_inputs([str(tmp_path)]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == _HUGE
    assert peak < 20_000_000
