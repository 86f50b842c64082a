"""Selective risk: what the model is worth on the films that the gate lets through, and on fewer.

A gate earns its refusals where the films that it keeps are judged better than all. Besides the
gate's own decision, films are kept in the order of the distance of their features.

Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_data
from benchmarks.labelled import add_choice, read_labelled
from benchmarks.results import write_results
from edge_runtime.basics.processors import default_threads
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import Input
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval, proportion

_SHARES = (1.0, 0.9, 0.75, 0.5)


@dataclasses.dataclass(frozen=True)
class Kept:
    """Some of the films; the AUC is null where there are fewer than two of a class."""

    which: str
    films: int
    positives: int
    share: float
    auc: Estimate | None
    error: Estimate  # share that is on the wrong side of the `balanced` threshold


@dataclasses.dataclass(frozen=True)
class SelectiveResult:
    data: str
    sources: tuple[str, ...]
    model: str
    kept: tuple[Kept, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "AUC and error on the films that a bundle's gate lets through, and on the films nearest to "
        "its training by the distance of their features."
    )
    parser.epilog = (
        "example: python -m benchmarks selective default --data hospitals/hospitals.csv "
        "--source nih --output docs/results/selective/nih"
    )
    parser.add_argument("bundle", help="a folder, or the name of a shipped one")
    add_data(parser, "labelled folder, or a table (CSV)")
    add_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    run_selective(
        arguments.bundle, arguments.data, arguments.output, arguments.source, arguments.finding
    )
    return 0


def run_selective(
    bundle: str,
    data: Path,
    output: Path,
    sources: Sequence[str] = (),
    findings: Sequence[str] = (),
) -> SelectiveResult:
    """Measure, write selective.json and selective.md.

    Raises:
        InvalidValueError: One class alone, a film that cannot be read, or a bundle without a gate.
    """
    films = read_labelled(data, sources, findings)
    labels = np.array([film.positive for film in films], dtype=np.int64)
    screener = Screener.load(bundle, parallel=default_threads(), threads=1, force=True)
    manifest = screener.bundle.manifest
    accepted, distance, probability = _screen(screener, [str(film.path) for film in films])
    wrong = (probability >= manifest.operating_point("balanced").threshold) != (labels == 1)
    kept = [_kept("as the gate decides", accepted, labels, probability, wrong)]
    order = np.argsort(distance, kind="stable")
    for share in _SHARES:
        nearest = np.zeros(len(films), bool)
        nearest[order[: round(share * len(films))]] = True
        name = "all" if share == 1 else f"nearest {share:.0%}"
        kept.append(_kept(name, nearest, labels, probability, wrong))
    model = f"{manifest.name} {manifest.version}, {screener.engine_name}"
    result = SelectiveResult(data.name, tuple(sources), model, tuple(kept))
    write_results(output, "selective", result, markdown(result))
    return result


def _screen(
    screener: Screener, paths: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """(accepted, distance, probability) of each film."""
    found: list[tuple[bool, float, float]] = []
    results = screener.examine_many((Input(path) for path in paths), default_threads())
    for result in tqdm(results, "films", len(paths), unit="image", leave=False, disable=None):
        record = result.record
        if record.probability is None or record.quality.ood_score is None:
            raise InvalidValueError(f"not screened, or no gate: {record.to_json()}")
        found.append((record.quality.accepted, record.quality.ood_score, record.probability))
    accepted, distance, probability = (np.array(column) for column in zip(*found, strict=True))
    return accepted, distance, probability


def _kept(
    which: str,
    chosen: NDArray[np.bool_],
    labels: NDArray[np.int64],
    probability: NDArray[np.float64],
    wrong: NDArray[np.bool_],
) -> Kept:
    count, positives = int(chosen.sum()), int(labels[chosen].sum())
    both = min(positives, count - positives) >= 2  # as an interval needs
    return Kept(
        which,
        count,
        positives,
        round(count / len(labels), 4),
        auc_interval(labels[chosen], probability[chosen]) if both else None,
        proportion(int(wrong[chosen].sum()), count),
    )


def markdown(result: SelectiveResult) -> str:
    """The table as a page."""
    where = f", {', '.join(result.sources)}" if result.sources else ""
    lines = [
        f"{result.model} on `{result.data}`{where}. AUC with DeLong, error at `balanced` with "
        "exact 95 % intervals.",
        "",
        "| films | kept | with pneumonia | AUC (95 %) | error (95 %) |",
        "|---|---|---|---|---|",
    ]
    for kept in result.kept:
        auc = f"{kept.auc:.3f}" if kept.auc else "too few of a class"
        lines.append(
            f"| {kept.which} | {kept.films} ({kept.share:.3f}) | {kept.positives} | {auc} | "
            f"{kept.error:.3f} |"
        )
    return "\n".join(lines) + "\n"
