"""A data set is a table of films: one reader for folders and CSV files, of one source or of many.

`--data` names, once or several times,

- a folder in the public layout, DATA/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg,
- a single part of it, DATA/{NORMAL or NO_FINDING,PNEUMONIA}/*, or
- a CSV file with the columns `path` (relative to the file) and `finding` or `label` (normal, or
  what the film shows, several with `|` between them), and any of
  `patient`, `source`, `split`, `view`, `age`, `contrast`, `crop`, `boxes`, `same_film`, `licence`.
  Others are left alone.

Patients and same films are never torn apart: films of one patient, and films that are said to be
the same one, carry one name in `Sample.patient`, over all data sets.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.population import ADULT
from train.data.dataset import (
    CLASS_FOLDERS,
    IMAGE_SUFFIXES,
    NORMAL,
    NORMAL_FOLDERS,
    POSITIVE_FOLDER,
    SEVERAL,
    Sample,
    kind_of,
    patient_of,
)
from train.data.graft import Box

PARTS = ("train", "val", "test")
_SPLITS = {"": "", "train": "train", "val": "val", "validation": "val", "test": "test",
           "external": "external"}  # fmt: skip
_CONTRASTS = ("", "normal", "inverted")
_OLDEST = 120.0
_LONGEST_LICENCE = 200
_CROPS = ("", "whole", "lungs")


@dataclasses.dataclass(frozen=True)
class Film:
    """One row: a labelled film and what is known of it."""

    sample: Sample  # its kind is the finding; its path is relative to `Table.root`
    source: str  # hospital or collection; the data set's name where the table says nothing
    part: str = ""  # train | val | test | external, as the data set splits itself; "" where not
    view: str = ""  # AP | PA, as the source says
    age: float | None = None  # years
    inverted: bool = False  # air is bright
    crop: str = "whole"  # whole | lungs: the lungs alone, on black
    boxes: tuple[Box, ...] = ()  # x, y, width, height of findings, in shares of the film
    licence: str = ""  # as the table states it


def shows_a_child(film: Film | None, children: Collection[str]) -> bool:
    """By its age, or, where nobody stated it, by whether its source is one of children's films."""
    if film is None:
        return "" in children
    return film.source in children if film.age is None else film.age < ADULT


@dataclasses.dataclass(frozen=True)
class Table:
    """All films of all data sets that were named."""

    root: Path
    films: tuple[Film, ...]
    guessed: int  # films whose patient is only a guess from the file's name
    same: tuple[tuple[str, str], ...] = ()  # paths that are said to be the same film

    def samples(self, parts: Iterable[str]) -> list[Sample]:
        """The samples of some parts, sorted by path."""
        wanted = set(parts)
        return sorted((f.sample for f in self.films if f.part in wanted), key=lambda s: s.path)


def add_data_sets(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """`--data`, which may be given several times; `arguments.data` is a list of paths."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        required=required,
        metavar="DATA",
        help="folder with train/, val/ and test/, or a CSV file (path, finding, patient, source, "
        "…); may be given several times",
    )


def add_fields(parser: argparse.ArgumentParser, told: str, option: str = "--fields") -> None:
    """Files of lung fields, given several times: `arguments.fields` is a list of paths."""
    parser.add_argument(
        option, type=Path, action="append", default=[], metavar="FILE.npz", help=told
    )


def read_table(
    data: Sequence[Path], findings: Mapping[str, str] | None = None, patient_pattern: str = ""
) -> Table:
    """Read data sets.

    Args:
        data: Folders and CSV files; see the module. Sample paths are relative to the only folder
            (or the folder of the only CSV file), or to the folder that all have in common.
        findings: What a finding is called here: {"opacity": "pneumonia"}; "" leaves its films
            out. A finding that is not named keeps its own name. Of a film with several (`|`
            between them) those that are left out, or count as normal, are dropped.
        patient_pattern: What in a path names the patient, where no column does: `patient_of`.

    Raises:
        InvalidValueError: Nothing of these forms, a file that is missing or listed twice, or a
            value that is none of those that a column takes; the message names file and line.
    """
    if not data:
        raise InvalidValueError("no data: name a folder or a CSV file with --data")
    for path in data:
        if not path.exists():
            raise InvalidValueError(
                f"{path}: No such file or folder; expected a folder with {{train,val,test}}/"
                f"{{{','.join(CLASS_FOLDERS)}}}, one such part, or a CSV file"
            )
    folders = [path if path.is_dir() else path.parent for path in data]
    root = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    if len(data) == 1:
        root = folders[0]
    films: list[Film] = []
    same: list[tuple[str, str]] = []
    guessed = 0
    for path, folder in zip(data, folders, strict=True):
        prefix = (
            "" if len(data) == 1 else Path(os.path.abspath(folder)).relative_to(root).as_posix()
        )
        rows = (
            _read_folder(path, patient_pattern)
            if path.is_dir()
            else _read_csv(path, patient_pattern)
        )
        for row in rows:
            film, known, twin = row
            sample = film.sample
            guessed += not known
            placed = dataclasses.replace(sample, path=_join(prefix, sample.path))
            films.append(dataclasses.replace(film, sample=placed))
            if twin:
                same.append((placed.path, _join(prefix, twin)))
    _check_unique(films)
    films = list(_as_one_patient(films, same))
    called = findings or {}
    named = (
        dataclasses.replace(f, sample=dataclasses.replace(f.sample, kind=kind))
        if (kind := _called(f.sample.kind, called)) != f.sample.kind
        else f
        for f in films
    )
    return Table(root, tuple(f for f in named if f.sample.kind), guessed, tuple(same))


def _called(kind: str, names: Mapping[str, str]) -> str:
    """What a film shows, in a recipe's names; "" of one that is left out."""
    if kind in names:
        return names[kind]
    if SEVERAL not in kind:
        return kind
    parts = [names.get(part.strip(), part.strip()) for part in kind.split(SEVERAL)]
    # A finding that is left out, or counts as normal, says nothing beside another one.
    shown = dict.fromkeys(part for part in parts if part not in ("", NORMAL))
    return SEVERAL.join(shown) or (NORMAL if NORMAL in parts else "")


def told_guesses(table: Table) -> str:
    """What somebody has to know of patients that are guesses; "" where none is."""
    if not table.guessed:
        return ""
    told = (
        f"{table.guessed} of {len(table.films)} films: the patient is a guess from the file's "
        "name; a column `patient` would say, or a pattern (data.patient_pattern)"
    )
    alike = alike_names(film.sample for film in table.films)
    if alike:
        first = next(iter(alike.values()))
        told += (
            f". {sum(map(len, alike.values()))} of them share a beginning with others, as "
            f"{first[0]} and {first[1]} do: if these are one patient's, training and validation "
            f"will share patients; --patient-pattern '{_example(first)}' would keep them together"
        )
    return told


def alike_names(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """Films that stand for themselves as patients and differ in what ends their names alone.

    By the common beginning: `pat012` of pat012_view1.jpg and pat012_view2.jpg. Names that are a
    number alone (`00000013`, `img_13`) have no such beginning.
    """
    found: dict[str, list[str]] = {}
    for sample in samples:
        stem = Path(sample.path).stem
        if sample.patient != stem:
            continue
        match = re.fullmatch(r"(.*\d.*?)[ _.\-]+[A-Za-z]*\d*", stem)
        if match:
            found.setdefault(match[1], []).append(Path(sample.path).name)
    return {beginning: names for beginning, names in found.items() if len(names) > 1}


def _example(names: Sequence[str]) -> str:
    """A pattern that takes what such names have in common for the patient."""
    beginning = re.split(r"[ _.\-]", names[0])[0]
    return "(" + re.sub(r"\d+", r"\\d+", re.escape(beginning)) + ")"


def _join(prefix: str, path: str) -> str:
    return f"{prefix}/{path}" if prefix and prefix != "." else path


Row = tuple[Film, bool, str]  # the film, whether its patient is known, the path of the same film


def _read_folder(folder: Path, pattern: str) -> Iterator[Row]:
    parts = [(part, folder / part) for part in PARTS if (folder / part).is_dir()]
    classes = (*NORMAL_FOLDERS, POSITIVE_FOLDER)
    found = 0
    for part, place in parts or [("", folder)]:
        for name in classes:
            files = sorted((place / name).iterdir()) if (place / name).is_dir() else []
            for file in files:
                if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
                    continue
                found += 1
                path = file.relative_to(folder).as_posix()
                patient = patient_of(Path(path), pattern)
                sample = Sample(path, kind_of(file.name, name), patient)
                # A name of no known form stands for itself, which is a guess.
                yield Film(sample, folder.name, part), patient != file.stem, ""
    if not found:
        raise InvalidValueError(
            f"no images in {folder}; expected {folder}/{{train,val,test}}/"
            f"{{{','.join(CLASS_FOLDERS)}}}/*.jpeg, one such part, or a CSV file"
        )


def _read_csv(path: Path, pattern: str) -> Iterator[Row]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidValueError(f"{path}: {error}") from error
    columns = set(rows[0]) if rows else set()
    kind = "finding" if "finding" in columns else "label"
    if not {"path", kind} <= columns:
        raise InvalidValueError(
            f"{path} needs the columns path and finding (or label); it has "
            f"{', '.join(sorted(map(str, columns))) or 'none'}"
        )
    for number, row in enumerate(rows, 2):
        cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        try:
            yield _row(path, cells, kind, pattern)
        except InvalidValueError as error:
            raise InvalidValueError(f"{path}, line {number}: {error}") from error


def _row(path: Path, cells: Mapping[str, str], kind: str, pattern: str) -> Row:
    name = cells["path"]
    if not name or not (path.parent / name).is_file():
        raise InvalidValueError(f"there is no file {path.parent / name}")
    if not cells[kind]:
        raise InvalidValueError(f"{name} has no {kind}")
    patient = cells.get("patient", "")
    guess = patient_of(Path(name), pattern)
    film = Film(
        Sample(name, cells[kind], patient or guess),
        cells.get("source") or path.stem,
        _SPLITS[_one_of(cells, "split", tuple(_SPLITS))],
        cells.get("view", "").upper(),
        _age(cells.get("age", "")),
        _one_of(cells, "contrast", _CONTRASTS) == "inverted",
        _one_of(cells, "crop", _CROPS) or "whole",
        _boxes(cells.get("boxes", "")),
        cells.get("licence", "")[:_LONGEST_LICENCE],
    )
    # A name of no known form stands for itself, which is a guess.
    is_known = bool(patient) or guess != Path(name).stem
    return film, is_known, cells.get("same_film", "")


def _one_of(cells: Mapping[str, str], column: str, known: tuple[str, ...]) -> str:
    value = cells.get(column, "").lower()
    if value not in known:
        listed = ", ".join(k for k in known if k)
        raise InvalidValueError(f"{column} {value!r} is none of {listed}")
    return value


def _age(text: str) -> float | None:
    """Years; None where it is not told, or is nobody's (registers hold 155 and 999)."""
    if not text:
        return None
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if math.isnan(age) or age < 0:
        raise InvalidValueError(f"age {text!r} is no number of years")
    return age if age <= _OLDEST else None


def _boxes(text: str) -> tuple[Box, ...]:
    """From "x y width height;…", in shares of the film."""
    boxes = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        try:
            x, y, width, height = (float(v) for v in part.split())
        except ValueError as error:
            raise InvalidValueError(f"box {part!r} is not x y width height") from error
        inside = x >= 0 and y >= 0 and width > 0 and height > 0
        if not (inside and x + width <= 1.01 and y + height <= 1.01):
            raise InvalidValueError(f"box {part!r} does not lie in a film of 1 by 1")
        boxes.append((x, y, width, height))
    return tuple(boxes)


def _check_unique(films: Sequence[Film]) -> None:
    seen: set[str] = set()
    for film in films:
        if film.sample.path in seen:
            raise InvalidValueError(f"{film.sample.path} is listed twice")
        seen.add(film.sample.path)


def _as_one_patient(films: Sequence[Film], same: Iterable[tuple[str, str]]) -> Iterator[Film]:
    """Films that are said to be one film belong to one patient, whatever each is called."""
    patients = {film.sample.path: film.sample.patient for film in films}
    leader: dict[str, str] = {}

    def find(patient: str) -> str:
        while patient in leader:
            patient = leader[patient]
        return patient

    for one, other in same:
        if other not in patients:
            continue  # of a data set that was not named
        a, b = sorted((find(patients[one]), find(patients[other])))
        if a != b:
            leader[b] = a
    for film in films:
        patient = find(film.sample.patient)
        yield dataclasses.replace(film, sample=dataclasses.replace(film.sample, patient=patient))
