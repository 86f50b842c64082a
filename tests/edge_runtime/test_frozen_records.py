"""No change of ours changes a record, but by intention (tests/frozen_records.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frozen_records import ENGINES, FOLDER, of_drawings, of_radiographs


def kept(kind: str, engine: str) -> list[str]:
    return (FOLDER / f"{kind}-{engine}.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("engine", ENGINES)
def test_records_of_drawings_are_as_they_were(engine: str) -> None:
    found = list(of_drawings(engine))
    assert len(found) == 24
    assert found == kept("drawings", engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_records_of_50_radiographs_are_as_they_were(engine: str, data: Path) -> None:
    found = list(of_radiographs(engine, data))
    assert len(found) == 50
    assert found == kept("radiographs", engine)
