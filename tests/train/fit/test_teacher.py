"""Distillation: targets are mixed as stated, and a teacher that knows the validation is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from tests.conftest import workbench
from train.recipe import Distillation, load_recipe


def _recipe(run: Path, weight: float = 0.25):  # type: ignore[no-untyped-def]
    return dataclasses.replace(load_recipe("smoke"), distillation=Distillation((str(run),), weight))


def test_targets_are_labels_and_the_teachers_probabilities(smoke_run: Path) -> None:
    import keras

    from train.fit.teacher import Teacher

    recipe = _recipe(smoke_run)
    spec = recipe.input
    teacher = Teacher(recipe.distillation.teachers, recipe, ())
    model = keras.models.load_model(smoke_run / "model.keras", compile=False)
    rng = np.random.default_rng(1)
    batch = rng.integers(0, 256, (3, spec.height, spec.width, 1)).astype(np.float32)
    probability = 1 / (1 + np.exp(-np.asarray(model(batch, training=False))))
    target = np.array([[0.0], [1.0], [0.5]], np.float32)
    found = teacher.targets(batch, target)
    np.testing.assert_allclose(found, 0.75 * target + 0.25 * probability, rtol=1e-5)
    # A student of another size: the teacher sees its pixels at its own size.
    half = teacher.targets(batch[:, ::2, ::2], target)
    assert half.shape == target.shape and np.isfinite(half).all()


def test_a_teacher_that_learned_from_our_validation_is_refused(smoke_run: Path) -> None:
    from train.fit.teacher import Teacher

    split = json.loads((smoke_run / "splits.json").read_text(encoding="utf-8"))
    recipe = _recipe(smoke_run)
    runs = recipe.distillation.teachers
    with pytest.raises(InvalidValueError, match="learned from 1 patients"):
        Teacher(runs, recipe, {split["train"][0]["patient"]})
    Teacher(runs, recipe, {s["patient"] for s in split["validation"]})
    with pytest.raises(InvalidValueError, match="labels"):
        Teacher(runs, dataclasses.replace(recipe, network=load_recipe("three-class").network), ())
    with pytest.raises(InvalidValueError, match="not a run folder"):
        Teacher([str(smoke_run / "nowhere")], recipe, ())


def test_a_student_is_trained(smoke_run: Path, tmp_path: Path) -> None:
    result = workbench(
        *("train", "fit", "--recipe", "smoke", "--weights", "none", "--output", tmp_path / "run"),
        *("--set", f'distillation.teachers=["{smoke_run}"]', "--set", "optimisation.epochs=1"),
    )
    assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"]["distillation"]["teachers"] == [str(smoke_run)]
