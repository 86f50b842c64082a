"""The scorecard: one command from runs to page, and the committed page is what it prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.pages.scorecard import read_reported, read_rows, scorecard
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import ROOT, workbench
from train.recipe import recipe_names


def test_from_runs_to_page(smoke_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    for part, negative in (("data/test", "NORMAL"), ("external", "NO_FINDING")):
        for i in range(24):
            folder = tmp_path / part / ("PNEUMONIA" if i % 2 else negative)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i:04d}_000.jpeg").write_bytes(phantom_jpeg(9000 + i, bool(i % 2)))
    page = tmp_path / "results.md"
    result = workbench(
        "benchmarks", "scorecard", run, "--data", tmp_path / "data",
        "--external", tmp_path / "external", "--output", page,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    text = page.read_text(encoding="utf-8")
    evaluation = run / "evaluation-test" / "evaluation.json"
    auc = json.loads(evaluation.read_text(encoding="utf-8"))["auc"]
    assert "| smoke | 1 | none (random) | " in text and f"{auc['value']:.4f}" in text
    assert "0.9528" in text, "what was reported stands beside it"
    # The page follows from the copies alone.
    page.unlink()
    assert workbench("benchmarks", "scorecard", "--output", page).returncode == 0
    assert page.read_text(encoding="utf-8") == text


def test_the_committed_page_is_what_the_command_prints() -> None:
    page = ROOT / "docs" / "results.md"
    assert page.read_text(encoding="utf-8") == scorecard(read_rows(ROOT / "docs/results/recipes"))


def test_every_system_has_a_recipe_that_exists() -> None:
    named = {recipe for system in read_reported() for recipe in system.recipes}
    assert named <= set(recipe_names())
    assert {system.name for system in read_reported()} >= set("ABCDE")


def test_no_evaluations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no evaluations"):
        read_rows(tmp_path)
