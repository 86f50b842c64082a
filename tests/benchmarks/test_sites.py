"""Sources taken for sites: what is drawn, what is judged, and confounders that are put in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.sites import confounders
from benchmarks.sites.adaptation import run_adaptation
from benchmarks.sites.confounders import SIDE, run_confounders
from edge_runtime.images.phantom import draw_film


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of which the ill have a bright square on the left, the others on the right.

    The other way round the shipped models know half of it already, and have less to gain.
    """
    folder = tmp_path_factory.mktemp("sites")
    with open(folder / "films.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "patient", "view", "finding"])
        for i in range(120):
            pixels = np.asarray(draw_film(i, False), np.float64).copy()
            height, width = pixels.shape
            left = width // 8 if i % 2 else width * 5 // 8
            pixels[height // 2 : height * 3 // 4, left : left + width // 4] += 70
            buffer = io.BytesIO()
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
            (folder / f"{i}.jpg").write_bytes(buffer.getvalue())
            finding = "opacity" if i % 2 else "normal"
            writer.writerow([f"{i}.jpg", "here", f"p{i}", "AP" if i % 4 < 2 else "PA", finding])
    return folder / "films.csv"


def test_a_site_is_drawn_adapted_to_and_judged_on_others(table: Path, tmp_path: Path) -> None:
    result = run_adaptation(
        "tiny", table, tmp_path, "here", ["opacity"], wanted=60, draws=3, balance_views=True
    )
    assert len(result.draws) == 3 and result.films <= 120
    for draw in result.draws:
        assert draw.films == 60 and draw.before is not None and draw.after is not None
        assert draw.after > draw.before + 0.3 and not draw.lost
    page = (tmp_path / "adaptation.md").read_text()
    assert "| believed |" in page and "0 of 3" in page
    flipped = run_adaptation(
        "tiny", table, tmp_path, "here", ["opacity"], wanted=60, draws=2, flip=0.5
    )
    # Labels of a coin: what was learned of them is worth nothing elsewhere, and is not believed.
    assert all(draw.refusal for draw in flipped.draws)


def test_what_follows_a_coin_is_seen_and_a_side_is_no_confounder(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confounders, "STRENGTHS", (0.5, 1.0))
    kept = {k: v for k, v in confounders.CONFOUNDERS.items() if k in ("JPEG quality", SIDE)}
    monkeypatch.setattr(confounders, "CONFOUNDERS", kept)
    result = run_confounders("tiny", table, tmp_path, "here", ["opacity"], wanted=80, draws=3)
    found = {(c.confounder, c.strength): c for c in result.cells}
    assert found["JPEG quality", 1.0].telling == 1 and found["JPEG quality", 1.0].believed == 0
    assert found["JPEG quality", 1.0].named == 1
    assert found["JPEG quality", 0.5].believed == 0
    assert found[SIDE, 1.0].gain > found[SIDE, 0.5].gain
    assert "| JPEG quality |" in (tmp_path / "confounders.md").read_text()
