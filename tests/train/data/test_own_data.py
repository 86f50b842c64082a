"""Data of one's own: whose film it is, whose split it is, and films that are there twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from tests.conftest import workbench
from train.data.arrays import split_data
from train.data.table import alike_names, read_table, told_guesses
from train.recipe import load_recipe


def folder_of(path: Path, part: str, names: dict[str, bool]) -> None:
    for i, (name, ill) in enumerate(names.items()):
        place = path / part / ("PNEUMONIA" if ill else "NORMAL")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(phantom_jpeg(len(part) * 100 + i, ill))


def two_views(count: int) -> dict[str, bool]:
    return {f"pat{i:03}_view{v}.jpg": bool(i % 2) for i in range(count) for v in (1, 2)}


def test_names_that_share_a_beginning_are_said_with_an_example(tmp_path: Path) -> None:
    folder_of(tmp_path, "train", two_views(12))
    told = told_guesses(read_table([tmp_path]))
    assert told.startswith("24 of 24 films") and "24 of them share a beginning" in told
    assert "pat000_view1.jpg and pat000_view2.jpg" in told
    pattern = told.split("--patient-pattern '")[1].split("'")[0]
    table = read_table([tmp_path], patient_pattern=pattern)
    assert len({f.sample.patient for f in table.films}) == 12
    assert table.guessed == 0 and told_guesses(table) == ""


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (("pat012_view1", "pat012_view2", "pat013_view1"), 2),
        (("a-7-PA", "a-7-AP"), 2),
        (("0001", "0002"), 0),
        (("img_13", "img_14"), 0),
        (("IM-0001-0001", "IM-0001-0002"), 0),  # a form that is known
    ],
)
def test_what_looks_alike(tmp_path: Path, names: tuple[str, ...], alike: int) -> None:
    folder_of(tmp_path, "train", {f"{name}.jpg": False for name in names})
    samples = [f.sample for f in read_table([tmp_path]).films]
    assert sum(map(len, alike_names(samples).values())) == alike


def test_a_pattern_reaches_the_split(tmp_path: Path) -> None:
    folder_of(tmp_path, "train", two_views(60))
    recipe = load_recipe("default", ["data.patient_pattern='(pat\\d+)'"])
    split, _ = split_data(recipe, [tmp_path])
    sides = [{s.path.rpartition("_")[0] for s in part} for part in (split.train, split.validation)]
    assert not sides[0] & sides[1]


def test_a_split_of_ones_own_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(tmp_path, "train", {f"t{i}.jpg": bool(i % 2) for i in range(20)})
    folder_of(tmp_path, "val", {f"v{i}.jpg": bool(i % 2) for i in range(10)})
    (tmp_path / "train" / "NORMAL" / "v4.jpg").write_bytes(phantom_jpeg(1, False))
    kept, _ = split_data(load_recipe("default", ["data.least_val=10"]), [tmp_path])
    assert {Path(s.path).parts[0] for s in kept.validation} == {"val"}
    assert len(kept.validation) == 10 and len(kept.train) == 20  # v4 is in val already
    said = capsys.readouterr().out
    assert "the data's own part val, 10 films" in said and "1 films of train are left out" in said
    merged, _ = split_data(load_recipe("default", ["data.validation_fraction=0.5"]), [tmp_path])
    assert len(merged.train) + len(merged.validation) == 31
    assert "fewer than data.least_val" in capsys.readouterr().out
    with pytest.raises(InvalidValueError, match="holds out others"):
        split_data(load_recipe("default", ["data.least_val=10", "data.holdout=t1"]), [tmp_path])


def test_films_that_are_there_twice_or_damaged_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ["path,finding,patient,split"]
    for i in range(60):
        ill = bool(i % 2)
        (tmp_path / f"{i}.jpg").write_bytes(phantom_jpeg(i, ill))
        part = "val" if i < 20 else "train"
        lines.append(f"{i}.jpg,{'pneumonia' if ill else 'normal'},p{i},{part}")
    (tmp_path / "twin.jpg").write_bytes(phantom_jpeg(0, False))
    (tmp_path / "cut.jpg").write_bytes(phantom_jpeg(99, True)[:900])
    lines += ["twin.jpg,normal,other,train", "cut.jpg,pneumonia,p99,train"]
    table = tmp_path / "films.csv"
    table.write_text("\n".join(lines) + "\n")
    settings = ["data.source=folder", "data.least_val=10", "optimisation.epochs=1",
                "network.labels=[\"normal\",\"pneumonia\"]"]  # fmt: skip
    sets = [text for change in settings for text in ("--set", change)]
    command = ("train", "fit", "--recipe", "smoke", "--weights", "none", "--data", table, *sets)
    refused = workbench(*command, "--output", tmp_path / "a")
    assert refused.returncode == 2 and "cut.jpg" in refused.stderr, refused.stderr
    assert not (tmp_path / "a" / "run.json").exists()
    allowed = ("--set", "data.unreadable=0.05")
    stopped = workbench(
        *command, *allowed, "--set", "data.duplicates=stop", "--output", tmp_path / "b"
    )
    assert stopped.returncode == 2 and "twin.jpg and 0.jpg" in stopped.stderr, stopped.stderr
    trained = workbench(*command, *allowed, "--output", tmp_path / "c")
    assert trained.returncode == 0, trained.stderr
    assert "left out: cut.jpg" in trained.stdout and "twin.jpg" in trained.stdout
    run = json.loads((tmp_path / "c" / "run.json").read_text(encoding="utf-8"))
    assert run["data"]["unreadable"] == ["cut.jpg"]
    assert run["data"]["counts"] == {
        "train/normal": 20, "train/pneumonia": 20, "validation/normal": 10,
        "validation/pneumonia": 10,
    }  # fmt: skip


def test_copies_of_validation_films_are_left_out_of_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,finding,patient,split"]
    for i in range(60):
        # Noise of few frequencies: unlike drawings, no two of them are nearly the same.
        film = Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).resize((300, 300))
        film.save(tmp_path / f"{i}.png")
        lines.append(
            f"{i}.png,{('normal', 'pneumonia')[i % 2]},p{i},{'val' if i < 20 else 'train'}"
        )
    copy = Image.open(tmp_path / "3.png").resize((240, 200)).point(lambda value: value * 0.95)
    copy.save(tmp_path / "copy.jpg", quality=40)
    table = tmp_path / "films.csv"
    table.write_text("\n".join([*lines, "copy.jpg,pneumonia,other,train"]) + "\n")
    settings = ["data.source=folder", "data.least_val=10", "optimisation.epochs=1",
                "data.near_bits=12",
                'network.labels=["normal","pneumonia"]']  # fmt: skip
    sets = [text for change in settings for text in ("--set", change)]
    command = ("train", "fit", "--recipe", "smoke", "--weights", "none", "--data", table, *sets)
    trained = workbench(*command, "--output", tmp_path / "a")
    assert trained.returncode == 0, trained.stderr
    assert "1 films of training are, or look like" in trained.stdout
    assert "copy.jpg and 3.png" in trained.stdout
    allowed = workbench(*command, "--set", "data.near_bits=0", "--output", tmp_path / "b")
    assert allowed.returncode == 0 and "copy.jpg" not in allowed.stdout


def test_the_card_says_nothing_that_is_not_so(tmp_path: Path) -> None:
    lines = ["path,finding,patient"]
    for i in range(160):
        (tmp_path / f"{i}.jpg").write_bytes(phantom_jpeg(i, bool(i % 2)))
        lines.append(f"{i}.jpg,{'pneumonia' if i % 2 else 'normal'},p{i}")
    table = tmp_path / "ours.csv"
    table.write_text("\n".join(lines) + "\n")
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    sets = [
        text
        for change in (
            "input.height=64", "input.width=64", "network.backbone=plain-cnn",
            "optimisation.head_epochs=0", "optimisation.epochs=6",
            "optimisation.learning_rate=2e-3",
            "optimisation.freeze_batch_norm=false", "optimisation.batch_norm_momentum=0.9",
            "optimisation.batch_size=16", "augmentation.strength=[0.0, 0.3]",
            "data.validation_fraction=0.3", "optimisation.average_last=2", "data.near_bits=0",
        )
        for text in ("--set", change)
    ]  # fmt: skip
    command = ("train", "fit", "--recipe", "default", "--weights", "none", "--data", table, *sets)
    trained = workbench(*command, "--output", run)
    assert trained.returncode == 0, trained.stderr
    assert "these films are of ours" in trained.stdout
    again = workbench(*command, "--output", run)
    assert again.returncode == 0, again.stderr  # the same run, finished
    exported = workbench("export", run, "--data", table, "--output", bundle)
    assert exported.returncode == 0, exported.stderr
    card = (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# default-plain-cnn") and "Intended use: not stated" in card
    told = (card + (bundle / "manifest.json").read_text(encoding="utf-8")).lower()
    for word in ("guangzhou", "kermany", "children of", "chest_xray"):
        assert word not in told, word
