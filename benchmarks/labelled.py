"""Labelled films to measure a bundle on: a folder of classes, or a table."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_runtime.errors import InvalidValueError
from train.data.dataset import NORMAL, kind_of, patient_of, shown_by
from train.data.table import read_table

POSITIVE_FOLDER = "PNEUMONIA"


@dataclasses.dataclass(frozen=True)
class Labelled:
    path: Path
    name: str  # relative to the folder
    positive: bool
    patient: str = ""  # as the table says, or guessed from the file's name
    kind: str = ""  # normal, or what it shows, `|` between several


def add_choice(parser: argparse.ArgumentParser) -> None:
    """`--source` and `--finding`, which choose from a table."""
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        help="of a table: films of this source alone; may be given several times",
    )
    parser.add_argument(
        "--finding",
        action="append",
        default=[],
        help="of a table: what counts as positive beside normal films; others are left out; by "
        "default all that is not normal",
    )


def read_labelled(
    data: Path,
    sources: Sequence[str] = (),
    findings: Sequence[str] = (),
    called: Mapping[str, str] | None = None,
) -> list[Labelled]:
    """The images of `data`/CLASS/*, or of the table `data`, sorted by name.

    Args:
        data: A folder with PNEUMONIA and another class, or a CSV file (see `train.data.table`).
        sources: Of a table: these alone; by default all.
        findings: Of a table: what is positive; by default everything but normal.
        called: Of a table: what its findings are called here, as for `read_table`.

    Raises:
        InvalidValueError: There is only one class; lungs that were cut out do not count.
    """
    if data.suffix.lower() == ".csv":
        return _of_table(data, sources, findings, called)
    classes = sorted(p for p in data.iterdir() if p.is_dir()) if data.is_dir() else []
    names = [p.name for p in classes]
    if POSITIVE_FOLDER not in names or len(names) < 2:
        raise InvalidValueError(
            f"{data} needs a folder {POSITIVE_FOLDER} and one for the other class, has {names}"
        )
    return [
        Labelled(
            file,
            file.relative_to(data).as_posix(),
            c.name == POSITIVE_FOLDER,
            patient_of(file),
            kind_of(file.name, c.name) if c.name == POSITIVE_FOLDER else NORMAL,
        )
        for c in classes
        for file in sorted(c.iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]


def _of_table(
    data: Path,
    sources: Sequence[str],
    findings: Sequence[str],
    called: Mapping[str, str] | None,
) -> list[Labelled]:
    table = read_table([data], called)
    films = [
        f
        for f in table.films
        if f.crop == "whole"
        and (not sources or f.source in sources)
        and (
            not findings
            or f.sample.kind == NORMAL
            or not set(findings).isdisjoint(shown_by(f.sample.kind))
        )
    ]
    if len({f.sample.kind == NORMAL for f in films}) < 2:
        raise InvalidValueError(
            f"{data} has no normal films and others"
            + (f" of {', '.join(sources)}" if sources else "")
            + (f" with {', '.join(findings)}" if findings else "")
        )
    return sorted(
        (
            Labelled(
                table.root / f.sample.path,
                f.sample.path,
                f.sample.kind != NORMAL,
                f.sample.patient,
                f.sample.kind,
            )
            for f in films
        ),
        key=lambda one: one.name,
    )
