"""Which films a site labelled: a table, or two folders."""

from __future__ import annotations

import datetime
import os
import re

from edge_runtime.adapt.film import LabelledFilm
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import find_inputs
from edge_runtime.site.labels import label_rows

PATIENT, DATE = "patient", "date"
_FOLDERS = {"normal": False, "pneumonia": True}
_DAY = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


@frozen
class SiteLabels:
    films: tuple[LabelledFilm, ...]
    unsure: int  # left out: nobody was sure of their label
    knows_patients: bool  # else each film is taken for a patient of its own


def read_site_labels(images: str, labels: str | None) -> SiteLabels:
    """The labelled films.

    Args:
        images: A folder; without `labels` it holds the folders "normal" and "pneumonia".
        labels: A CSV with the columns file and label; patient says which films are one person's,
            date when they were taken, and every other column is a fact for the guard.

    Raises:
        InvalidValueError: The table or the folders are not of that form.
    """
    if labels is None:
        return _from_folders(images)
    found, unsure, knows = [], 0, False
    for row in label_rows(labels, images, unsure=True):
        knows = knows or bool(row.row.get(PATIENT))
        if row.positive is None:
            unsure += 1
            continue
        date = row.row.get(DATE, "")
        told = {k: v for k, v in row.row.items() if k not in ("file", "label", PATIENT, DATE)}
        if date:
            told[DATE] = str(_day(date, f"{labels}, {row.row['file']}"))
        patient = row.row.get(PATIENT) or f"film {row.path}"
        found.append(LabelledFilm(row.path, row.positive, patient, told, date))
    return SiteLabels(tuple(found), unsure, knows)


def _from_folders(images: str) -> SiteLabels:
    found = []
    for name, positive in _FOLDERS.items():
        folder = os.path.join(images, name)
        if not os.path.isdir(folder):
            raise InvalidValueError(
                f"{images} has no folder {name!r}; give --labels FILE.csv, or sort the films into "
                f"{' and '.join(_FOLDERS)}"
            )
        found += [
            LabelledFilm(item.path, positive, f"film {item.path}", {})
            for item in find_inputs([folder])
        ]
    return SiteLabels(tuple(found), 0, False)


def set_aside(labels: SiteLabels, since: str) -> tuple[SiteLabels, SiteLabels, int]:
    """Films before a day, those from it on, and how many of people on both sides were left out.

    Args:
        labels: Films with dates.
        since: YYYY-MM-DD.

    Raises:
        InvalidValueError: No such day, a film without a date, or no film on a side.
    """
    first = _day(since, "--holdout-since")
    later = set()
    for film in labels.films:
        if not film.date:
            raise InvalidValueError(f"--holdout-since needs a date of every film; {film.path}")
        if _day(film.date, film.path) >= first:
            later.add(film.patient)
    # Earlier films of patients who are set aside would teach what is then looked at.
    kept = tuple(f for f in labels.films if f.patient not in later)
    held = tuple(f for f in labels.films if f.patient in later and _day(f.date, f.path) >= first)
    if not kept or not held:
        raise InvalidValueError(f"--holdout-since {since}: there are no films on one side of it")
    return (
        SiteLabels(kept, labels.unsure, labels.knows_patients),
        SiteLabels(held, 0, labels.knows_patients),
        len(labels.films) - len(kept) - len(held),
    )


def _day(text: str, where: str) -> int:
    match = _DAY.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError(text)
        return datetime.date(*(int(part) for part in match.groups())).toordinal()
    except ValueError as error:
        raise InvalidValueError(f"{where}: {text!r} is no day; write YYYY-MM-DD") from error
