"""Patients, kinds and splits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec, prepare
from train.data.dataset import (
    Sample,
    kind_of,
    load_pixels,
    patient_of,
    phantom_samples,
    read_bytes,
    read_folder,
    split_by_batch,
    split_by_block,
    split_by_patient,
    targets,
)


@pytest.mark.parametrize(
    ("name", "folder", "patient", "kind"),
    [
        ("person100_bacteria_475.jpeg", "PNEUMONIA", "person100", "bacterial"),
        ("person100_virus_184.jpeg", "PNEUMONIA", "person100", "viral"),
        ("IM-0115-0001.jpeg", "NORMAL", "IM-0115", "normal"),
        ("IM-0011-0001-0002.jpeg", "NORMAL", "IM-0011", "normal"),
        ("NORMAL2-IM-1427-0001.jpeg", "NORMAL", "NORMAL2-IM-1427", "normal"),
        ("00012345_006.png", "NO_FINDING", "00012345", "normal"),
        ("own_scan_7.png", "PNEUMONIA", "own_scan_7", "pneumonia"),
    ],
)
def test_names_tell_patient_and_kind(name: str, folder: str, patient: str, kind: str) -> None:
    assert patient_of(Path(name)) == patient
    assert kind_of(name, folder) == kind


def test_no_patient_is_on_both_sides() -> None:
    samples = [Sample(f"{i}.png", "normal", f"p{i % 300}") for i in range(1000)]
    split = split_by_patient(samples, 0.2, seed=1)
    train, validation = ({s.patient for s in part} for part in (split.train, split.validation))
    assert len(split.train) + len(split.validation) == 1000
    assert not train & validation
    assert 0.1 < len(validation) / 300 < 0.3


def test_adding_images_moves_nobody() -> None:
    samples = [Sample(f"{i}.png", "normal", f"p{i}") for i in range(200)]
    few, many = (split_by_patient(s, 0.2, seed=1) for s in (samples[:100], samples))
    assert set(few.validation) <= set(many.validation)


def test_another_seed_is_another_split() -> None:
    samples = [Sample(f"{i}.png", "normal", f"p{i}") for i in range(200)]
    assert split_by_patient(samples, 0.2, 1) != split_by_patient(samples, 0.2, 2)


def test_a_batch_held_out_takes_its_patients_along() -> None:
    samples = [
        Sample("N/IM-1.jpeg", "normal", "IM-1"),
        Sample("N/NORMAL2-IM-2.jpeg", "normal", "NORMAL2-IM-2"),
        Sample("P/person1_virus_1.jpeg", "viral", "person1"),
        Sample("P/person1_bacteria_2.jpeg", "bacterial", "person1"),
        Sample("P/person2_bacteria_3.jpeg", "bacterial", "person2"),
    ]
    split = split_by_batch(samples, "NORMAL2|_virus_")
    assert [s.path for s in split.validation] == ["N/NORMAL2-IM-2.jpeg", "P/person1_virus_1.jpeg"]
    assert [s.path for s in split.train] == ["N/IM-1.jpeg", "P/person2_bacteria_3.jpeg"]
    with pytest.raises(InvalidValueError, match="both classes"):
        split_by_batch(samples, "_virus_")


def test_blocks_follow_the_numbers_and_share_no_patient() -> None:
    samples = [
        Sample(f"{name}-{i:04d}-{k}.jpeg", "normal", f"{name}-{i:04d}")
        for name in ("IM", "NORMAL2-IM") for i in range(1, 101) for k in range(2)
    ] + [Sample(f"person{i}_{kind}", kind, f"person{i}")
         for kind in ("bacterial", "viral") for i in range(1, 101)]  # fmt: skip
    seen: list[str] = []
    for block in range(5):
        split = split_by_block(samples, block, 5)
        assert not {s.patient for s in split.train} & {s.patient for s in split.validation}
        seen += [s.path for s in split.validation]
        numbers = {int(s.patient.rpartition("-")[2]) for s in split.validation if "IM" in s.path}
        assert numbers == set(range(block * 20 + 1, block * 20 + 21))
    assert sorted(seen) == sorted(s.path for s in samples)
    with pytest.raises(InvalidValueError, match="5 of 5"):
        split_by_block(samples, 5, 5)


def test_streamed_images_are_the_same(tmp_path: Path) -> None:
    samples, spec = phantom_samples(4), InputSpec(64, 64)
    stored = load_pixels(None, samples, spec, "", tmp_path / "pixels.npy")
    assert isinstance(stored, np.memmap)
    np.testing.assert_array_equal(stored, load_pixels(None, samples, spec, ""))


def test_targets_for_two_and_three_labels() -> None:
    samples = [Sample("", kind, "") for kind in ("normal", "bacterial", "viral")]
    assert targets(samples, ("normal", "pneumonia")).tolist() == [0, 1, 1]
    assert targets(samples, ("normal", "bacterial", "viral")).tolist() == [0, 1, 2]
    unknown = [dataclasses.replace(samples[1], kind="pneumonia")]
    with pytest.raises(InvalidValueError, match="'pneumonia' have no place"):
        targets(unknown, ("normal", "bacterial", "viral"))


def test_an_empty_or_wrong_folder_is_refused_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="NORMAL,PNEUMONIA"):
        read_folder(tmp_path, ("train",))


def test_training_and_device_prepare_input_identically() -> None:
    spec = InputSpec(96, 96)
    samples = phantom_samples(6)
    pixels = load_pixels(None, samples, spec, "")
    for sample, tensor in zip(samples, pixels, strict=True):
        np.testing.assert_array_equal(tensor, prepare(read_bytes(None, sample), spec))


def test_the_real_split_is_disjoint_and_leaves_test_alone(data: Path) -> None:
    samples = read_folder(data / "chest_xray", ("train", "val"))
    assert len(samples) == 5216 + 16
    assert not [s for s in samples if s.path.startswith("test/")]
    split = split_by_patient(samples, 0.12, seed=1)
    assert not {s.patient for s in split.train} & {s.patient for s in split.validation}
    assert {s.kind for s in split.validation} == {"normal", "bacterial", "viral"}
