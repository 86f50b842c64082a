"""Adjusted AUC against its definition, and a run on films of two hospitals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.statistics.adjusted import adjusted_auc, adjusted_auc_interval, strata_of
from tests.conftest import workbench
from train.evaluate.elsewhere import measure_elsewhere


def drawn(count: int, seed: int, machine: float) -> tuple[np.ndarray, ...]:
    """Labels, scores that know the machine alone, and its fact, which tells the label."""
    rng = np.random.default_rng(seed)
    positive = rng.integers(0, 2, count)
    fact = positive * machine + rng.normal(size=count)
    return positive, fact + 0.1 * rng.normal(size=count), fact


def test_it_is_the_mean_of_the_strata_weighted_by_positives() -> None:
    positive, scores, fact = drawn(600, 1, 1.0)
    strata = strata_of(fact, positive)
    assert set(strata) == set(range(5))
    parts = [
        (positive[strata == s].sum(), roc_auc_score(positive[strata == s], scores[strata == s]))
        for s in range(5)
    ]
    expected = sum(n * a for n, a in parts) / sum(n for n, _ in parts)
    assert adjusted_auc(positive, scores, strata) == pytest.approx(expected)


def test_what_the_machine_tells_counts_for_little() -> None:
    positive, scores, fact = drawn(3000, 2, 2.0)
    strata = strata_of(fact, positive)
    assert roc_auc_score(positive, scores) > 0.9
    assert adjusted_auc(positive, scores, strata) < 0.7
    honest = scores + 3 * positive  # and what is seen in the lungs counts in full
    assert adjusted_auc(positive, honest, strata) > 0.95


def test_intervals_are_of_patients_and_hold_the_value() -> None:
    positive, scores, fact = drawn(300, 3, 1.0)
    strata = strata_of(fact, positive)
    alone = adjusted_auc_interval(positive, scores, strata, [str(i) for i in range(300)], 200)
    five = adjusted_auc_interval(positive, scores, strata, [str(i // 5) for i in range(300)], 200)
    assert alone.low < alone.value == five.value < alone.high
    # Every film twice tells no more than once.
    twice = adjusted_auc_interval(
        np.tile(positive, 2), np.tile(scores, 2), np.tile(strata, 2),
        [str(i) for i in range(300)] * 2, 200,
    )  # fmt: skip
    assert twice.high - twice.low > 0.8 * (alone.high - alone.low)


def test_strata_without_both_classes_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="both classes"):
        adjusted_auc(np.array([0, 0, 1, 1]), np.arange(4.0), np.array([0, 0, 1, 1]))


def test_a_run_elsewhere(smoke_run: Path, tmp_path: Path) -> None:
    rows = ["path,finding,patient,source,view,crop,age"]
    for source, views in (("ward", ("AP", "PA")), ("clinic", ("AP",))):
        (tmp_path / source).mkdir()
        for i in range(100):
            finding = ("normal", "opacity")[i // 2 % 2]
            picture = phantom_jpeg(5000 + i, finding != "normal", 90, 100 + i % 9)
            (tmp_path / source / f"{i}.jpeg").write_bytes(picture)
            # The clinic's patients are 10, 50 and, too few to say anything, 70 years old.
            age = "" if source == "ward" else (10, 50)[i % 2] if i < 90 else 70
            rows.append(
                f"{source}/{i}.jpeg,{finding},{source}{i},{source},{views[i % len(views)]},,{age}"
            )
    rows.append("clinic/cut.jpeg,normal,x,ward,AP,lungs,")
    (tmp_path / "clinic" / "cut.jpeg").write_bytes(phantom_jpeg(1, True, 90, 100))
    table = tmp_path / "films.csv"
    table.write_text("\n".join(rows))
    done = workbench("train", "elsewhere", smoke_run, "--data", table, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "elsewhere.json").read_text())
    assert (found["films"], found["left_out"]) == (200, 1)
    groups = [(c["source"], c["view"], c["age"], c["positives"]) for c in found["comparisons"]]
    assert groups == [
        ("clinic", "", "", 50), ("clinic", "", "under 18", 22), ("clinic", "", "18 to 64", 22),
        ("ward", "", "", 50), ("ward", "AP", "", 25), ("ward", "PA", "", 25),
    ]  # fmt: skip
    for c in found["comparisons"]:
        assert c["auc"]["value"] > 0.9 and c["adjusted_auc"]["value"] > 0.85
    called = {(c["source"], c["finding"], c["point"]): c for c in found["called"]}
    assert called["ward", "opacity", "balanced"]["share"]["value"] > 0.5
    assert "| clinic | any | any | opacity | 50 | normal | 50 |" in done.stdout


def test_patients_are_told_as_in_training(smoke_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    description = json.loads((run / "run.json").read_text())
    description["recipe"]["data"]["patient_pattern"] = r"(p\d+)_"
    (run / "run.json").write_text(json.dumps(description))
    splits = json.loads((run / "splits.json").read_text())
    splits["train"][0]["patient"] = "p7"
    (run / "splits.json").write_text(json.dumps(splits))
    rows = ["path,finding"]
    for i in range(60):
        name = f"p{i}_view1.jpeg"
        (tmp_path / name).write_bytes(phantom_jpeg(7000 + i, bool(i % 2), 90, 100))
        rows.append(f"{name},{('normal', 'opacity')[i % 2]}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    found = measure_elsewhere(run, [tmp_path / "films.csv"], tmp_path / "out")
    assert (found.films, found.left_out) == (59, 1)


def test_cut_lungs_are_judged_in_whole_films_and_one_class_against_others(
    smoke_run: Path, tmp_path: Path
) -> None:
    rows = ["path,finding,patient,source,crop"]
    for i in range(150):
        source, crop, finding = (
            ("whole", "", ("normal", "opacity")[i % 2]),
            ("cut", "lungs", ("normal", "opacity")[i // 3 % 2]),
            ("bedside", "", "covid"),
        )[i % 3]
        picture = phantom_jpeg(7000 + i, finding != "normal", 90, 100 + i % 9)
        (tmp_path / f"{i}.jpeg").write_bytes(picture)
        rows.append(f"{i}.jpeg,{finding},p{i},{source},{crop}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    field = np.zeros((56, 56), bool)
    field[4:52, 4:52] = True
    names = np.array([f"{i}.jpeg" for i in range(150)])
    np.savez(tmp_path / "fields.npz", names=names, fields=[np.packbits(field)] * 150)
    done = workbench(
        "train", "elsewhere", smoke_run, "--data", tmp_path / "films.csv",
        "--fields", tmp_path / "fields.npz", "--against", "covid", "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "elsewhere.json").read_text())
    groups = {(c["source"], c["finding"], c["against"]): c for c in found["comparisons"]}
    assert set(groups) == {
        ("bedside", "covid", "normal elsewhere"),
        ("cut", "opacity", "normal"),
        ("whole", "opacity", "normal"),
    }
    assert groups["bedside", "covid", "normal elsewhere"]["normals"] == 25
    assert groups["cut", "opacity", "normal"]["auc"]["value"] > 0.8
