"""Batches that are made beforehand are those that a training makes for itself, and no others."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.images.preprocess import InputSpec
from tests.conftest import workbench
from tests.train.fit.test_mixed import SIDE, mixture, rectangle
from train.data.dataset import Split
from train.fit import store
from train.fit.render import _adopt, _render, _Renderer, _unless_ended
from train.fit.store import (
    BatchStore,
    batch_file,
    describe_store,
    judged_file,
    read_pixels,
    write_judged,
)
from train.recipe import Augmentation, Distillation, Recipe, load_recipe

SMALL = (32, 32)
POLICY = Augmentation(
    graft_whole=0.5, flip=0.5, rotation_degrees=10, gamma=(0.5, 2.0), histogram_swap=0.5
)


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    path = tmp_path / "fields.npz"
    names = [f"{source}/{i}.jpeg" for source in ("here", "there") for i in range(0, 40, 2)]
    packed = np.stack([np.packbits(rectangle().ravel())] * len(names))
    np.savez(path, names=np.array(names), fields=packed)
    return path


def recipe_of(**changes: object) -> Recipe:
    recipe = load_recipe("smoke")
    data = dataclasses.replace(recipe.data, steps=3)
    plan = dataclasses.replace(recipe.optimisation, head_epochs=0, epochs=2)
    recipe = dataclasses.replace(
        recipe, input=InputSpec(SIDE, SIDE), data=data, optimisation=plan, augmentation=POLICY
    )
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def rendered(recipe: Recipe, fields: Path, folder: Path):  # type: ignore[no-untyped-def]
    mixed = mixture(fields, POLICY)
    split = Split(tuple(film.sample for film in mixed.films), ())
    sizes = [(SIDE, SIDE), SMALL]
    describe_store(folder, recipe, {"fingerprint": "x"}, split, sizes)
    renderer = _Renderer(mixed, recipe, sizes, folder)
    for epoch in range(2):
        for index in range(3):
            renderer((epoch, index))
    return mixed


def test_they_are_the_batches_of_a_training_that_makes_its_own(
    tmp_path: Path, fields: Path
) -> None:
    pytest.importorskip("keras")
    from train.fit.batches import MixedBatches, RenderedBatches

    recipe, folder = recipe_of(), tmp_path / "batches"
    mixed = rendered(recipe, fields, folder)
    kept = BatchStore.open(folder, recipe)
    assert kept.data == {"fingerprint": "x", "batches_seed": recipe.seed}
    target = np.arange(len(mixed.films), dtype=np.float32)[:, np.newaxis]
    for epoch in range(2):
        own = MixedBatches(mixed, target, recipe, epoch, (4, 4))
        given = RenderedBatches(kept, target, recipe, epoch, (4, 4))
        assert len(own) == len(given) == 3
        for index in range(3):
            (pixels, targets), (also, those) = own[index], given[index]
            np.testing.assert_array_equal(pixels, also)
            assert set(targets) == set(those)
            for name in targets:
                np.testing.assert_array_equal(targets[name], those[name])
    # A smaller network sees the same films, reduced as its own training would.
    small = dataclasses.replace(
        recipe, input=InputSpec(*SMALL), distillation=Distillation(size=(SIDE, SIDE))
    )
    own = MixedBatches(mixed, target, small, 1, (2, 2))
    given = RenderedBatches(BatchStore.open(folder, small), target, small, 1, (2, 2))
    np.testing.assert_array_equal(own[2][0], given[2][0])
    assert given[2][0].shape[1:3] == SMALL


def test_what_teachers_said_is_part_of_the_target(tmp_path: Path, fields: Path) -> None:
    pytest.importorskip("keras")
    from train.fit.batches import RenderedBatches

    recipe = recipe_of(distillation=Distillation(("some/run",), 0.75))
    folder = tmp_path / "batches"
    mixed = rendered(recipe, fields, folder)
    said = np.linspace(0, 1, mixed.batch_size, dtype=np.float32)[:, np.newaxis]
    write_judged(judged_file(folder, 0, 1), said)
    kept, ones = BatchStore.open(folder, recipe), np.ones((len(mixed.films), 1), np.float32)
    _, targets = RenderedBatches(kept, ones, recipe, 0, (4, 4))[1]
    np.testing.assert_allclose(targets["logits"], 0.25 + 0.75 * said, rtol=1e-6)
    for weight in (0.0, 1.5, float("nan")):
        wrong = dataclasses.replace(recipe, distillation=Distillation(("some/run",), weight))
        with pytest.raises(InvalidValueError, match=r"distillation\.weight"):
            RenderedBatches(kept, ones, wrong, 0, (4, 4))
    # Who asks no teacher may learn from the same batches; who asks another may not.
    BatchStore.open(folder, recipe_of())
    with pytest.raises(InvalidValueError, match="another teachers"):
        BatchStore.open(folder, recipe_of(distillation=Distillation(("other/run",), 0.75)))


def test_batches_of_another_mixture_size_or_length_are_refused(
    tmp_path: Path, fields: Path
) -> None:
    recipe, folder = recipe_of(), tmp_path / "batches"
    rendered(recipe, fields, folder)
    with pytest.raises(InvalidValueError, match="another augmentation"):
        BatchStore.open(folder, recipe_of(augmentation=Augmentation()))
    with pytest.raises(InvalidValueError, match="no batches of 48 x 48 pixels"):
        BatchStore.open(folder, recipe_of(
            input=InputSpec(48, 48), distillation=Distillation(size=(SIDE, SIDE))
        ))  # fmt: skip
    longer = dataclasses.replace(recipe.optimisation, epochs=3)
    with pytest.raises(InvalidValueError, match="batches of 2 epochs"):
        BatchStore.open(folder, recipe_of(optimisation=longer))
    with pytest.raises(InvalidValueError, match="holds no batches"):
        BatchStore.open(tmp_path, recipe)
    with pytest.raises(InvalidValueError, match="holds other batches"):
        describe_store(folder, recipe_of(seed=99), {}, Split((), ()), [(SIDE, SIDE)])


def test_a_batch_that_does_not_come_or_is_damaged_is_named(
    tmp_path: Path, fields: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = recipe_of(), tmp_path / "batches"
    rendered(recipe, fields, folder)
    kept = BatchStore.open(folder, recipe)
    monkeypatch.setattr(store, "_PATIENCE", 0.1)
    with pytest.raises(InvalidValueError, match="is `train render` running"):
        kept.judged(0, 0)
    whole = batch_file(folder, 1, 1).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no archive"):
        batch_file(folder, 1, 1).write_bytes(content)
        with pytest.raises(InvalidValueError, match=r"001-0001\.npz is damaged"):
            kept.read(1, 1, SMALL)
        with pytest.raises(InvalidValueError, match=r"001-0001\.npz is damaged"):
            read_pixels(batch_file(folder, 1, 1), SMALL)
        judged_file(folder, 1, 1).write_bytes(content)
        with pytest.raises(InvalidValueError, match=r"001-0001-judged\.npz is damaged"):
            kept.judged(1, 1)
        (folder / "batches.json").write_bytes(content)
        with pytest.raises(InvalidValueError, match=r"batches\.json is damaged"):
            describe_store(folder, recipe, {}, Split((), ()), [SMALL])


RECIPE = """
base = "smoke"
name = "mixed"
description = "drawings of two hospitals"
[data]
source = "folder"
steps = 2
[[data.mix]]
sources = ["here", "there"]
images = 6
[optimisation]
head_epochs = 0
epochs = 1
average_last = 1
"""


@pytest.fixture
def options(tmp_path: Path) -> tuple[object, ...]:
    rows = ["path,finding,patient,source"]
    for i in range(80):
        (tmp_path / f"{i}.jpeg").write_bytes(phantom_jpeg(i, i % 2 == 1, 90, 100))
        source = ("here", "there")[i // 40]
        rows.append(f"{i}.jpeg,{('normal', 'pneumonia')[i % 2]},p{i},{source}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    (tmp_path / "mixed.toml").write_text(RECIPE)
    return "--recipe", tmp_path / "mixed.toml", "--data", tmp_path / "films.csv"


def test_two_trainings_share_what_was_rendered(tmp_path: Path, options: tuple[object, ...]) -> None:
    batches = tmp_path / "batches"
    render = ("train", "render", *options, "--workers", "2", "--output", batches)
    done = workbench(*render)
    assert done.returncode == 0 and "2 batches of 6 films" in done.stdout, done.stderr[-2000:]
    written = {file: file.stat().st_mtime_ns for file in batches.glob("*.npz")}
    assert len(written) == 2
    next(iter(written)).unlink()
    assert workbench(*render).returncode == 0  # makes what is missing, and nothing anew
    now = {file: file.stat().st_mtime_ns for file in batches.glob("*.npz")}
    assert set(now) == set(written) and sum(now[f] != written[f] for f in now) == 1
    for seed in ("1", "2"):
        fit = ("train", "fit", *options, "--weights", "none", "--batches", batches, "--seed", seed)
        done = workbench(*fit, "--output", tmp_path / seed)
        assert done.returncode == 0, done.stderr[-2000:]
        told = json.loads((tmp_path / seed / "run.json").read_text())["data"]
        assert told["batches_seed"] == load_recipe("smoke").seed
        assert sum(n for key, n in told["counts"].items()) == 80
    refused = workbench("train", "render", "--recipe", "smoke", *options[2:], "--output", batches)
    assert refused.returncode == 2 and "mixes no sources" in refused.stderr


def test_a_renderer_that_is_ended_is_no_endless_wait(
    tmp_path: Path, fields: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(self: object, place: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(_Renderer, "__call__", ended)
    renderer = _Renderer(mixture(fields, POLICY), recipe_of(), [SMALL], tmp_path)
    fork = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(2, fork, _adopt, (renderer,)) as pool,
        pytest.raises(InvalidValueError, match="most likely for want of memory"),
    ):
        list(_unless_ended(pool.map(_render, [(0, 0), (0, 1)])))


def test_on_pytorch(
    tmp_path: Path, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing to train on beside")
    batches, run = tmp_path / "batches", tmp_path / "run"
    assert workbench("train", "render", *options, "--output", batches).returncode == 0
    fit = ("train", "fit", *options, "--weights", "none", "--batches", batches, "--output", run)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    done = workbench(*fit)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "torch" in json.loads((run / "run.json").read_text())["versions"]
    assert (run / "model.keras").is_file()
