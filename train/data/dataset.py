"""The public folder layout, patients, and splits that keep each patient on one side.

    DATA/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg

File names carry the patient and the kind of pneumonia: `person100_bacteria_475.jpeg`,
`IM-0115-0001.jpeg`, `NORMAL2-IM-1427-0001.jpeg`.
Source: Kermany et al., Cell 172:1122 (2018); Mendeley Data rscbjbr9sj v2.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.basics.processors import usable_processors
from edge_runtime.errors import ImageError, InvalidValueError
from edge_runtime.images.phantom import phantom_file
from edge_runtime.images.preprocess import InputSpec, prepare

NORMAL = "normal"  # the kind of a film without pneumonia
NORMAL_FOLDERS = ("NORMAL", "NO_FINDING")  # the second name is that of the NIH's label
POSITIVE_FOLDER = "PNEUMONIA"
CLASS_FOLDERS = (NORMAL_FOLDERS[0], POSITIVE_FOLDER)
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm")
SEVERAL = "|"  # between findings of one film
_NAMED = 10  # of files that an error names


class UnreadableError(InvalidValueError):
    """Files that are no images, or damaged; `files` says why, by path."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        told = "; ".join(f"{path}: {why}" for path, why in list(files.items())[:_NAMED])
        more = f"; and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        super().__init__(
            f"{len(files)} films cannot be read: {told}{more}. Repair them or take them out"
        )


@dataclasses.dataclass(frozen=True)
class Sample:
    """One labelled radiograph.

    `kind` is normal, or what it shows: in the public layout bacterial, viral or pneumonia (type
    unknown), in a table whatever that says. Several findings have `|` between them.
    """

    path: str  # relative to the data folder, with forward slashes; or "phantom/SEED"
    kind: str
    patient: str


@dataclasses.dataclass(frozen=True)
class Split:
    """Two lists of samples without a common patient."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]


def read_folder(data: Path, parts: Iterable[str]) -> list[Sample]:
    """The samples of the named parts ("train", "val", "test"), sorted by path.

    Raises:
        InvalidValueError: A class folder is missing or empty.
    """
    samples: list[Sample] = []
    for part in parts:
        for folder_name in CLASS_FOLDERS:
            folder = data / part / folder_name
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            images = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
            if not images:
                raise InvalidValueError(
                    f"no images in {folder}; expected {data}/{{train,val,test}}/"
                    "{NORMAL,PNEUMONIA}/*.jpeg"
                )
            samples += [
                Sample(f.relative_to(data).as_posix(), kind_of(f.name, folder_name), patient_of(f))
                for f in images
            ]
    return sorted(samples, key=lambda s: s.path)


def kind_of(file_name: str, folder_name: str) -> str:
    """normal, bacterial, viral or pneumonia, from the class folder and the file name."""
    if folder_name in NORMAL_FOLDERS:
        return NORMAL
    if "_bacteria_" in file_name:
        return "bacterial"
    return "viral" if "_virus_" in file_name else "pneumonia"


def patient_of(path: Path, pattern: str = "") -> str:
    """Patient identifier from the file name; the whole stem where the name follows no known form.

    With `pattern`, a regular expression over the path, what its first group matches (or all of it,
    where it has no group). `personN_bacteria_*` and `personN_virus_*` count as one person: at worst
    two patients stay together, never one apart.
    """
    stem = path.stem
    if pattern:
        found = re.search(pattern, path.as_posix())
        return (found[1] if found.re.groups else found[0]) if found else stem
    if match := re.match(r"person\d+", stem):
        return match.group()
    if match := re.match(r"(NORMAL2-)?IM-\d+", stem):
        return match.group()
    if match := re.fullmatch(r"(\d{8})_\d{3}", stem):  # NIH: patient and number of the image
        return match.group(1)
    return stem


def split_by_patient(samples: list[Sample], fraction: float, seed: int) -> Split:
    """Hold out about `fraction` of the patients of each kind.

    A patient's place depends on the seed and the patient alone, so that adding images never
    moves anyone.
    """

    def held_out(patient: str) -> bool:
        digest = hashlib.sha256(f"{seed}/{patient}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < fraction

    train = tuple(s for s in samples if not held_out(s.patient))
    validation = tuple(s for s in samples if held_out(s.patient))
    return Split(train, validation)


def split_by_batch(samples: list[Sample], pattern: str) -> Split:
    """Hold out the images whose path matches; their patients' other images are left out.

    Raises:
        InvalidValueError: The pattern leaves a side without one of the classes.
    """
    validation = tuple(s for s in samples if re.search(pattern, s.path))
    patients = {s.patient for s in validation}
    train = tuple(s for s in samples if s.patient not in patients)
    for part in (train, validation):
        if len({s.kind == NORMAL for s in part}) < 2:
            raise InvalidValueError(f"holdout {pattern!r} leaves a side without both classes")
    return Split(train, validation)


def split_by_block(samples: list[Sample], block: int, blocks: int) -> Split:
    """Hold out one of `blocks` equal parts of each series of file names, in order of number.

    The series are IM, NORMAL2-IM, bacteria and virus: numbers follow the order of acquisition or
    of export, so a block is a harder validation than random patients. A held-out patient's other
    images are left out.

    Raises:
        InvalidValueError: `block` is not from 0 to `blocks` - 1, or a side lacks a class.
    """
    if not 0 <= block < blocks:
        raise InvalidValueError(f"block {block} of {blocks} does not exist")
    series: dict[str, list[Sample]] = {}
    for sample in samples:
        series.setdefault(sample.kind + re.sub(r"\d+$", "", sample.patient), []).append(sample)
    validation: list[Sample] = []
    for members in series.values():
        patients = sorted({s.patient for s in members}, key=_number)
        part = np.array_split(np.arange(len(patients)), blocks)[block]
        chosen = {patients[i] for i in part}
        validation += [s for s in members if s.patient in chosen]
    held_out = {s.patient for s in validation}
    train = tuple(s for s in samples if s.patient not in held_out)
    for side in (train, validation):
        if len({s.kind == NORMAL for s in side}) < 2:
            raise InvalidValueError(f"block {block} of {blocks} leaves a side without both classes")
    return Split(train, tuple(sorted(validation, key=lambda s: s.path)))


def split_by_fold(samples: list[Sample], fold: int, folds: int, seed: int) -> Split:
    """Hold out one of `folds` parts of the patients, from 1, with its share of every finding.

    Raises:
        InvalidValueError: `fold` is not from 1 to `folds`, or there are fewer patients of a kind.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes half a second

    if not 1 <= fold <= folds or folds < 2:
        raise InvalidValueError(f"fold {fold} of {folds} does not exist")
    kinds, patients = [s.kind for s in samples], [s.patient for s in samples]
    for kind in sorted(set(kinds)):
        count = len({s.patient for s in samples if s.kind == kind})
        if count < folds:
            raise InvalidValueError(
                f"{folds} folds need at least as many patients of each kind, and {count} are {kind}"
            )
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    train, held_out = list(parts.split(np.zeros(len(samples)), kinds, patients))[fold - 1]
    return Split(tuple(samples[i] for i in train), tuple(samples[i] for i in held_out))


def _number(patient: str) -> tuple[int, str]:
    """The number that a patient's name ends in, for sorting."""
    match = re.search(r"\d+$", patient)
    return (int(match.group()) if match else 0, patient)


def phantom_samples(count: int, first_seed: int = 0) -> list[Sample]:
    """Drawn stand-ins, alternately normal and pneumonia, each its own patient."""
    return [
        Sample(f"phantom/{seed}", "bacterial" if seed % 4 == 1 else "viral", f"phantom{seed}")
        if seed % 2
        else Sample(f"phantom/{seed}", NORMAL, f"phantom{seed}")
        for seed in range(first_seed, first_seed + count)
    ]


def load_pixels(
    data: Path | None,
    samples: Iterable[Sample],
    spec: InputSpec,
    description: str,
    store: Path | None = None,
) -> NDArray[np.uint8]:
    """All samples through the device's own preprocessing: (n, height, width, 1) uint8.

    With `store`, the array is that file, mapped: the system reads its pages as they are used.

    Raises:
        UnreadableError: Some cannot be read; it names every one, after all were tried.
    """
    samples = list(samples)
    shape = (len(samples), spec.height, spec.width, 1)
    pixels: NDArray[np.uint8] = np.empty(0, np.uint8)
    if store is None:
        pixels = np.empty(shape, np.uint8)
    else:
        pixels = np.lib.format.open_memmap(store, mode="w+", dtype=np.uint8, shape=shape)
    failed: dict[str, str] = {}

    def read(i: int) -> None:
        try:
            pixels[i] = prepare(read_bytes(data, samples[i]), spec)
        except (ImageError, OSError) as error:
            failed[samples[i].path] = str(error)

    with ThreadPoolExecutor(usable_processors()) as pool:  # Pillow decodes outside of the lock
        done = pool.map(read, range(len(samples)))
        for _ in tqdm(done, description, len(samples), unit="image", leave=False, disable=None):
            pass
    if failed:
        raise UnreadableError({s.path: failed[s.path] for s in samples if s.path in failed})
    return pixels


def read_bytes(data: Path | None, sample: Sample) -> bytes:
    """File content of a sample; phantoms are drawn."""
    drawn = phantom_file(sample.path, pneumonia=sample.kind != NORMAL)
    if drawn is not None:
        return drawn
    if data is None:
        raise InvalidValueError(f"{sample.path} needs --data DIR")
    return (data / sample.path).read_bytes()


def fingerprint(samples: Iterable[Sample], parts: Iterable[NDArray[np.uint8]]) -> str:
    """SHA-256 over names, kinds and prepared pixels: the same data give the same string."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.path}\t{sample.kind}\n".encode())
    for pixels in parts:
        for start in range(0, len(pixels), 256):
            digest.update(np.ascontiguousarray(pixels[start : start + 256]).data)
    return digest.hexdigest()


def shown_by(kind: str) -> tuple[str, ...]:
    """The findings of a film's kind; () of a normal one."""
    return () if kind == NORMAL else tuple(kind.split(SEVERAL))


def has_findings(samples: Iterable[Sample], labels: tuple[str, ...]) -> NDArray[np.bool_]:
    """(n, labels - 1): which samples show which of the labels after the first.

    Args:
        samples: Films.
        labels: Of the model, normal first. Bacterial and viral pneumonia are "pneumonia", where
            that is a label.

    Raises:
        InvalidValueError: A sample shows what is no label (type unknown in a three-class recipe).
    """
    index = {label: i for i, label in enumerate(labels[1:])}
    if "pneumonia" in index:
        index |= {"bacterial": index["pneumonia"], "viral": index["pneumonia"]}
    rows = [shown_by(s.kind) for s in samples]
    for name in sorted({name for row in rows for name in row} - set(index)):
        raise InvalidValueError(
            f"films of kind {name!r} have no place among the labels {', '.join(labels)}: "
            "data.findings of the recipe says what they are called here, or leaves them out"
        )
    found = np.zeros((len(rows), len(index)), bool)[:, : len(labels) - 1]
    for i, row in enumerate(rows):
        found[i, [index[name] for name in row]] = True
    return found


def check_labels(samples: Iterable[Sample], labels: tuple[str, ...]) -> None:
    """Raise InvalidValueError where a film has no label, or a label no film."""
    found = has_findings(samples, labels)
    there = [not bool(found.any(axis=1).all())]
    there += [bool(column.any()) for column in found.T]
    missing = [label for label, is_there in zip(labels, there, strict=True) if not is_there]
    if missing:
        raise InvalidValueError(f"no training film is {', '.join(missing)}: name more data")


def targets(samples: Iterable[Sample], labels: tuple[str, ...]) -> NDArray[np.int64]:
    """(n,) index of the one label of each sample.

    Raises:
        InvalidValueError: As `has_findings`, or a sample has several.
    """
    samples = list(samples)
    found = has_findings(samples, labels)
    for sample, count in zip(samples, found.sum(axis=1), strict=True):
        if count > 1:
            raise InvalidValueError(
                f"{sample.path} shows {sample.kind}: where labels exclude each other (softmax) a "
                'film has one; network.activation = "sigmoid" judges each for itself'
            )
    return np.asarray(found @ np.arange(1, len(labels)), np.int64)
