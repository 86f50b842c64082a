"""Which rule for `balanced` holds in hospitals that were held out of training?

    python -m train thresholds RUN … --data chest_xray --data hospitals.csv

Every rule takes its threshold from the validation patients of each run, and is judged on the whole
films of the sources that the run held out, of patients that taught it nothing: sensitivity,
specificity, and their sum against that of the rule in use until 5.3.0, paired. The test split is
left out.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.calibration import near_best_cuts
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import bootstrap_interval, proportion
from train.data.source import Source
from train.data.table import Film, add_data_sets, read_table
from train.evaluate.elsewhere import disease_logits
from train.run.finished import FinishedRun, open_run
from train.run.folder import write_results

SCHEMA = "cxr-edge/thresholds/1"
_FEWEST = 15  # films of either class

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


def _youden(positive: Labels, scores: Scores, cut: float) -> float:
    called = scores >= cut
    return float(called[positive == 1].mean() - called[positive == 0].mean())


def _largest(cuts: Scores, positive: Labels, scores: Scores) -> float:
    """Of the cuts, the middle one of those that balance the images best."""
    index = np.array([_youden(positive, scores, cut) for cut in cuts])
    best = np.flatnonzero(index >= index.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


# Of (cuts within a standard error of the best, labels, scores, scores of the corrupted copy).
RULES: dict[str, Callable[[Scores, Labels, Scores, Scores], float]] = {
    # Decision 32; the first one is what the others are compared with.
    "best on the corrupted copy": lambda cuts, y, _, copy: _largest(cuts, y, copy),
    "best on validation": lambda cuts, y, scores, _: _largest(cuts, y, scores),
    "lowest": lambda cuts, *_: float(cuts[0]),
    "middle": lambda cuts, *_: float(cuts[0] + cuts[-1]) / 2,
    "highest": lambda cuts, *_: float(cuts[-1]),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One rule of one run on one source."""

    run: str
    source: str
    positives: int
    normals: int
    rule: str
    logit: float
    sensitivity: Estimate | None
    specificity: Estimate | None
    gain: Estimate | None  # of their sum, over the first rule's, where there are both classes


@dataclasses.dataclass(frozen=True)
class Thresholds:
    schema: str
    rows: tuple[Row, ...]
    gains: dict[str, float]  # by rule, the mean over runs and sources with both classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "run_folders", metavar="run", type=Path, nargs="+", help="run folders, as of `unseen`"
    )
    add_data_sets(parser, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")


def run(arguments: argparse.Namespace) -> int:
    compare_rules(arguments.run_folders, arguments.data, arguments.output)
    return 0


def compare_rules(folders: Sequence[Path], data: Sequence[Path], output: Path) -> Thresholds:
    """Measure, write thresholds.json and thresholds.md.

    Raises:
        InvalidValueError: Not a finished run, one that held no source of the data out, none with
            enough films of both kinds, or data that cannot be read.
    """
    rows = tuple(row for folder in folders for row in _rows(open_run(folder), data))
    if not any(row.gain for row in rows):
        raise InvalidValueError("too few films of either kind to compare any rule")
    gains = {
        rule: float(np.mean([r.gain.value for r in rows if r.rule == rule and r.gain]))
        for rule in RULES
    }
    result = Thresholds(SCHEMA, rows, gains)
    write_results(output, "thresholds", to_mapping(result), markdown(result))
    return result


def _rows(finished: FinishedRun, data: Sequence[Path]) -> Iterator[Row]:
    if finished.corrupted is None:
        raise InvalidValueError(f"{finished.folder} has no scores of a corrupted copy")
    table = read_table(data, finished.recipe.data.findings, finished.recipe.data.patient_pattern)
    held_out = set(finished.recipe.data.held_out)
    # A source that was held out may show patients whom training knew by other films.
    taught = {sample.patient for sample in finished.splits.train}
    films = [
        f
        for f in table.films
        if f.source in held_out
        and f.crop == "whole"
        and f.part != "test"
        and f.sample.patient not in taught
    ]
    if not films:
        raise InvalidValueError(f"{finished.folder} held no source out that is in the data")
    pixels = Source.of(table).pixels([f.sample for f in films], finished.input, "reading")
    scores = disease_logits(finished, pixels)
    known = finished.disease(finished.validation.logits)
    copy = finished.disease(finished.corrupted.logits)
    positive = finished.validation.positive
    near = near_best_cuts(known, positive)
    cuts = {name: rule(near, positive, known, copy) for name, rule in RULES.items()}
    folder = "/".join(finished.folder.absolute().parts[-2:])
    name = f"{folder} ({finished.recipe.name}, seed {finished.recipe.seed})"
    sources = np.array([f.source for f in films])
    for source in np.unique(sources):
        here = np.flatnonzero(sources == source)
        yield from _of_source(name, str(source), [films[i] for i in here], scores[here], cuts)


def _of_source(
    run_name: str, source: str, films: Sequence[Film], scores: Scores, cuts: dict[str, float]
) -> Iterator[Row]:
    positive = np.array([f.sample.kind != "normal" for f in films], dtype=np.int64)
    patients = [f.sample.patient for f in films]
    ill, normal = int(positive.sum()), int((positive == 0).sum())
    first = next(iter(cuts.values()))
    for rule, cut in cuts.items():
        called = scores >= cut
        gain = None
        if min(ill, normal) >= _FEWEST:
            gain = bootstrap_interval(
                lambda y, s, cut=cut: _youden(y, s, cut) - _youden(y, s, first),  # type: ignore[misc]
                positive,
                scores,
                patients,
            )
        yield Row(
            run_name,
            source,
            ill,
            normal,
            rule,
            round(cut, 4),
            proportion(int(called[positive == 1].sum()), ill) if ill >= _FEWEST else None,
            proportion(int((~called)[positive == 0].sum()), normal) if normal >= _FEWEST else None,
            gain,
        )


def markdown(result: Thresholds) -> str:
    """The means, then every run and source."""
    lines = [
        "Rules for `balanced`, each among the thresholds within a standard error of the best on "
        "the validation patients of the run, judged on sources that it held out. Gain: sensitivity "
        f"+ specificity, less that of `{next(iter(RULES))}`, with its 95 % interval (bootstrap "
        "over patients). The mean is over runs and sources that have both classes; runs without "
        "the same sources share films, so it has no interval.",
        "",
        "| rule | mean gain |",
        "|---|---|",
        *(f"| {rule} | {gain:+.3f} |" for rule, gain in result.gains.items()),
        "",
        "| run | source | ill | normal | rule | logit | sensitivity | specificity | gain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        shares = [f"{e:.2f}" if e else "" for e in (row.sensitivity, row.specificity)]
        gain = f"{row.gain:+.3f}" if row.gain else ""
        cells = [row.run, row.source, row.positives, row.normals, row.rule, f"{row.logit:.2f}"]
        lines.append("| " + " | ".join(map(str, [*cells, *shares, gain])) + " |")
    return "\n".join(lines) + "\n"
