"""Evaluation: figures that other libraries confirm, kept scores, a page that opens offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from edge_runtime import __version__
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.judge.calibration import choose_operating_points
from tests.conftest import workbench
from train.data.dataset import Sample, Split
from train.evaluate.counterfactual import measure_counterfactuals
from train.evaluate.figures import evaluate
from train.evaluate.probes import measure_detail
from train.recipe import load_recipe
from train.run.finished import FinishedRun
from train.run.scores import Scores, read_scores, write_scores


def scores(count: int, seed: int, separation: float) -> Scores:
    rng = np.random.default_rng(seed)
    kinds = ["normal", "bacterial", "normal", "viral"] * (count // 4)
    logits = np.array([rng.normal(separation * (k != "normal"), 1) for k in kinds])[:, None]
    samples = tuple(Sample(f"{i}.jpeg", kind, f"p{i // 2}") for i, kind in enumerate(kinds))
    return Scores(samples, logits)


def test_figures_agree_with_scikit_learn() -> None:
    run = FinishedRun(
        Path(),
        {"weights": {"source": "none"}},
        load_recipe("smoke"),
        Split((), ()),
        scores(400, 1, 3.0),
    )
    test = scores(200, 2, 2.0)
    e = evaluate(run, test, "test", 5)
    probability = 1 / (1 + np.exp(-test.logits[:, 0] / e.temperature))
    positive = test.positive
    assert e.auc.value == pytest.approx(reference.roc_auc_score(positive, probability))
    assert e.average_precision.value == pytest.approx(
        reference.average_precision_score(positive, probability)
    )
    assert e.loss.value == pytest.approx(reference.log_loss(positive, probability))
    assert e.brier.value == pytest.approx(reference.brier_score_loss(positive, probability))
    median = float(np.median(probability[positive == 0]))
    assert e.median_probability["normal"] == pytest.approx(median, abs=1e-4)
    assert e.median_probability["viral"] > median
    assert e.images == {"bacterial": 50, "normal": 100, "viral": 50}
    for point in e.points:
        called = probability >= point.threshold
        assert point.f1.value == pytest.approx(reference.f1_score(positive, called))
        assert point.precision.value == pytest.approx(reference.precision_score(positive, called))
        assert point.true_positive + point.false_negative == 100
        kinds = point.sensitivity_by_kind
        assert (kinds["bacterial"].value + kinds["viral"].value) / 2 == point.sensitivity.value
    for estimate in (e.auc, e.loss, e.brier, e.expected_calibration_error, *e.auc_by_kind.values()):
        assert estimate.low < estimate.value < estimate.high
    fpr, tpr, _ = reference.roc_curve(positive, probability, drop_intermediate=False)
    assert e.specificity_at_sensitivity_0_989 == pytest.approx(1 - fpr[tpr >= 0.989].min())


def test_triage_is_certain_only_outside_its_band() -> None:
    validation = scores(400, 1, 3.0)
    points = {
        p.name: p
        for p in choose_operating_points(validation.logits[:, 0], validation.positive, 1.0)
    }
    low, high = points["triage"].uncertain or (0, 0)
    assert low == points["screening"].threshold < points["balanced"].threshold <= high
    probability = 1 / (1 + np.exp(-validation.logits[:, 0]))
    normal = probability[validation.positive == 0]
    assert (normal < high).mean() >= 0.98
    assert points["screening"].uncertain is None and points["balanced"].uncertain is None


def test_a_model_that_separates_nothing_has_points_all_the_same() -> None:
    positive = np.array([0, 1] * 10)
    for point in choose_operating_points(np.full(20, 0.3), positive, 1.0):
        assert (point.sensitivity.value, point.specificity.value) == (1.0, 0.0)


def test_scores_are_read_as_written(tmp_path: Path) -> None:
    written = scores(8, 3, 1.0)
    write_scores(tmp_path / "s.csv", written)
    read = read_scores(tmp_path / "s.csv")
    assert [(s.path, s.kind) for s in read.samples] == [(s.path, s.kind) for s in written.samples]
    np.testing.assert_allclose(read.logits, written.logits, atol=1e-6)


def test_a_model_that_reads_the_frame_is_caught() -> None:
    """Bright corner = pneumonia; the middle of the image tells nothing."""
    rng = np.random.default_rng(0)
    positive = np.arange(60) % 2
    pixels = rng.integers(80, 120, (60, 64, 64, 1)).astype(np.uint8)
    pixels[positive == 1, :6, :6] = 250

    def reads_the_corner(images: np.ndarray, training: bool) -> np.ndarray:
        return images[:, :3, :3].mean(axis=(1, 2)) / 50 - 3

    found = {
        c.swapped: c for c in measure_counterfactuals(reads_the_corner, pixels, positive, "sigmoid")
    }
    assert found["frame"].own_class.value > 0.99
    assert found["frame"].other_class.value < 0.1


def test_detail_that_misleads_is_seen() -> None:
    """A model that takes fine noise for health, and noise where there is disease."""
    rng = np.random.default_rng(0)
    positive = np.arange(60) % 2
    pixels = np.full((60, 64, 64, 1), 100.0) + 30 * positive[:, None, None, None]
    pixels[positive == 1] += rng.normal(0, 30, (30, 64, 64, 1))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)

    def distrusts_noise(images: np.ndarray, training: bool) -> np.ndarray:
        noise = np.abs(np.diff(images, axis=1)).mean(axis=(1, 2))
        return images.mean(axis=(1, 2)) / 10 - noise / 5

    found = measure_detail(distrusts_noise, pixels, positive, "sigmoid")
    assert found["64 px"].value < 0.1
    assert found["24 px"].value > 0.9


def test_evaluate_writes_figures_plots_and_a_page(smoke_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    data = tmp_path / "data"
    for i in range(24):
        folder = data / "test" / ("PNEUMONIA" if i % 2 else "NORMAL")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"person{i}_virus_1.jpeg" if i % 2 else f"IM-{i:04d}-0001.jpeg"
        (folder / name).write_bytes(phantom_jpeg(9000 + i, bool(i % 2)))
    command = ("train", "evaluate", run, "--data", data, "--part", "test")
    result = workbench(*command)
    assert result.returncode == 0, result.stderr
    assert "AUC" in result.stdout and "triage" in result.stdout
    output = run / "evaluation-test"
    document = json.loads((output / "evaluation.json").read_text(encoding="utf-8"))
    assert document["images"] == {"normal": 12, "viral": 12}
    for name in ("confusion.svg", "curves.svg", "calibration.svg", "learning.svg"):
        assert (output / name).stat().st_size > 1000
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "://" not in page and "<script" not in page
    # Redrawn from the kept scores: the images are not needed any more, the figures are the same.
    shutil.rmtree(data / "test" / "NORMAL")
    (output / "evaluation.json").unlink()
    scores_before = (output / "scores.csv").read_bytes()
    mistakes = page.count("data:image/jpeg")
    if not mistakes:
        assert workbench(*command).returncode == 0
        assert json.loads((output / "evaluation.json").read_text(encoding="utf-8")) == document
    assert (output / "scores.csv").read_bytes() == scores_before
    # Three answers, of every film.
    triage = next(p for p in document["points"] if p["name"] == "triage")
    assert [sum(row) for row in triage["answers"]] == [12, 12]
    assert sum(row[1] for row in triage["answers"]) == triage["uncertain"]
    # That the test part was read stands in the run; redrawing is no reading.
    readings = json.loads((run / "readings.json").read_text(encoding="utf-8"))
    assert [reading["version"] for reading in readings] == [__version__]
    assert "nothing was chosen on this part" in page


def test_evaluate_on_validation_tells_what_the_model_leans_on(
    smoke_run: Path, tmp_path: Path
) -> None:
    result = workbench("train", "evaluate", smoke_run, "--part", "validation", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert [c["swapped"] for c in document["counterfactuals"]] == [
        "grey levels", "amplitude spectrum", "frame",
    ]  # fmt: skip
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "chosen on these very films" in page and "nothing was chosen" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "not a run folder"),
        (["RUN", "--part", "test"], "needs --data"),
        (["RUN", "--part", "test", "--data", "x"], "NORMAL"),
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str], said: str, smoke_run: Path, tmp_path: Path
) -> None:
    arguments = [str(smoke_run) if a == "RUN" else a for a in arguments]
    result = workbench("train", "evaluate", *arguments, "--output", tmp_path)
    assert result.returncode == 2 and said in result.stderr
