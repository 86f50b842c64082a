"""Two runs on the same films: paired, by source, without films that either learned from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.statistics.metrics import auc_difference
from tests.conftest import workbench
from train.data.dataset import Sample
from train.evaluate.compare import _counted, compare_runs
from train.run.scores import CORRUPTED, PLAIN, Scores, write_scores

KINDS = {"ward": ("normal", "pneumonia"), "clinic": ("pneumonia",)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    rows = ["path,finding,patient,source,age"]
    for source, kinds in KINDS.items():
        (folder / source).mkdir()
        for i in range(60):
            kind = kinds[i % len(kinds)]
            film = phantom_jpeg(1000 + i, kind != "normal", 90, 100 + i % 9)
            (folder / source / f"{i}.jpeg").write_bytes(film)
            rows.append(f"{source}/{i}.jpeg,{kind},{source}-{i},{source},{5 if i < 30 else 50}")
    (folder / "films.csv").write_text("\n".join(rows))
    return folder / "films.csv"


def scored(smoke_run: Path, folder: Path, noise: float) -> tuple[Path, np.ndarray, np.ndarray]:
    """A run whose scores of the films are told; its truth and logits."""
    shutil.copytree(smoke_run, folder)
    samples = tuple(
        Sample(f"{source}/{i}.jpeg", kinds[i % len(kinds)], f"{source}-{i}")
        for source, kinds in KINDS.items()
        for i in range(60)
    )
    truth = np.array([s.kind != "normal" for s in samples])
    rng = np.random.default_rng(int(10 * noise))
    logits = truth * 2.0 - 1 + noise * rng.standard_normal(len(samples))
    split = json.loads((folder / "splits.json").read_text())
    split["validation"] = [dataclasses.asdict(sample) for sample in samples]
    (folder / "splits.json").write_text(json.dumps(split))
    for name in (PLAIN, CORRUPTED):
        write_scores(folder / name, Scores(samples, logits[:, np.newaxis]))
    return folder, truth, logits


def test_differences_are_paired_and_by_source(smoke_run: Path, table: Path, tmp_path: Path) -> None:
    a, truth, good = scored(smoke_run, tmp_path / "a", 0.8)
    b, _, bad = scored(smoke_run, tmp_path / "b", 4.0)
    compared = compare_runs(a, b, [table])
    rows = {(r.part, r.source, r.within): r for r in compared.ranked}
    ward = rows["validation", "ward", False]
    expected = auc_difference(truth[:60], good[:60], bad[:60])
    assert (ward.positives, ward.normals) == (30, 30)
    assert ward.difference == expected and expected.high < 0
    assert ward.a == pytest.approx(roc_auc_score(truth[:60], good[:60]), abs=1e-6)
    assert rows["validation", "all", False].positives == 90
    clinic = rows["validation", "clinic, normal ones elsewhere", True]
    assert (clinic.positives, clinic.normals) == (60, 30)
    # Facts of the files are of the plain films alone.
    assert {part for part, _, within in rows if within} == {"validation"}
    assert {r.part for r in compared.right} == {"validation", "corrupted", "both"}
    for row in compared.right:
        assert 0 < row.b < row.a <= row.films
        assert row.difference.low < row.difference.value == row.b - row.a < row.difference.high
    total = {r.part: r for r in compared.right if r.population == "any"}
    assert total["both"].a == total["validation"].a + total["corrupted"].a
    assert total["both"].films == 2 * total["validation"].films
    # The other way round everything turns its sign.
    back = {(r.part, r.source, r.within): r for r in compare_runs(b, a, [table]).ranked}
    for key, row in rows.items():
        assert back[key].difference.difference == pytest.approx(-row.difference.difference)


def test_films_that_either_learned_from_do_not_count(
    smoke_run: Path, table: Path, tmp_path: Path
) -> None:
    a, _, _ = scored(smoke_run, tmp_path / "a", 0.8)
    b, _, _ = scored(smoke_run, tmp_path / "b", 4.0)
    split = json.loads((b / "splits.json").read_text())
    split["train"] += [
        {"path": f"ward/{i}.jpeg", "kind": "normal", "patient": f"ward-{i}"}
        for i in range(0, 20, 2)
    ]
    (b / "splits.json").write_text(json.dumps(split))
    for one, other in ((a, b), (b, a)):
        found = {(r.part, r.source): r for r in compare_runs(one, other, [table]).ranked}
        assert found["validation", "ward"].normals == 20
        assert found["validation", "ward"].positives == 30


def test_copies_that_were_spoilt_at_other_sizes_are_not_compared(
    smoke_run: Path, table: Path, tmp_path: Path
) -> None:
    a, _, _ = scored(smoke_run, tmp_path / "a", 0.8)
    b, _, _ = scored(smoke_run, tmp_path / "b", 4.0)
    description = json.loads((b / "run.json").read_text())
    description["recipe"]["input"]["height"] //= 2
    (b / "run.json").write_text(json.dumps(description))
    assert {r.part for r in compare_runs(a, b, [table]).ranked} == {"validation"}
    # But of a student they were made at its teachers' size.
    own = json.loads((a / "run.json").read_text())["recipe"]["input"]
    description["recipe"]["distillation"] = {
        "teachers": ["x"], "weight": 0.5, "size": [own["height"], own["width"]],
    }  # fmt: skip
    (b / "run.json").write_text(json.dumps(description))
    assert {r.part for r in compare_runs(a, b, [table]).ranked} == {"validation", "corrupted"}


def test_what_cannot_be_compared_is_refused(smoke_run: Path, table: Path, tmp_path: Path) -> None:
    a, _, _ = scored(smoke_run, tmp_path / "a", 0.8)
    with pytest.raises(InvalidValueError, match="not in the data"):
        compare_runs(smoke_run, smoke_run, [table])  # drawings
    with pytest.raises(InvalidValueError, match=r"scores\.csv"):
        compare_runs(a, a, [table], test=True)
    with pytest.raises(InvalidValueError, match="no validation films in common"):
        compare_runs(a, smoke_run, [table])


def test_the_command_writes_its_tables(smoke_run: Path, table: Path, tmp_path: Path) -> None:
    a, _, _ = scored(smoke_run, tmp_path / "a", 0.8)
    b, _, _ = scored(smoke_run, tmp_path / "b", 4.0)
    done = workbench("train", "compare", a, b, "--data", table, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "out" / "compare.md").read_text()
    assert written.strip() in done.stdout and "right at `balanced`" in written
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert document["schema"] == "cxr-edge/compared-runs/1" and document["ranked"]


def test_right_films_are_paired_by_patient() -> None:
    rng = np.random.default_rng(1)
    patients = [f"p{i // 3}" for i in range(3000)]
    # Whether a patient's films are right hangs together, for a and for b.
    hard = np.repeat(rng.random(1000) < 0.2, 3)
    is_right = np.array([~(hard & (rng.random(3000) < 0.5)), ~(hard & (rng.random(3000) < 0.6))])
    found = _counted("validation", "any", patients, is_right)
    gains = (is_right[1].astype(int) - is_right[0]).reshape(1000, 3).sum(axis=1)
    assert found.difference.value == gains.sum() == found.b - found.a
    drawn = [gains[rng.integers(0, 1000, 1000)].sum() for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.difference.low == pytest.approx(low, abs=5)
    assert found.difference.high == pytest.approx(high, abs=5)
    same = _counted("test", "any", ["a", "b"], np.ones((2, 2), bool))
    assert (same.difference.low, same.difference.high) == (0, 0)
