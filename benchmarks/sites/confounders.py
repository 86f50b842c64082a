"""Does the guard see a machine that follows the label? Confounders put into films on purpose.

The label of a film is a coin's, so that there is nothing to learn but the confounder: films are
made unsharp, compressed, marked in a corner, or lighter, or taken from one view, and this follows
the label with a strength from 0.5 (not at all) to 1 (always). Whatever is believed then is a false
belief. The last row is the other way about: what follows the label is the side of the film, which
changes no fact of it and which the features know. What is refused there is a false alarm.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from tqdm import tqdm

from benchmarks.arguments import add_data
from benchmarks.results import write_results
from benchmarks.sites.adaptation import films_of
from edge_runtime.adapt.film import LabelledFilm, SeenFilm, as_facts, facts_of
from edge_runtime.adapt.guard import guard
from edge_runtime.adapt.prove import Labelled, prove
from edge_runtime.adapt.ridge import Basis
from edge_runtime.basics.in_order import map_in_order
from edge_runtime.basics.processors import default_threads
from edge_runtime.errors import ImageError
from edge_runtime.images.film_facts import FULL_SIZE
from edge_runtime.images.grey import read_grey
from edge_runtime.screener import Screener

STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
VIEW, SIDE = "view", "side (no confounder)"
_MACHINES = ("A", "B")


def _jpeg(image: Image.Image, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _marked(image: Image.Image) -> bytes:
    image = image.copy()
    side = max(8, image.width // 14)
    box = (side // 2, side // 2, side * 3 // 2, side * 3 // 2)
    ImageDraw.Draw(image).rectangle(box, fill=255)
    return _jpeg(image)


# What is done to a film; every film is written as JPEG anew, so that this alone differs.
CONFOUNDERS: dict[str, Callable[[Image.Image], bytes]] = {
    "sharpness": lambda i: _jpeg(i.filter(ImageFilter.GaussianBlur(max(0.7, max(i.size) / 700)))),
    "JPEG quality": lambda i: _jpeg(i, 40),
    "marker in the corner": _marked,
    "machine": lambda i: _jpeg(i.point(lambda v: 255 * (v / 255) ** 0.8)),
    SIDE: lambda i: _jpeg(ImageOps.mirror(i)),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One confounder at one strength."""

    confounder: str
    strength: float
    draws: int
    believed: float  # shares of the draws
    telling: float  # facts were found to tell the label
    named: float  # the strongest fact is the one that was put in
    gain: float  # mean, in AUC, as cross-validation saw it


@dataclasses.dataclass(frozen=True)
class ConfounderResult:
    model: str
    films: int
    cells: tuple[Cell, ...]


_NAMES = {
    "sharpness": ("sharpness", "bytes per pixel"),
    "JPEG quality": ("compression", "bytes per pixel"),
    "marker in the corner": ("white in the corners",),
    "machine": ("machine", "mean"),
    VIEW: ("view",),
    SIDE: (),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("bundle", help="a folder, or the name of a shipped one")
    add_data(parser, "a table (CSV)")
    parser.add_argument("--source", required=True, help="of the table; with films of AP and PA")
    parser.add_argument("--finding", action="append", required=True, help="whose films are used")
    parser.add_argument("--films", type=int, default=200, help="of a draw")
    parser.add_argument("--draws", type=int, default=20)


def run(arguments: argparse.Namespace) -> int:
    run_confounders(
        arguments.bundle,
        arguments.data,
        arguments.output,
        arguments.source,
        arguments.finding,
        arguments.films,
        arguments.draws,
    )
    return 0


def run_confounders(
    bundle: str,
    data: Path,
    output: Path,
    source: str,
    findings: Sequence[str],
    wanted: int = 200,
    draws: int = 20,
) -> ConfounderResult:
    """Measure, write confounders.json and confounders.md."""
    films = films_of(data, source, findings)
    screener = Screener.load(bundle, parallel=default_threads(), threads=1, force=True)
    plain = _seen(screener, films, _jpeg, "plain")
    cells = []
    for name, change in CONFOUNDERS.items():
        changed = _seen(screener, films, change, name)
        if name == "machine":  # as its table would tell
            plain_told = [_told(f, _MACHINES[0]) for f in plain]
            changed = [_told(f, _MACHINES[1]) for f in changed]
            cells += _cells(name, plain_told, changed, wanted, draws, screener)
        else:
            cells += _cells(name, plain, changed, wanted, draws, screener)
    cells += _cells(VIEW, plain, None, wanted, draws, screener)
    manifest = screener.bundle.manifest
    model = f"{manifest.name} {manifest.version}, {screener.engine_name}"
    result = ConfounderResult(model, wanted, tuple(cells))
    write_results(output, "confounders", result, markdown(result))
    return result


def _seen(
    screener: Screener,
    films: Sequence[LabelledFilm],
    change: Callable[[Image.Image], bytes],
    what: str,
) -> list[SeenFilm]:
    def look(film: LabelledFilm) -> SeenFilm | None:
        try:
            grey, _ = read_grey(Path(film.path).read_bytes(), FULL_SIZE)
        except ImageError:
            return None
        data = change(grey)
        found = screener.examine(data)
        assert found.logit is not None and found.features is not None
        numbers, words = facts_of(data)
        return SeenFilm(film, found.logit, found.features, None, numbers, {**words, **film.told})

    found = map_in_order(look, films, default_threads())
    bar = tqdm(found, what, len(films), unit="film", leave=False, disable=None)
    return [f for f in bar if f is not None]


def _told(film: SeenFilm, machine: str) -> SeenFilm:
    return dataclasses.replace(film, words={**film.words, "machine": machine})


def _cells(
    name: str,
    plain: Sequence[SeenFilm],
    changed: Sequence[SeenFilm] | None,
    wanted: int,
    draws: int,
    screener: Screener,
) -> list[Cell]:
    cells = []
    for strength in tqdm(STRENGTHS, name, leave=False, disable=None):
        found = []
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            chosen, label = _drawn(plain, changed, wanted, strength, rng)
            logits = np.array([f.logit for f in chosen])
            data = Labelled(
                logits,
                np.array([f.features for f in chosen], np.float64),
                label,
                tuple(f.film.patient for f in chosen),
                1 / screener.bundle.manifest.calibration.temperature,
            )
            proven = prove(Basis(data.features), data, repeats=2)
            found.append(guard(label, logits, proven, as_facts(chosen), data.patients))
        cells.append(
            Cell(
                name,
                strength,
                draws,
                float(np.mean([g.refusal is None for g in found])),
                float(np.mean([g.telling for g in found])),
                float(np.mean([g.strongest in _NAMES[name] for g in found])),
                float(np.mean([g.gain.difference for g in found])),
            )
        )
    return cells


def _drawn(
    plain: Sequence[SeenFilm],
    changed: Sequence[SeenFilm] | None,
    wanted: int,
    strength: float,
    rng: np.random.Generator,
) -> tuple[list[SeenFilm], np.ndarray]:
    """Films, and labels that the confounder follows."""
    order = rng.permutation(len(plain))[:wanted]
    if changed is None:  # the view says the label, as far as it does
        label = np.array(
            [int((plain[i].words.get("view") == "AP") == (rng.random() < strength)) for i in order],
            np.int64,
        )
        return [plain[i] for i in order], label
    label = (rng.random(len(order)) < 0.5).astype(np.int64)
    follows = rng.random(len(order)) < strength
    use = np.where(follows, label, 1 - label)
    return [(changed if u else plain)[i] for u, i in zip(use, order, strict=True)], label


def markdown(result: ConfounderResult) -> str:
    """The table as a page."""
    lines = [
        f"{result.model}; {result.films} films a draw, labels of a coin. Share of draws in which "
        "the adaptation was believed; in brackets, in which facts were found to tell the label. "
        "Strength 0.5 is no confounder at all.",
        "",
        "| what follows the label | " + " | ".join(f"{s:g}" for s in STRENGTHS) + " |",
        "|---|" + "---|" * len(STRENGTHS),
    ]
    for name in dict.fromkeys(cell.confounder for cell in result.cells):
        cells = [c for c in result.cells if c.confounder == name]
        told = (f"{c.believed:.2f} ({c.telling:.2f})" for c in cells)
        lines.append(f"| {name} | " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"
