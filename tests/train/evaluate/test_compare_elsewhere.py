"""Two runs on sources that neither learned from: the pictures of `elsewhere`, paired."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.statistics.metrics import auc_difference
from train.evaluate import compare_elsewhere as module
from train.evaluate.compare import Compared, markdown
from train.evaluate.compare_elsewhere import compare_elsewhere
from train.evaluate.elsewhere import measure_elsewhere
from train.run.finished import FinishedRun, open_run
from train.unseen import mean_auc


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    rows = ["path,finding,patient,source,view,age"]
    for source, views in (("ward", ("AP", "PA")), ("clinic", ("AP",)), ("known", ("PA",))):
        for i in range(100):
            finding = ("normal", "opacity")[i // 2 % 2]
            picture = phantom_jpeg(5000 + i, finding != "normal", 90, 100 + i % 9)
            (folder / f"{source}{i}.jpeg").write_bytes(picture)
            view = views[i % len(views)]
            rows.append(f"{source}{i}.jpeg,{finding},{source}-{i // 2},{source},{view},{i}")
    (folder / "films.csv").write_text("\n".join(rows))
    return folder / "films.csv"


def test_a_run_against_itself_is_what_elsewhere_says(
    smoke_run: Path, table: Path, tmp_path: Path
) -> None:
    run = open_run(smoke_run)
    found = compare_elsewhere((run, run), [table], ["ward", "clinic"])
    told = measure_elsewhere(smoke_run, [table], tmp_path, sources=["ward", "clinic"])
    assert found.films == 200
    assert found.a == found.b == pytest.approx(mean_auc(told.comparisons))
    assert (found.difference.difference, found.difference.p_value) == (0, 1)
    told = dataclasses.replace(told, comparisons=[c for c in told.comparisons if not c.age])
    plain = {(p.source, p.view): p.a for p in found.pairs if not p.within}
    within = {(p.source, p.view): p.a for p in found.pairs if p.within}
    assert plain == {(c.source, c.view): pytest.approx(c.auc.value) for c in told.comparisons}
    assert within == {
        (c.source, c.view): pytest.approx(c.adjusted_auc.value)
        for c in told.comparisons
        if c.adjusted_auc
    }


def test_differences_are_paired_and_the_mean_is_of_the_sources(
    smoke_run: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = (open_run(smoke_run), dataclasses.replace(open_run(smoke_run), folder=table.parent))
    kept: dict[Path, NDArray[np.float64]] = {}
    truth = np.array([i // 2 % 2 for _ in range(3) for i in range(100)])

    def said(run: FinishedRun, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        noise = 0.7 if run is runs[0] else 2.5
        rng = np.random.default_rng(3)
        kept[run.folder] = truth + noise * rng.standard_normal(len(pixels))
        return kept[run.folder]

    monkeypatch.setattr(module, "disease_logits", said)
    found = compare_elsewhere(runs, [table], ["ward", "clinic"])
    a, b = kept.values()
    clinic = next(p for p in found.pairs if p.source == "clinic" and not p.within)
    # Films are in the table's order: ward, clinic, known.
    assert clinic.difference == auc_difference(truth[100:200], a[100:200], b[100:200])
    assert found.a > found.b and found.difference.difference == pytest.approx(found.b - found.a)
    assert found.difference.low < found.difference.difference < found.difference.high < 0
    back = compare_elsewhere((runs[1], runs[0]), [table], ["ward", "clinic"])
    assert back.difference.low == pytest.approx(-found.difference.high)
    page = markdown(Compared("", "a", "b", (), (), found))
    assert f"a {found.a:.4f}, b {found.b:.4f}" in page and page.count("| ward |") == 6


def test_a_source_that_a_run_knows_is_refused(smoke_run: Path, table: Path, tmp_path: Path) -> None:
    knows = tmp_path / "knows"
    shutil.copytree(smoke_run, knows)
    split = json.loads((knows / "splits.json").read_text())
    split["train"].append({"path": "known1.jpeg", "kind": "normal", "patient": "known-0"})
    (knows / "splits.json").write_text(json.dumps(split))
    runs = (open_run(smoke_run), open_run(knows))
    with pytest.raises(InvalidValueError, match="2 films of known are of patients"):
        compare_elsewhere(runs, [table], ["known"])
    with pytest.raises(InvalidValueError, match="no films of nowhere"):
        compare_elsewhere(runs, [table], ["nowhere"])
