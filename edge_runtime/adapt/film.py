"""One labelled film: what the model saw of it, and what its file alone tells."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.in_order import map_in_order
from edge_runtime.errors import ImageError
from edge_runtime.images.file import read_file
from edge_runtime.images.film_facts import FULL_SIZE, corner_facts, film_facts
from edge_runtime.images.grey import read_grey
from edge_runtime.images.memory import turn_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.screener import Screener

COMPRESSION = "compression"  # mean step of a JPEG's luminance table; 0 of what has none
_RAREST = 5  # films that share a value, or it is no fact of its own


@frozen
class LabelledFilm:
    """What the labels' table says of one film."""

    path: str
    positive: bool
    patient: str
    told: Mapping[str, str]  # further columns of the table: facts, by name
    date: str = ""  # YYYY-MM-DD


@frozen
class SeenFilm:
    """A film that the model may judge."""

    film: LabelledFilm
    logit: float  # log odds of disease before temperature, of the bundle alone
    features: NDArray[np.float32]  # (channels,) pooled
    ood_score: float | None
    numbers: Mapping[str, float]  # facts of the file
    words: Mapping[str, str]


@frozen
class Seen:
    kept: tuple[SeenFilm, ...]
    refused: int
    unreadable: int
    distances: tuple[float, ...]  # of all films that have one


def look_at(
    screener: Screener,
    films: Sequence[LabelledFilm],
    workers: int,
    step: Callable[[], object] = lambda: None,
) -> Seen:
    """Screen the films, and measure what their files tell.

    Args:
        screener: Judges them; without a correction of its own.
        films: What to look at.
        workers: Threads.
        step: Called after each film.
    """

    def look(film: LabelledFilm) -> SeenFilm | str | tuple[str, float | None]:
        try:
            with turn_of(film.path):
                data = read_file(film.path)
        except ImageError:
            return "error"
        examination = screener.examine(data, film.path)
        record, distance = examination.record, examination.record.quality.ood_score
        if record.status != "ok" or examination.features is None or examination.logit is None:
            return (record.status, distance)
        try:
            numbers, words = facts_of(data)
        except ImageError:  # it fits no memory at full size
            return ("error", distance)
        words = {**words, **film.told}
        return SeenFilm(film, examination.logit, examination.features, distance, numbers, words)

    kept: list[SeenFilm] = []
    distances: list[float] = []
    refused = unreadable = 0
    for found in map_in_order(look, films, workers):
        step()
        if isinstance(found, SeenFilm):
            kept.append(found)
            distance = found.ood_score
        else:
            status, distance = found if isinstance(found, tuple) else (found, None)
            refused += status == "rejected"
            unreadable += status != "rejected"
        if distance is not None:
            distances.append(distance)
    return Seen(tuple(kept), refused, unreadable, tuple(distances))


def facts_of(data: bytes) -> tuple[dict[str, float], dict[str, str]]:
    """Facts of a film's file that are no medicine: numbers, and words.

    Nothing here names a patient: of DICOM's header the machine, the view, the age and the date.

    Args:
        data: The file.

    Raises:
        ImageError: It cannot be decoded at full size.
    """
    with turn_of(data):
        grey, facts = read_grey(data, FULL_SIZE)
        numbers = {**film_facts(len(data), grey), **corner_facts(grey)}
    numbers[COMPRESSION] = _compression(data)
    words = {}
    if facts.age_years is not None:
        numbers["age"] = facts.age_years
    if facts.date is not None:
        numbers["date"] = float(facts.date)
    for name, value in (("view", facts.view), ("machine", facts.machine)):
        if value:
            words[name] = value
    return numbers, words


def _compression(data: bytes) -> float:
    if data[:3] != b"\xff\xd8\xff":
        return 0.0
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        tables = getattr(image, "quantization", None) or {}
    first = tables.get(0)
    return float(np.mean(first)) if first else 0.0


@frozen
class Fact:
    """One fact of all films, as numbers a linear model can read."""

    name: str
    values: NDArray[np.float64]  # (n, columns)


def as_facts(films: Sequence[SeenFilm]) -> tuple[Fact, ...]:
    """The facts that differ between films; a column of the table goes before what a file says."""
    found: list[Fact] = []
    words = {name for film in films for name in film.words}
    numbers = {name for film in films for name in film.numbers} - words
    for name in sorted(numbers):
        column = np.array([film.numbers.get(name, np.nan) for film in films])
        _add(found, name, [*_with_gaps(column)])
    for name in sorted(words):
        told = [film.words.get(name, "").strip() for film in films]
        as_numbers = _numbers(told)
        if as_numbers is not None:
            _add(found, name, [*_with_gaps(as_numbers)])
            continue
        levels = sorted(set(told))
        counted = [np.array([value == level for value in told], np.float64) for level in levels]
        _add(found, name, [c for c in counted if c.sum() >= _RAREST])
    return tuple(found)


def _add(found: list[Fact], name: str, columns: Sequence[NDArray[np.float64]]) -> None:
    kept = [c for c in columns if float(np.ptp(c)) > 0]
    if kept:
        found.append(Fact(name, np.column_stack(kept)))


def _with_gaps(column: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """A column, its gaps filled, and where they were: that can tell the label too."""
    gaps = np.isnan(column)
    if gaps.all():
        return []
    return [np.where(gaps, np.nanmean(column), column), gaps.astype(np.float64)]


def _numbers(told: Sequence[str]) -> NDArray[np.float64] | None:
    """Numbers, NaN where nothing is told; None where they are words."""
    try:
        values = np.array([float(v) if v else np.nan for v in told])
    except ValueError:
        return None
    return values if not np.isinf(values).any() else None


def shown(path: str) -> str:
    """A film's name for people: without the folders, which can name patients' wards."""
    return os.path.basename(path)
