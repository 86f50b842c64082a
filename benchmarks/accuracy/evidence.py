"""Does the evidence map look where the disease is?

    python -m benchmarks evidence models/float/default runs/NAME --data chest_xray \
        --data hospitals/hospitals.csv --fields lung_fields_more.npz --fields lung_fields.npz \
        --sides lung_sides.npz --output docs/results/evidence

On films of patients that none of the runs learned from:

- boxes: lungs with radiologists' boxes, grafted into whole films of other patients, and whole films
  with boxes of their own (those that are the same film as lungs with boxes). How often the hottest
  cell's centre lies in a box (the pointing game of Zhang et al., Top-down Neural Attention by
  Excitation Backprop, IJCV 2018), beside how often a random cell of the lungs would; and the share
  of the positive evidence inside the boxes, beside their share of the film.
- sides: children with pneumonia. The share of positive evidence inside each lung's own hull beside
  the hulls' share of the film, and how often the most favoured cell is the hottest: a map that
  always says "middle" is a failure, whatever its share inside.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import write_results
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from edge_runtime.records.heatmap import overlay
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import proportion
from train.data.dataset import NORMAL
from train.data.fields import Fields
from train.data.graft import FIELD_SIDE, Box, cells_of
from train.data.judged import Judged, graft_judged
from train.data.mixture import cells
from train.data.source import Source
from train.data.table import Film, add_data_sets, read_table
from train.run.finished import FinishedRun, open_run

_CHUNK = 64
_SHOWN = 24


@dataclasses.dataclass(frozen=True)
class OnBoxes:
    """What a map does on films with boxes."""

    run: str
    films: str  # grafted | whole
    count: int
    hits: Estimate  # hottest cell's centre in a box
    chance: float  # the same of a random cell of the lungs
    share: float  # of the positive evidence inside the boxes, mean over films that have any
    area: float  # of the film inside the boxes


@dataclasses.dataclass(frozen=True)
class OnSides:
    """What a map does on children with pneumonia."""

    run: str
    count: int
    share: float  # of the positive evidence inside the lungs' own hulls
    area: float  # of the film inside them
    favourite: Estimate  # how often the cell that is most often the hottest is
    favourite_cell: tuple[int, int]  # row, column, from 0
    cells: int


@dataclasses.dataclass(frozen=True)
class EvidenceResult:
    boxes: tuple[OnBoxes, ...]
    sides: tuple[OnSides, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs")
    add_data_sets(parser, required=True)
    for option, told in (
        ("--fields", "lung fields; may be given several times"),
        ("--sides", "each lung's own hull; may be given several times"),
    ):
        parser.add_argument(option, type=Path, action="append", required=True, help=told)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="also draw films with map and boxes here"
    )


def run(arguments: argparse.Namespace) -> int:
    measure_evidence(
        arguments.runs,
        arguments.data,
        Fields(arguments.fields),
        Fields(arguments.sides),
        arguments.output,
        arguments.pictures,
    )
    return 0


def measure_evidence(
    runs: Sequence[Path],
    data: Sequence[Path],
    fields: Fields,
    sides: Fields,
    output: Path,
    pictures: Path | None = None,
) -> EvidenceResult:
    """Measure, write evidence.json and evidence.md, draw pictures where asked.

    Raises:
        InvalidValueError: Not a finished run, data that cannot be read, no films to judge by, or
            runs that tell patients differently.
    """
    finished = [open_run(folder) for folder in runs]
    taught = {s.patient for run in finished for s in run.splits.train}
    patterns = {run.recipe.data.patient_pattern for run in finished}
    if len(patterns) > 1:
        raise InvalidValueError(
            "the runs tell patients from file names in different ways; measure them one by one"
        )
    table = read_table(data, patient_pattern=patterns.pop())
    new = [f for f in table.films if f.sample.patient not in taught and f.part != "test"]
    source = Source.of(table)
    boxes: list[OnBoxes] = []
    beside: list[OnSides] = []
    for each in finished:
        for kind, films in _with_boxes(source, table.same, new, fields, each.input):
            maps = evidence_of(each, np.stack([f.pixels for f in films]))
            boxes.append(on_boxes(_name(each), kind, films, maps))
            if pictures:
                _draw(pictures / f"{each.folder.name}-{kind}.png", films, maps)
        children = [
            f for f in new if f.sample.kind != NORMAL and sides.of(f.sample.path) is not None
        ]
        if children:
            pixels = source.pixels([f.sample for f in children], each.input, "children")
            hulls = [sides.of(f.sample.path) for f in children]
            maps = evidence_of(each, pixels)
            beside.append(on_sides(_name(each), [h for h in hulls if h is not None], maps))
    result = EvidenceResult(tuple(boxes), tuple(beside))
    write_results(output, "evidence", result, _markdown(result))
    return result


def evidence_of(run: FinishedRun, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, h, w, 1) -> (n, rows, columns) log odds of pneumonia by region."""
    import keras  # takes seconds

    from train.network.grad_cam import evidence_maps

    model = keras.saving.load_model(run.folder / "model.keras", compile=False)
    parts = [
        evidence_maps(model, pixels[i : i + _CHUNK], run.activation)
        for i in range(0, len(pixels), _CHUNK)
    ]
    return np.concatenate(parts).astype(np.float64)


def on_boxes(run: str, kind: str, films: Sequence[Judged], maps: NDArray[np.float64]) -> OnBoxes:
    """Hits and shares of maps (n, rows, columns) on films with boxes."""
    rows, columns = maps.shape[1:]
    hits, chances, shares, areas = 0, [], [], []
    for film, evidence in zip(films, maps, strict=True):
        inside = _centres_inside(film.boxes, rows, columns)
        covered = cells_of(film.boxes, rows, columns)
        lungs = cells(film.field.astype(np.float32), rows, columns) > 0.5
        hits += bool(inside.flat[int(evidence.argmax())])
        if lungs.any():
            chances.append(float(inside[lungs].mean()))
        positive = np.maximum(evidence, 0)
        if positive.sum() > 0:
            shares.append(float((positive * covered).sum() / positive.sum()))
        areas.append(float(covered.mean()))
    return OnBoxes(
        run,
        kind,
        len(films),
        proportion(hits, len(films)),
        float(np.mean(chances)),
        float(np.mean(shares)) if shares else 0.0,
        float(np.mean(areas)),
    )


def on_sides(run: str, hulls: Sequence[NDArray[np.bool_]], maps: NDArray[np.float64]) -> OnSides:
    """Shares and favourites of maps (n, rows, columns) on films with hulls (56, 56)."""
    rows, columns = maps.shape[1:]
    inside = np.stack([cells(h.astype(np.float32), rows, columns) for h in hulls])
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(1, 2))
    some = total > 0
    share = (positive * inside).sum(axis=(1, 2))[some] / total[some]
    hottest = np.bincount(maps.reshape(len(maps), -1).argmax(axis=1), minlength=rows * columns)
    favourite = int(hottest.argmax())
    return OnSides(
        run,
        len(maps),
        float(share.mean()) if some.any() else 0.0,
        float(inside.mean()),
        proportion(int(hottest[favourite]), len(maps)),
        (favourite // columns, favourite % columns),
        rows * columns,
    )


def _with_boxes(
    source: Source,
    same: Sequence[tuple[str, str]],
    new: Sequence[Film],
    fields: Fields,
    spec: InputSpec,
) -> Iterator[tuple[str, list[Judged]]]:
    whole = [f for f in new if f.crop == "whole"]
    cut = [f for f in new if f.crop != "whole" and f.boxes]
    grafted = [f for f in graft_judged(source, cut, whole, fields, spec) if f.boxes]
    if not grafted:
        raise InvalidValueError("no films with boxes that are new to every run")
    yield "grafted", grafted
    # The same film, cut and whole, lies in the same place.
    boxes = {f.sample.path: f.boxes for f in source.films.values() if f.boxes}
    pairs = {one: boxes[other] for one, other in same if other in boxes}
    pairs |= {other: boxes[one] for one, other in same if one in boxes}
    twins = [f for f in whole if f.sample.path in pairs and fields.of(f.sample.path) is not None]
    if twins:
        pixels = source.pixels([f.sample for f in twins], spec, "films with boxes")
        empty = np.zeros((FIELD_SIDE, FIELD_SIDE), bool)
        yield (
            "whole",
            [
                Judged(film, image, own if own is not None else empty, pairs[film.sample.path])
                for film, image in zip(twins, pixels, strict=True)
                for own in [fields.of(film.sample.path)]
            ],
        )


def _centres_inside(boxes: Sequence[Box], rows: int, columns: int) -> NDArray[np.bool_]:
    y = ((np.arange(rows) + 0.5) / rows)[:, np.newaxis]
    x = ((np.arange(columns) + 0.5) / columns)[np.newaxis]
    inside = np.zeros((rows, columns), bool)
    for left, top, width, height in boxes:
        inside |= (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    return inside


def _name(run: FinishedRun) -> str:
    return f"{run.recipe.name}, seed {run.recipe.seed}, {run.input.width} px"


def _markdown(result: EvidenceResult) -> str:
    lines = [
        "Films of patients that none of the runs learned from. Hits: the hottest cell's centre "
        "lies in a radiologist's box; chance: that of a random cell of the lungs. Shares are of "
        "the positive evidence.",
        "",
        "| run | films with boxes | | hits (95 %) | chance | share inside | boxes' area |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {b.run} | {b.films} | {b.count} | {b.hits:.3f} | {b.chance:.3f} | {b.share:.3f} "
            f"| {b.area:.3f} |"
            for b in result.boxes
        ),
        "",
        "| run | children with pneumonia | share in the lungs' own hulls | hulls' area | "
        "most favoured cell is hottest (95 %) | which, of |",
        "|---|---|---|---|---|---|",
        *(
            f"| {s.run} | {s.count} | {s.share:.3f} | {s.area:.3f} | {s.favourite:.3f} | "
            f"row {s.favourite_cell[0] + 1}, column {s.favourite_cell[1] + 1}, of {s.cells} |"
            for s in result.sides
        ),
        "",
    ]
    return "\n".join(lines)


def _draw(path: Path, films: Sequence[Judged], maps: NDArray[np.float64]) -> None:
    """A sheet of films, map and boxes laid over; of radiographs, so nothing to be published."""
    from PIL import ImageDraw

    chosen = np.linspace(0, len(films) - 1, min(_SHOWN, len(films))).astype(int)
    side, across = 240, 8
    sheet = Image.new("RGB", (side * across, side * -(-len(chosen) // across)))
    for place, i in enumerate(chosen):
        picture = overlay(films[i].pixels, maps[i].astype(np.float32), 2).resize((side, side))
        draw = ImageDraw.Draw(picture)
        for x, y, w, h in films[i].boxes:
            corner = (x + w) * side, (y + h) * side
            draw.rectangle((x * side, y * side, *corner), outline=(60, 160, 255))
        sheet.paste(picture, (place % across * side, place // across * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
