"""Where a map looks, against boxes and hulls: figures that follow by hand, and a run of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.evidence import on_boxes, on_sides
from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import workbench
from train.data.dataset import Sample
from train.data.judged import Judged
from train.data.table import Film


def judged(*boxes: tuple[float, float, float, float]) -> Judged:
    field = np.zeros((56, 56), bool)
    field[:, 28:] = True
    film = Film(Sample("a.png", "opacity", "a"), "ward")
    return Judged(film, np.zeros((8, 8, 1), np.uint8), field, boxes)


def test_hits_chance_and_shares() -> None:
    films = [judged((0.5, 0, 0.5, 0.5)), judged((0.0, 0.0, 0.25, 0.25))]
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 2], maps[0, 3, 0] = 3.0, 1.0  # the hottest cell lies in the box
    maps[1, 3, 3] = 2.0
    maps[1, 0, 0] = -5.0  # what argues against counts for nothing
    found = on_boxes("run", "whole", films, maps)
    assert found.hits.value == 0.5
    assert found.chance == pytest.approx((4 / 8 + 0 / 8) / 2)
    assert found.share == pytest.approx((3 / 4 + 0) / 2)
    assert found.area == pytest.approx((4 / 16 + 1 / 16) / 2)


def test_sides_and_the_favourite_cell() -> None:
    hull = np.zeros((56, 56), bool)
    hull[:28] = True
    maps = np.zeros((4, 4, 4))
    maps[:3, 1, 1], maps[3, 3, 3] = 2.0, 2.0
    found = on_sides("run", [hull] * 4, maps)
    assert (found.share, found.area) == (pytest.approx(3 / 4), pytest.approx(0.5))
    assert found.favourite.value == 0.75 and found.favourite_cell == (1, 1) and found.cells == 16


def test_a_run_and_its_pictures(smoke_run: Path, tmp_path: Path) -> None:
    rows = ["path,finding,patient,source,crop,boxes,same_film"]
    field = np.zeros((56, 56), bool)
    field[4:52, 4:52] = True
    for i in range(12):
        (tmp_path / f"{i}.jpeg").write_bytes(phantom_jpeg(i, True, 90, 100))
        crop, box = ("lungs", "0.2 0.2 0.4 0.4") if i % 2 else ("", "")
        same = "1.jpeg" if i == 0 else ""
        rows.append(f"{i}.jpeg,opacity,p{i},ward,{crop},{box},{same}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    names = np.array([f"{i}.jpeg" for i in range(12)])
    np.savez(tmp_path / "fields.npz", names=names, fields=[np.packbits(field)] * 12)
    np.savez(tmp_path / "sides.npz", names=names[::2], fields=[np.packbits(field)] * 6)
    done = workbench(
        "benchmarks", "evidence", smoke_run, "--data", tmp_path / "films.csv",
        "--fields", tmp_path / "fields.npz", "--sides", tmp_path / "sides.npz",
        "--output", tmp_path / "out", "--pictures", tmp_path / "pictures",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert [(b["films"], b["count"]) for b in found["boxes"]] == [("grafted", 6), ("whole", 1)]
    assert all(0 < b["area"] < 0.5 and 0 < b["chance"] < 0.6 for b in found["boxes"])
    assert found["sides"][0]["count"] == 6
    assert len(list((tmp_path / "pictures").iterdir())) == 2
