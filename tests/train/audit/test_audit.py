"""The audit finds what was planted, and its page opens offline."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from edge_runtime.images.phantom import draw_phantom, phantom_jpeg
from edge_runtime.images.preprocess import InputSpec, prepare
from tests.conftest import workbench
from train.audit.probe import probe_features
from train.audit.shortcuts import measure_shortcuts
from train.data.dataset import patient_of
from train.data.duplicates import NEAR_BITS, near_pairs, perceptual_hash


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 phantoms with an equal file, a re-encoded copy, a broken file and a patient in two parts.

    Pneumonia is saved at a lower quality: a shortcut.
    """
    data = tmp_path_factory.mktemp("audit") / "data"
    for part, first in (("train", 0), ("test", 100)):
        for label, name in ((0, "NORMAL"), (1, "PNEUMONIA")):
            (data / part / name).mkdir(parents=True)
            for i in range(24):
                image = Image.fromarray(draw_phantom(first + 2 * i + label, bool(label)))
                stem = f"person{first + i}_virus_1" if label else f"IM-{first + i:04d}-0001"
                (data / part / name / f"{stem}.jpeg").write_bytes(jpeg(image, 30 if label else 95))
    train = data / "train" / "NORMAL"
    (data / "test" / "NORMAL" / "IM-0003-0009.jpeg").write_bytes(
        (train / "IM-0003-0001.jpeg").read_bytes()
    )
    copy = Image.open(train / "IM-0005-0001.jpeg").resize((300, 280))
    (data / "test" / "PNEUMONIA" / "person900_virus_1.jpeg").write_bytes(
        jpeg(ImageEnhance.Brightness(copy).enhance(1.05), 60)
    )
    (train / "IM-0900-0001.jpeg").write_bytes(b"\xff\xd8\xff damaged")
    (train / ".DS_Store").write_bytes(b"x")
    return data


def test_it_finds_what_was_planted(folder: Path, tmp_path: Path) -> None:
    result = workbench("train", "audit", "--data", folder, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    audit = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    counts = {(c["part"], c["kind"]): (c["images"], c["patients"]) for c in audit["counts"]}
    assert counts["train", "normal"] == (24, 24) and counts["test", "viral"] == (25, 25)
    assert [u["path"] for u in audit["unreadable"]] == ["train/NORMAL/IM-0900-0001.jpeg"]
    assert audit["ignored"] == ["train/NORMAL/.DS_Store"]
    assert audit["patients_across_parts"] == ["IM-0003 (normal)"]
    found = {(d["first"], d["second"]): d for d in audit["duplicates"]}
    same = found["train/NORMAL/IM-0003-0001.jpeg", "test/NORMAL/IM-0003-0009.jpeg"]
    assert same["same_bytes"] and same["across_parts"] and not same["across_classes"]
    near = found["train/NORMAL/IM-0005-0001.jpeg", "test/PNEUMONIA/person900_virus_1.jpeg"]
    assert not near["same_bytes"] and near["across_parts"] and near["across_classes"]
    assert 0 < near["distance"] <= NEAR_BITS
    best = audit["shortcuts"]["train"][0]
    assert best["name"] == "bytes per pixel" and best["auc"]["value"] > 0.95
    assert best["direction"] == -1


def test_the_page_opens_offline(folder: Path, tmp_path: Path) -> None:
    assert workbench("train", "audit", "--data", folder, "--output", tmp_path).returncode == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "://" not in page and "<script" not in page
    assert page.count("data:image/") > 10
    assert (tmp_path / "shortcuts.svg").stat().st_size > 1000


def test_a_folder_without_classes_is_exit_2(tmp_path: Path) -> None:
    result = workbench("train", "audit", "--data", tmp_path, "--output", tmp_path / "out")
    assert result.returncode == 2 and "NORMAL" in result.stderr


def test_the_hash_survives_what_copies_suffer_and_tells_patients_apart() -> None:
    images = [Image.fromarray(draw_phantom(seed, seed % 2 == 1)) for seed in range(12)]
    copies = [Image.open(io.BytesIO(jpeg(image.resize((200, 190)), 40))) for image in images]
    hashes = np.stack([perceptual_hash(image) for image in (*images, *copies)])
    pairs = {(p.first, p.second) for p in near_pairs(hashes)}
    assert {(i, i + 12) for i in range(12)} <= pairs


def test_shortcut_auc_of_noise_is_near_one_half_and_of_a_tell_is_one() -> None:
    rng = np.random.default_rng(0)
    positive = np.arange(400) % 2
    thumbnails = rng.normal(size=(400, 256)).astype(np.float32)
    features = {"tell": 1.0 - positive, "noise": rng.normal(size=400), "same": np.ones(400)}
    patients = [f"p{i}" for i in range(400)]
    found = {s.name: s for s in measure_shortcuts(positive, features, thumbnails, patients)}
    assert found["tell"].auc.value == 1.0 and found["tell"].direction == -1
    assert found["noise"].auc.value < 0.6
    assert "same" not in found
    # Out of fold, 256 weights on noise tell nothing; in sample they would tell all.
    assert found["16 x 16 thumbnail, linear"].auc.value < 0.62


def test_a_probe_tells_what_features_hold_and_no_more() -> None:
    rng = np.random.default_rng(0)
    sources = ["a"] * 200 + ["b"] * 100 + ["c"] * 60
    patients = [f"p{i // 2}" for i in range(360)]
    facts = {"size": rng.normal(size=360), "same": np.ones(360)}
    noise = rng.normal(size=(360, 40)).astype(np.float32)
    blind = probe_features(noise, sources, facts, patients)
    assert blind.chance == pytest.approx(1 / 3) and abs(blind.balanced_accuracy - 1 / 3) < 0.1
    assert blind.facts["size"] < 0.1 and "same" not in blind.facts
    telling = noise.copy()
    telling[:, 0] += 5 * np.array([("a", "b", "c").index(s) for s in sources])
    telling[:, 1] = 3 * facts["size"]
    seen = probe_features(telling, sources, facts, patients)
    assert seen.balanced_accuracy > 0.6 and seen.facts["size"] > 0.7


def test_a_table_of_sources_with_grafts_and_a_probed_run(smoke_run: Path, tmp_path: Path) -> None:
    rows = ["path,finding,patient,source,crop"]
    for i in range(120):
        source = ("ward", "clinic", "cut")[i % 3]
        finding = ("normal", "opacity")[i // 3 % 3 == 0]
        (tmp_path / f"{i}.jpeg").write_bytes(
            jpeg(Image.fromarray(draw_phantom(i, finding != "normal", 90, 100)), 40 + 20 * (i % 3))
        )
        rows.append(f"{i}.jpeg,{finding},p{i},{source},{'lungs' * (source == 'cut')}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    field = np.zeros((56, 56), bool)
    field[4:52, 4:52] = True
    names = np.array([f"{i}.jpeg" for i in range(120)])
    np.savez(tmp_path / "fields.npz", names=names, fields=[np.packbits(field)] * 120)
    result = workbench(
        "train", "audit", "--data", tmp_path / "films.csv", "--fields", tmp_path / "fields.npz",
        "--run", smoke_run, "--output", tmp_path / "out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    audit = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert {c["part"] for c in audit["counts"]} == {"ward", "clinic", "cut"}
    assert audit["ignored"] == ["fields.npz", "films.csv"]
    (probe,) = audit["probes"]
    assert probe["sources"] == ["clinic", "ward"] and 0.3 < probe["balanced_accuracy"] <= 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Grafts" in page and "source told" in page


def test_films_of_which_none_is_called_normal_are_audited_and_that_is_said(tmp_path: Path) -> None:
    lines = ["path,finding,patient"]
    for i in range(50):
        (tmp_path / f"{i}.jpg").write_bytes(phantom_jpeg(i, bool(i % 2)))
        lines.append(f"{i}.jpg,{('No Finding', 'Mass')[i % 2]},p{i}")
    table, recipe = tmp_path / "ours.csv", tmp_path / "ours.toml"
    table.write_text("\n".join(lines) + "\n")
    command = ("train", "audit", "--data", table, "--output", tmp_path / "out")
    plain = workbench(*command)
    assert plain.returncode == 0, plain.stderr
    assert "no film is called normal" in plain.stdout and "tells the classes" not in (
        plain.stdout.replace("tells the classes apart: name", "")
    )
    recipe.write_text('base = "smoke"\n[data]\nfindings = { "No Finding" = "normal" }\n')
    named = workbench(*command, "--recipe", recipe)
    assert named.returncode == 0, named.stderr
    assert "no film is called normal" not in named.stdout
    assert "what tells the classes apart alone" in named.stdout


def test_on_real_films_copies_are_near_and_patients_are_not(data: Path) -> None:
    """What `NEAR_BITS` was chosen by."""
    files = sorted((data / "chest_xray" / "train").glob("*/*.jpeg"))
    spec = InputSpec(128, 128)

    def hashed(content: bytes) -> np.ndarray:
        return perceptual_hash(Image.fromarray(prepare(content, spec)[:, :, 0]))

    hashes = np.stack([hashed(file.read_bytes()) for file in files])
    names = [patient_of(file) for file in files]
    for pair in near_pairs(hashes, NEAR_BITS + 1):
        assert names[pair.first] == names[pair.second], (files[pair.first], files[pair.second])
    differing = []
    for i in np.random.default_rng(0).choice(len(files), 270, replace=False):
        film = Image.open(io.BytesIO(files[i].read_bytes())).convert("L")
        small = film.resize(
            (int(film.width * 0.6), int(film.height * 0.6)), Image.Resampling.BILINEAR
        )
        brighter = small.point(lambda value: min(255, int(value * 1.1)))
        differing.append(int((hashed(jpeg(brighter, 30)) != hashes[i]).sum()))
    assert (np.array(differing) <= NEAR_BITS).sum() >= 269
