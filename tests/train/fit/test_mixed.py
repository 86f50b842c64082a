"""Training on films of several hospitals: what a batch holds, what the map is taught, resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom, phantom_jpeg
from edge_runtime.images.preprocess import InputSpec
from tests.conftest import workbench
from train.data.arrays import Arrays, split_data
from train.data.dataset import Sample
from train.data.fields import Fields
from train.data.graft import FIELD_SIDE
from train.data.mixture import Mixture, Rendered, cells, put_right
from train.data.table import Film
from train.recipe import Augmentation, Data, Share, load_recipe

SIDE = 64


def rectangle() -> np.ndarray:
    field = np.zeros((FIELD_SIDE, FIELD_SIDE), bool)
    field[10:46, 8:48] = True
    return field


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    path = tmp_path / "fields.npz"
    names = [f"{source}/{i}.jpeg" for source in ("here", "there", "cut") for i in range(40)]
    packed = np.stack([np.packbits(rectangle().ravel())] * len(names))
    np.savez(path, names=np.array(names), fields=packed)
    return path


def films(**changes: object) -> list[Film]:
    found = [
        Film(Sample(f"{source}/{i}.jpeg", "pneumonia" if i % 4 == 0 else "normal", f"{source}{i}"),
             source)
        for source in ("here", "there") for i in range(40)
    ]  # fmt: skip
    return [dataclasses.replace(film, **changes) for film in found]  # type: ignore[arg-type]


def mixture(fields: Path, policy: Augmentation, *extra: Film) -> Mixture:
    every = [*films(), *extra]
    pixels = np.stack(
        [draw_phantom(i, f.sample.kind != "normal", SIDE, SIDE) for i, f in enumerate(every)]
    )[..., np.newaxis]
    put_right(pixels, every)
    shares = (Share(("here",), 6), Share(("there", "cut"), 2))
    return Mixture(pixels, every, Fields([fields]), shares, policy)


def test_a_batch_has_its_shares_and_kinds_have_the_same_chance(fields: Path) -> None:
    mixed = mixture(fields, Augmentation())
    assert mixed.batch_size == 8
    drawn = [mixed.draw(np.random.default_rng((1, i))) for i in range(400)]
    assert drawn[3] == mixed.draw(np.random.default_rng((1, 3)))
    for batch in drawn:
        assert [mixed.films[i].source for i in batch] == ["here"] * 6 + ["there"] * 2
    sick = np.mean([mixed.films[i].sample.kind == "pneumonia" for batch in drawn for i in batch])
    assert 0.46 < sick < 0.54  # a quarter of the films, half of what is drawn


def test_views_are_balanced_within_a_label(fields: Path) -> None:
    # As in bed and standing: nine of ten ill ones AP, one of ten well ones, and some unknown.
    known = [
        dataclasses.replace(film, view="AP" if (i % 10 == 0) != (film.sample.kind == "pneumonia")
                            else "" if i % 7 == 3 else "PA")
        for i, film in enumerate(films())
    ]  # fmt: skip
    pixels = np.zeros((len(known), 8, 8, 1), np.uint8)
    shares = (Share(("here",), 6), Share(("there",), 2))
    odd, even = (
        Mixture(pixels, known, Fields([fields]), shares, Augmentation(), balance_views=balance)
        for balance in (False, True)
    )

    def parts(mixed: Mixture, kind: str) -> dict[str, float]:
        drawn = [i for n in range(400) for i in mixed.draw(np.random.default_rng((1, n)))]
        views = [known[i].view for i in drawn if known[i].sample.kind == kind]
        return {view: views.count(view) / len(views) for view in sorted(set(views))}

    assert parts(odd, "pneumonia")["AP"] - parts(odd, "normal")["AP"] > 0.5
    for kind in ("pneumonia", "normal"):
        found = parts(even, kind)
        assert all(abs(part - 1 / len(found)) < 0.05 for part in found.values()), found


def test_without_changes_a_film_is_rendered_as_it_is(fields: Path) -> None:
    mixed = mixture(fields, Augmentation())
    rendered = mixed.render(5, np.random.default_rng(0))
    np.testing.assert_array_equal(rendered.pixels, mixed.pixels[5])
    assert rendered.field is not None
    np.testing.assert_array_equal(rendered.field > 0.5, rectangle())
    assert rendered.boxes.max() == 0


def test_grafts_take_frames_of_other_films_and_keep_the_lungs(fields: Path) -> None:
    mixed = mixture(fields, Augmentation(graft_whole=1.0))
    other = 0
    for seed in range(20):
        rendered = mixed.render(5, np.random.default_rng(seed))
        frames = [i for i in range(80) if (rendered.pixels[:4] == mixed.pixels[i][:4]).all()]
        assert len(frames) == 1
        other += frames[0] >= 40
        inside = rendered.pixels[20:40, 16:40, 0].astype(int)
        own = mixed.pixels[5][20:40, 16:40, 0]
        assert np.corrcoef(inside.ravel(), own.ravel())[0, 1] > 0.9
    assert 3 < other < 17  # half the frames from a source drawn anew


def test_inverted_cut_lungs_are_put_right_once(fields: Path) -> None:
    cut = Film(Sample("cut/0.jpeg", "pneumonia", "c"), "cut", inverted=True, crop="lungs",
               boxes=((0.2, 0.2, 0.2, 0.2),))  # fmt: skip
    mixed = mixture(fields, Augmentation(graft_cut=1.0), cut)
    drawn = draw_phantom(80, True, SIDE, SIDE)
    np.testing.assert_array_equal(
        mixed.pixels[80][:, :, 0], np.where(drawn > 10, 255 - drawn, 0).astype(np.uint8)
    )
    rendered = mixed.render(80, np.random.default_rng(0))
    assert rendered.boxes.sum() / FIELD_SIDE**2 == pytest.approx(0.04, rel=0.3)


def test_a_share_without_films_is_refused(fields: Path) -> None:
    with pytest.raises(InvalidValueError, match="no films of nowhere"):
        Mixture(
            np.zeros((80, 8, 8, 1), np.uint8), films(), Fields([fields]),
            (Share(("nowhere",), 4),), Augmentation(),
        )  # fmt: skip


def test_cells_are_means() -> None:
    place = np.random.default_rng(0).random((56, 56)).astype(np.float32)
    np.testing.assert_allclose(
        cells(place, 7, 7), place.reshape(7, 8, 7, 8).mean(axis=(1, 3)), rtol=1e-5
    )
    assert cells(place, 5, 6).mean() == pytest.approx(place.mean(), rel=1e-5)


def test_the_loss_of_evidence_counts_what_it_says() -> None:
    keras = pytest.importorskip("keras")
    from train.fit.evidence import EvidenceLoss, map_target

    field = np.zeros((56, 56), np.float32)
    field[:, :28] = 1
    boxes = np.zeros((56, 56), np.float32)
    boxes[:14, :14] = 1
    with_box = map_target(Rendered(np.zeros((8, 8, 1), np.uint8), field, boxes), 4, 4)
    unknown = map_target(Rendered(np.zeros((8, 8, 1), np.uint8), None, 0 * boxes), 4, 4)
    evidence = np.zeros((2, 4, 4, 1), np.float32)
    evidence[:, 0, 0], evidence[:, 3, 3] = 2.0, 4.0
    targets = np.stack([with_box, unknown])
    outside = EvidenceLoss(outside=1.0)
    found = keras.ops.convert_to_numpy(outside.call(targets, evidence))
    np.testing.assert_allclose(found, [4 / 6, 0], rtol=1e-3)
    # A share: less evidence everywhere is no way to meet it.
    smaller = keras.ops.convert_to_numpy(outside.call(targets, 0.1 * evidence))
    np.testing.assert_allclose(smaller, found, rtol=1e-2)
    # Cells of which a quarter is inside count as inside.
    most = np.zeros((56, 56), np.float32)
    most[:, :46] = 1
    edge = map_target(Rendered(np.zeros((8, 8, 1), np.uint8), most, boxes), 4, 4)[np.newaxis]
    found = keras.ops.convert_to_numpy(outside.call(edge, evidence[:1]))
    np.testing.assert_allclose(found, [0], atol=1e-6)
    found = keras.ops.convert_to_numpy(EvidenceLoss(boxes=1.0).call(targets, evidence))
    share = np.exp(2) / (np.exp(2) + np.exp(4) + 14)
    np.testing.assert_allclose(found, [-np.log(share) + 0.3 * 4 / 16, 0], rtol=1e-5)


RECIPE = """
base = "smoke"
name = "mixed"
description = "drawings of two hospitals"
[data]
source = "folder"
steps = 3
held_out = ["elsewhere"]
[[data.mix]]
sources = ["here"]
images = 6
[[data.mix]]
sources = ["there"]
images = 6
[augmentation]
graft_whole = 0.8
flip = 0.5
[optimisation]
head_epochs = 1
epochs = 1
average_last = 1
freeze_batch_norm = true
fold_batch_norm = true
mirrored = 0.2
[evidence]
outside = 0.5
boxes = 0.1
"""


def test_training_on_two_tables(tmp_path: Path, fields: Path) -> None:
    rows = ["path,finding,patient,source,boxes"]
    for first, source in enumerate(("here", "there", "elsewhere")):
        (tmp_path / source).mkdir()
        for i in range(40):
            film = phantom_jpeg(100 * first + i, i % 2 == 1, 90, 100)
            (tmp_path / source / f"{i}.jpeg").write_bytes(film)
            kind, box = ("opacity", "0.2 0.2 0.3 0.3") if i % 2 else ("normal", "")
            rows.append(f"{source}/{i}.jpeg,{kind},{source}-{i},{source},{box}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    (tmp_path / "mixed.toml").write_text(
        RECIPE.replace('source = "folder"', 'source = "folder"\nfindings = {opacity = "pneumonia"}')
    )
    run = tmp_path / "run"
    command = (
        "train", "fit", "--recipe", tmp_path / "mixed.toml", "--weights", "none", "--data",
        tmp_path / "films.csv", "--fields", fields, "--sides", fields, "--output", run,
        "--mixed-precision", "bfloat16",
    )  # fmt: skip
    done = workbench(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    splits = json.loads((run / "splits.json").read_text())
    paths = [s["path"] for part in ("train", "validation") for s in splits[part]]
    assert len(paths) == 80 and not any(p.startswith("elsewhere") for p in paths)
    assert {s["kind"] for s in splits["validation"]} == {"normal", "pneumonia"}
    history = json.loads((run / "history.json").read_text())
    assert len(history) == 2 and all(np.isfinite(entry["loss"]) for entry in history)
    # The same command again has nothing to do; the model is that of logits alone.
    again = workbench(*command)
    assert again.returncode == 0 and "finished" in again.stderr + again.stdout
    evaluated = workbench(
        "train", "evaluate", run, "--part", "validation", "--data", tmp_path / "films.csv"
    )
    assert evaluated.returncode == 0, evaluated.stderr[-2000:]


def test_inverted_films_are_put_right_in_training_and_validation(tmp_path: Path) -> None:
    rows = ["path,finding,patient,contrast"]
    for i in range(40):
        film = draw_phantom(i, i % 2 == 1, SIDE, SIDE)
        Image.fromarray(255 - film if i % 4 < 2 else film).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{('normal', 'pneumonia')[i % 2]},p{i},{'inverted' * (i % 4 < 2)}")
    table = tmp_path / "films.csv"
    table.write_text("\n".join(rows))
    recipe = load_recipe("smoke")
    recipe = dataclasses.replace(
        recipe, input=InputSpec(SIDE, SIDE), data=Data(validation_fraction=0.3, near_bits=0)
    )
    split, source = split_data(recipe, [table])
    arrays = Arrays.load(recipe, source, split)
    for samples, pixels in ((split.train, arrays.train), (split.validation, arrays.validation)):
        assert len(samples) > 5
        for sample, image in zip(samples, pixels, strict=True):
            number = int(Path(sample.path).stem)
            drawn = draw_phantom(number, number % 2 == 1, SIDE, SIDE)
            np.testing.assert_array_equal(image[:, :, 0], drawn)
