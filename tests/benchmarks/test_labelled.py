"""Labelled films from a folder or a table: which, and which not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.labelled import read_labelled
from edge_runtime.errors import InvalidValueError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["path,finding,source,crop"]
    for i, (finding, source, crop) in enumerate(
        (finding, source, crop)
        for source in ("ward", "clinic")
        for finding in ("normal", "opacity", "other")
        for crop in ("", "lungs")
    ):
        (tmp_path / f"{i:02}.png").touch()
        rows.append(f"{i:02}.png,{finding},{source},{crop}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    return tmp_path / "films.csv"


def test_of_a_table_whole_films_of_the_wanted_sources_and_findings(table: Path) -> None:
    everything = read_labelled(table)
    assert [(f.name, f.positive) for f in everything] == [
        ("00.png", False), ("02.png", True), ("04.png", True),
        ("06.png", False), ("08.png", True), ("10.png", True),
    ]  # fmt: skip
    ward = read_labelled(table, ["ward"], ["opacity"])
    assert [(f.name, f.positive) for f in ward] == [("00.png", False), ("02.png", True)]
    assert all(f.path.is_file() for f in everything)


@pytest.mark.parametrize(
    ("sources", "findings"), [(["mars"], []), ([], ["pneumothorax"]), (["ward"], ["covid"])]
)
def test_one_class_is_refused(table: Path, sources: list[str], findings: list[str]) -> None:
    with pytest.raises(InvalidValueError, match="no normal films and others"):
        read_labelled(table, sources, findings)
