"""How small a JPEG may be decoded: what each rule saves, and what it costs in scores and in AUC.

A decoder that leaves out the high frequencies of its blocks gives a film at 1/2, 1/4 or 1/8 scale
for less work. The rule says how many times the model's size a film must keep. Every rule is held
against the one before 5.2.0, two times, on the same films: as they are stored, and stored again at
sizes that other machines have. Believe bundles that have not learned from these films: the others
know them all.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks.arguments import add_data, add_repetitions, bundle_path
from benchmarks.labelled import read_labelled
from benchmarks.results import median_ratio, write_results
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.images.file import read_file
from edge_runtime.images.grey import read_grey
from edge_runtime.images.preprocess import least_size, resize
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import auc_difference, auc_interval

BEFORE = 2.0
RULES = (1.0, 1.25, 1.5, BEFORE, math.inf)  # times the model's size; the last decodes everything
_WHOLE = (10**6, 10**6)  # no film is so large
_SHORTER_SIDES = (500, 2500)  # pixels of films that are stored again
_QUALITY = 90


@dataclasses.dataclass(frozen=True)
class DecodingRow:
    bundle: str
    films: str
    times: float | None  # the model's size; None: at full size
    auc: Estimate
    difference: PairedDifference  # of the AUC to the rule of two times
    shift: float  # root mean square of the logit's change
    largest_shift: float
    time: Estimate  # decoding and resizing, as a ratio to the rule of two times


@dataclasses.dataclass(frozen=True)
class DecodingResult:
    images: int
    positive: int
    rows: tuple[DecodingRow, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks decoding default bundles/unseen-children "
        "--data chest_xray_originals --output build/decoding"
    )
    parser.add_argument(
        "bundles", nargs="+", type=bundle_path, metavar="BUNDLE",
        help=f"folders, or {', '.join(SHIPPED)}",
    )  # fmt: skip
    add_data(parser, "folder of classes, of JPEG films at the size that they were stored")
    add_repetitions(parser, 5)


def run(arguments: argparse.Namespace) -> int:
    labelled = read_labelled(arguments.data)
    stored = [read_file(str(film.path)) for film in labelled]
    positive = np.array([film.positive for film in labelled], np.int64)
    sets = {"as stored": stored, "stored at other sizes": [_again(d, i) for i, d in
                                                           enumerate(stored)]}  # fmt: skip
    rows = [
        row
        for bundle in arguments.bundles
        for name, films in sets.items()
        for row in _measure(bundle, name, films, positive, arguments.repetitions)
    ]
    result = DecodingResult(len(stored), int(positive.sum()), tuple(rows))
    write_results(arguments.output, "decoding", result, to_markdown(result))
    return 0


def _again(data: bytes, number: int) -> bytes:
    """The film at a drawn size, not above its own, as another machine might have stored it."""
    film = read_grey(data, _WHOLE)[0]
    low, high = np.log(_SHORTER_SIDES)
    side = float(np.exp(np.random.default_rng(number).uniform(low, high)))
    share = min(1.0, side / min(film.size))
    size = (max(1, round(film.width * share)), max(1, round(film.height * share)))
    buffer = io.BytesIO()
    film.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _measure(
    bundle: Path, name: str, films: list[bytes], positive: NDArray[np.int64], repetitions: int
) -> list[DecodingRow]:
    screener = Screener.load(bundle, threads=1, force=True)
    spec = screener.bundle.manifest.input

    def prepared(data: bytes, times: float) -> NDArray[np.uint8]:
        least = _WHOLE if math.isinf(times) else least_size(spec, times)
        return resize(read_grey(data, least)[0], spec)

    logits = {
        times: np.array([
            screener.logits(screener.run(prepared(data, times)))[0]
            for data in tqdm(films, f"{bundle.name}, {name}, {times} times", disable=None)
        ])
        for times in RULES
    }  # fmt: skip
    seconds: dict[float, list[float]] = {times: [] for times in RULES}
    for number in range(repetitions):
        for times in RULES if number % 2 else RULES[::-1]:
            begin = time.perf_counter()
            for data in films:
                prepared(data, times)
            seconds[times].append(time.perf_counter() - begin)
    before = logits[BEFORE]
    return [
        DecodingRow(
            bundle.name,
            name,
            None if math.isinf(times) else times,
            auc_interval(positive, found),
            auc_difference(positive, before, found),
            float(np.sqrt(((found - before) ** 2).mean())),
            float(np.abs(found - before).max()),
            median_ratio(np.array(seconds[times]) / np.array(seconds[BEFORE])),
        )
        for times, found in logits.items()
    ]


def to_markdown(result: DecodingResult) -> str:
    worst = min(
        (row for row in result.rows if row.times is not None), key=lambda r: r.difference.low
    )
    lines = [
        f"{result.images} films, {result.positive} with pneumonia. The least flattering first: "
        f"{worst.bundle}, {worst.films}, at {worst.times} times may lose up to "
        f"{-worst.difference.low:.4f} of AUC (95 % limit). Time is that of decoding and resizing.",
        "",
        "| bundle | films | at least, times the model's size | AUC | difference to two times | "
        "shift of the logit, rms | largest | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        rule = "full size" if row.times is None else f"{row.times:g}"
        d = row.difference
        lines.append(
            f"| {row.bundle} | {row.films} | {rule} | {row.auc:.4f} | {d.difference:+.4f} "
            f"({d.low:+.4f} to {d.high:+.4f}) | {row.shift:.3f} | {row.largest_shift:.2f} | "
            f"{row.time:.3f} |"
        )
    return "\n".join([*lines, ""])
