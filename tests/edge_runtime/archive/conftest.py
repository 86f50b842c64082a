"""A small archive, and what screens it without Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.archive.folder import ArchiveFolder, made_with, new_run
from edge_runtime.archive.part import PartScreener, Task
from edge_runtime.archive.plan import Plan, make_plan
from edge_runtime.archive.sources import list_inputs, parse_source
from edge_runtime.archive.supervisor import Settings
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.screener import Screener

# Put before the screening process: what it does to films of some names, as a decoder might.
_POISON = """
import os, time
import edge_runtime.screener as screener
_examine = screener.Screener.examine
def examine(self, image, source=None, **options):
    name = str(source or image).rpartition("/")[2]
    log = os.environ.get("POISON_LOG")
    if "poison" in name or "hang" in name:
        if log:
            with open(log, "a") as file:
                file.write(name + "\\n")
        if "hang" in name:
            time.sleep(3600)
        os.kill(os.getpid(), 11)
    return _examine(self, image, source, **options)
screener.Screener.examine = examine
"""


@pytest.fixture
def poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Films with "poison" in their name kill what screens them, "hang" hangs; the tries."""
    folder = tmp_path / "poison"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_POISON)
    log = tmp_path / "poison.log"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("POISON_LOG", str(log))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    )
    return lambda: log.read_text().splitlines() if log.exists() else []


def small_films(folder: Path, names: Sequence[str]) -> list[Path]:
    """Small drawn films, quick to screen."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    made = []
    for number, name in enumerate(names):
        path = folder / name
        if len(drawn) < 4:
            Image.fromarray(draw_phantom(number, bool(number % 2), 240, 240)).save(path)
            drawn.append(path)
        else:
            shutil.copyfile(drawn[number % 4], path)
        made.append(path)
    return made


@pytest.fixture(scope="session")
def screener() -> Screener:
    return Screener.load("tiny", force=True, threads=1, parallel=2)


@pytest.fixture
def settings(screener: Screener) -> Settings:
    options = {"bundle": "tiny", "force": True}
    return Settings(options, (), made_with(screener.conditions), 20.0)


@pytest.fixture
def screen_here(settings: Settings) -> Callable[..., Plan]:
    """Plan and screen in this process, part after part, as the actors do."""

    def screen(output: str, *sources: str, check_content: bool = False,
               using: Settings = settings, parts: int | None = None) -> Plan:  # fmt: skip
        folder = ArchiveFolder(output)
        folder.begin(using.made_with, using.columns)
        try:
            folder.delete_plans()
            listed = list_inputs([parse_source(s) for s in sources],
                                 [folder.location] if folder.is_local else [])  # fmt: skip
            plan = make_plan(folder, new_run(), listed, 2, check_content)
            with actor(Task(folder.location, plan.run, using, 0o077)) as screener:
                for part in range(plan.parts if parts is None else parts):
                    (error,) = screener({"id": [part]})["error"]
                    assert not error, error
        finally:
            folder.end()
        return plan

    return screen


@contextlib.contextmanager
def actor(task: Task) -> Iterator[PartScreener]:
    before = os.umask(0o022)
    screener = PartScreener(task)
    try:
        yield screener
    finally:
        screener.close()
        os.umask(before)


def rows_of(output: object) -> list[dict[str, Any]]:
    """All rows of an archive, by source."""
    results = ArchiveFolder(str(output)).results()
    assert results is not None
    found: list[dict[str, Any]] = results.to_table().to_pylist()
    return sorted(found, key=lambda row: (row["source"], row["run"]))
