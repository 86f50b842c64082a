"""Distillation: targets are mixed as stated, and a teacher that knows the validation is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import prepare_pixels
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


def test_a_teacher_judges_on_as_many_threads_as_it_is_given(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ai_edge_litert.interpreter as litert

    from edge_runtime.basics.processors import usable_processors
    from train.fit.teacher import Teacher

    real, given = litert.Interpreter, []

    def interpreter(num_threads: int, **options: object) -> object:
        given.append(num_threads)
        return real(num_threads=num_threads, **options)

    monkeypatch.setattr(litert, "Interpreter", interpreter)
    recipe = _recipe(smoke_run)
    batch = np.full((1, recipe.input.height, recipe.input.width, 1), 9, np.float32)
    found = [Teacher([str(smoke_run)], recipe, (), n).probabilities(batch) for n in (1, None)]
    assert given == [1, usable_processors()]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_smaller_teacher_sees_a_film_as_its_device_would(smoke_run: Path) -> None:
    import keras

    from train.data.arrays import reduced
    from train.fit.teacher import Teacher

    smoke = load_recipe("smoke").input
    twice = (2 * smoke.height, 2 * smoke.width)
    recipe = dataclasses.replace(
        _recipe(smoke_run), input=dataclasses.replace(smoke, height=twice[0], width=twice[1])
    )
    batch = np.random.default_rng(1).integers(0, 256, (3, *twice, 1)).astype(np.uint8)
    model = keras.models.load_model(smoke_run / "model.keras", compile=False)
    seen = reduced(batch, smoke).astype(np.float32)
    expected = 1 / (1 + np.exp(-np.asarray(model(seen, training=False))))
    teacher = Teacher(recipe.distillation.teachers, recipe, ())
    found = teacher.probabilities(batch.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_network_that_litert_has_no_kernels_for_judges_in_keras() -> None:
    import keras

    from train.fit.teacher import _Judge

    films = keras.Input((8, 8, 1))
    mean = keras.layers.GlobalAveragePooling2D()(films)
    model = keras.Model(films, keras.ops.erfinv(mean / 256))
    batch = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1)).astype(np.float32)
    expected = np.asarray(model(batch))
    judge = _Judge(model, 1)
    np.testing.assert_allclose(judge(batch), expected, rtol=1e-5)
    assert judge._run.__qualname__.startswith("_keras"), "LiteRT has learned it: take another layer"


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


def test_teachers_may_see_more_of_the_same_film(smoke_run: Path) -> None:
    from train.fit.batches import TrainingBatches
    from train.fit.teacher import Teacher

    spec = load_recipe("smoke").input
    small = dataclasses.replace(spec, height=spec.height // 2, width=spec.width // 2)
    recipe = dataclasses.replace(
        _recipe(smoke_run, 1.0),
        input=small,
        distillation=Distillation((str(smoke_run),), 1.0, (spec.height, spec.width)),
    )
    assert recipe.training_input == spec
    films = np.stack([draw_phantom(i, i % 2 == 1, spec.height, spec.width) for i in range(8)])
    labels, weight = np.zeros((8, 1), np.float32), np.ones(8, np.float32)
    seen: list[np.ndarray] = []

    class Watching(Teacher):
        def targets(self, batch, target):  # type: ignore[no-untyped-def]
            seen.append(batch)
            return super().targets(batch, target)

    teacher = Watching(recipe.distillation.teachers, recipe, ())
    recipe = dataclasses.replace(
        recipe, optimisation=dataclasses.replace(recipe.optimisation, batch_size=8)
    )
    batches = TrainingBatches(films[:, :, :, np.newaxis], labels, weight, recipe, 0, teacher)
    pixels, target, _ = batches[0]
    assert seen[0].shape == (8, spec.height, spec.width, 1)
    assert pixels.shape == (8, small.height, small.width, 1)
    for shown, student in zip(seen[0], pixels, strict=True):
        reduced = prepare_pixels(shown[:, :, 0].astype(np.uint8), small)
        np.testing.assert_array_equal(student, reduced)
    np.testing.assert_array_equal(target, teacher.targets(seen[0], labels))


def test_the_corrupted_copy_is_made_where_teachers_look() -> None:
    """Or blur and noise, which are in pixels, would spoil the same film more for a student."""
    from train.data.arrays import Arrays, corrupted_copy, reduced, split_data

    recipe = load_recipe("smoke", ["data.near_bits=0", "input.height=48", "input.width=48"])
    split, source = split_data(recipe, [])
    own = Arrays.load(recipe, source, split)
    taught = dataclasses.replace(recipe, distillation=Distillation(("x",), 1.0, (96, 96)))
    found = Arrays.load(taught, source, split)
    assert found.train.shape[1:3] == (96, 96)
    np.testing.assert_array_equal(found.validation, own.validation)
    large = source.pixels(split.validation, taught.training_input, "")
    copy = corrupted_copy(large)
    np.testing.assert_array_equal(found.corrupted, reduced(copy, recipe.input))
    assert found.corrupted.shape[1:3] == (48, 48)
    assert np.abs(found.corrupted.astype(int) - own.corrupted).max() > 20


@pytest.mark.parametrize(
    "settings",
    [("distillation.size=[64, 64]",), ('distillation.teachers=["x"]', "distillation.size=[8, 8]")],
)
def test_a_size_for_teachers_needs_teachers_and_is_no_smaller(settings: tuple[str, ...]) -> None:
    with pytest.raises(InvalidValueError, match=r"distillation\.size"):
        load_recipe("smoke", settings)


@pytest.mark.parametrize("larger", [[0, 0], [112, 112]])
def test_a_student_is_trained(smoke_run: Path, tmp_path: Path, larger: list[int]) -> None:
    result = workbench(
        *("train", "fit", "--recipe", "smoke", "--weights", "none", "--output", tmp_path / "run"),
        *("--set", f'distillation.teachers=["{smoke_run}"]', "--set", "optimisation.epochs=1"),
        *("--set", f"distillation.size={larger}"),
    )
    assert result.returncode == 0, result.stderr
    if any(larger):
        import keras

        model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
        spec = load_recipe("smoke").input
        assert model.input_shape[1:3] == (spec.height, spec.width)
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"]["distillation"]["teachers"] == [str(smoke_run)]
