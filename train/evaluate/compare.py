"""Two finished runs on the same films of patients that neither learned from, paired.

    python -m train compare models/float/default runs/new --data chest_xray --data hospitals.csv

A pooled AUC mixes two questions: ill or well, and which hospital. So each source is a row of its
own: its ill against its normal films, or, where it has no normal ones, against those of all other
sources, within strata of what facts of the files tell. Then, for each population, how many films
both call right at their own `balanced` point. With --elsewhere, sources that both were trained
without are compared too, on the pictures of `train elsewhere`, and their means as `train unseen`
takes them. Many rows are compared, and one in twenty of equal runs would seem to differ; several
that point one way are more than each of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.adjusted import (
    cross_validated_scores,
    strata_of,
)
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import Z_95
from edge_runtime.statistics.odds import probabilities
from train.data.dataset import NORMAL, read_bytes
from train.data.fields import Fields
from train.data.source import Source
from train.data.table import Film, add_data_sets, add_fields, read_table, shows_a_child
from train.evaluate.adjusted import facts_of
from train.evaluate.compare_elsewhere import ComparedElsewhere, compare_elsewhere, refuse_known
from train.evaluate.elsewhere import ELSEWHERE
from train.evaluate.ranked import RankedByBoth, ranked_plainly, ranked_within
from train.run.finished import FinishedRun, open_run
from train.run.folder import write_results
from train.run.scores import Scores, read_scores

SCHEMA = "cxr-edge/compared-runs/1"
BOTH = "both"  # parts: validation and its corrupted copy
_FEWEST = 15  # films of either class
_TEST = "evaluation-test"  # where `evaluate --part test` has left its scores


@dataclasses.dataclass(frozen=True)
class Ranked(RankedByBoth):
    """How both rank some films."""

    part: str  # validation | corrupted | test
    source: str


@dataclasses.dataclass(frozen=True)
class Right:
    """How many films of a population both call right, each at its own `balanced` threshold."""

    part: str  # "both": validation and its corrupted copy together
    population: str
    films: int
    a: int
    b: int
    difference: Estimate  # of films, b minus a, paired by patient


@dataclasses.dataclass(frozen=True)
class Compared:
    """compare.json."""

    schema: str
    a: str
    b: str
    ranked: tuple[Ranked, ...]
    right: tuple[Right, ...]
    elsewhere: ComparedElsewhere | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("a", type=Path, help="finished run, the one in use")
    parser.add_argument("b", type=Path, help="finished run, the one that would replace it")
    add_data_sets(parser, required=True)
    parser.add_argument(
        "--test",
        action="store_true",
        help="the test split too, from scores that `evaluate --part test` has left in both",
    )
    parser.add_argument(
        "--elsewhere",
        action="append",
        default=[],
        metavar="SOURCE",
        help="a source that both were trained without; may be given several times",
    )
    add_fields(
        parser,
        "where the lungs are: cut lungs of --elsewhere are judged too, in whole films' frames",
    )
    parser.add_argument("--output", type=Path, help="folder for compare.json and compare.md")


def run(arguments: argparse.Namespace) -> int:
    compared = compare_runs(
        arguments.a,
        arguments.b,
        arguments.data,
        arguments.test,
        arguments.elsewhere,
        Fields(arguments.fields),
    )
    text = markdown(compared)
    if arguments.output:
        write_results(arguments.output, "compare", to_mapping(compared), text)
    else:
        print(text)
    return 0


def compare_runs(
    a: Path,
    b: Path,
    data: Sequence[Path],
    test: bool = False,
    elsewhere: Sequence[str] = (),
    fields: Fields | None = None,
) -> Compared:
    """Compare what both runs say of validation films that neither learned from.

    Args:
        a: A finished run.
        b: Another one.
        data: Data sets with the films, as for `fit`.
        test: The test split too; both must have been evaluated on it.
        elsewhere: Sources that both were trained without, to compare on as well.
        fields: Where the lungs are; without them no cut lungs of those are judged.

    Raises:
        InvalidValueError: Not a finished run, other labels, films that are not in the data, none
            that both were validated on, or a source in `elsewhere` that a run knows.
    """
    runs = (open_run(a), open_run(b))
    if runs[0].labels != runs[1].labels:
        raise InvalidValueError(f"{a} tells {runs[0].labels} apart, {b} {runs[1].labels}")
    recipe = runs[0].recipe
    table = read_table(data, patient_pattern=recipe.data.patient_pattern)
    source = Source.of(table)
    points = [_balanced(run, source) for run in runs]
    taught = {sample.patient for run in runs for sample in run.splits.train}
    refuse_known(table, taught, elsewhere)  # before the work begins
    ranked: list[Ranked] = []
    judged: list[_Judged] = []
    for part, scores in list(_parts(runs, test)):  # a file that is missing is said at once
        # Who is in `test` is for the data's own split to say.
        films, logits = _both(runs, scores, source, taught if part != "test" else set())
        if not films:
            raise InvalidValueError(f"{a} and {b} have no {part} films in common")
        ill = dict(zip((s.path for s in scores[0].samples), scores[0].positive, strict=True))
        positive = np.array([ill[film.sample.path] for film in films], np.int64)
        facts = None
        if part == "validation":  # the files are those of `corrupted` too, but not its pixels
            contents = (read_bytes(table.root, film.sample) for film in films)
            facts = facts_of(contents, len(films))
        ranked += _ranked(part, films, positive, logits, facts)
        child = np.array([shows_a_child(f, recipe.data.children) for f in films])
        judged.append(
            _Judged(part, np.array([f.sample.patient for f in films]), child, positive == 1, logits)
        )
    names = [f"{r.recipe.name}, seed {r.recipe.seed} ({r.folder})" for r in runs]
    right = _right(judged, points)
    there = compare_elsewhere(runs, data, elsewhere, fields) if elsewhere else None
    return Compared(SCHEMA, names[0], names[1], tuple(ranked), tuple(right), there)


def _parts(
    runs: tuple[FinishedRun, FinishedRun], test: bool
) -> Iterator[tuple[str, tuple[Scores, Scores]]]:
    yield "validation", (runs[0].validation, runs[1].validation)
    copies = (runs[0].corrupted, runs[1].corrupted)
    # Made at another size, a copy is spoilt more or less (`corrupted_copy`): not the same films.
    sizes = {(run.recipe.training_input.height, run.recipe.training_input.width) for run in runs}
    if copies[0] is not None and copies[1] is not None and len(sizes) == 1:
        yield "corrupted", (copies[0], copies[1])
    if test:
        files = [run.folder / _TEST / "scores.csv" for run in runs]
        yield "test", (read_scores(files[0]), read_scores(files[1]))


def _both(
    runs: tuple[FinishedRun, FinishedRun],
    scores: tuple[Scores, Scores],
    source: Source,
    taught: set[str],
) -> tuple[list[Film], NDArray[np.float64]]:
    """Films that both judged and neither learned from, and log odds (2, n)."""
    by_path = [
        dict(zip((s.path for s in each.samples), run.disease(each.logits), strict=True))
        for run, each in zip(runs, scores, strict=True)
    ]
    shared = [path for path in by_path[0] if path in by_path[1]]
    missing = [path for path in shared if path not in source.films]
    if missing:
        raise InvalidValueError(f"{len(missing)} films are not in the data, as {missing[0]}")
    films = [source.films[p] for p in shared if source.films[p].sample.patient not in taught]
    logits = [[scored[film.sample.path] for film in films] for scored in by_path]
    return films, np.array(logits)


def _ranked(
    part: str,
    films: Sequence[Film],
    positive: NDArray[np.int64],
    logits: NDArray[np.float64],
    facts: NDArray[np.float64] | None,
) -> Iterator[Ranked]:
    sources = np.array([f.source for f in films])
    patients = np.array([f.sample.patient for f in films])
    everywhere = np.ones(len(films), bool)
    groups = [("all", everywhere)] if len(set(sources)) > 1 else []
    groups += [(str(name), sources == name) for name in np.unique(sources)]
    for name, inside in groups:
        label, here = name, inside
        borrowed = not (positive[inside] == 0).any()
        if borrowed:
            label, here = f"{name}, {NORMAL} ones{ELSEWHERE}", inside | (positive == 0)
        ill = int(positive[here].sum())
        if min(ill, int(here.sum()) - ill) < _FEWEST:
            continue
        truth, scores = positive[here], logits[:, here]
        if name == "all" or not borrowed:
            yield Ranked(**vars(ranked_plainly(truth, scores)), part=part, source=label)
        if facts is None or name == "all":
            continue
        people = patients[here].tolist()
        told = cross_validated_scores(truth, facts[here], people)
        if told is not None:
            found = ranked_within(truth, scores, strata_of(told, truth), people)
            yield Ranked(**vars(found), part=part, source=label)


def _balanced(run: FinishedRun, source: Source) -> dict[str, tuple[float, float]]:
    """Threshold of `balanced` and temperature by population; "any" is for all."""
    logits = run.disease(run.validation.logits)
    temperature, points = run.calibrate(logits)
    films = [source.films.get(sample.path) for sample in run.validation.samples]
    child = np.array([shows_a_child(film, run.recipe.data.children) for film in films])
    groups = {"any": points}
    for population in run.calibrate_populations(logits, temperature, child):
        groups[population.name] = population.operating_points
    return {
        name: (next(p.threshold for p in of if p.name == "balanced"), temperature)
        for name, of in groups.items()
    }


@dataclasses.dataclass(frozen=True)
class _Judged:
    """What both say of a part's films."""

    part: str
    patients: NDArray[np.str_]  # (n)
    child: NDArray[np.bool_]  # (n)
    ill: NDArray[np.bool_]  # (n)
    logits: NDArray[np.float64]  # (2, n)


def _right(
    judged: Sequence[_Judged], points: Sequence[dict[str, tuple[float, float]]]
) -> Iterator[Right]:
    for population in ("any", "children", "adults"):
        if any(population not in each for each in points):
            continue
        cuts = [each[population] for each in points]
        copies: list[tuple[NDArray[np.str_], NDArray[np.bool_]]] = []
        for part in judged:
            everyone = np.ones(len(part.child), bool)
            here = {"any": everyone, "children": part.child, "adults": ~part.child}[population]
            if not here.any():
                continue
            called = [
                probabilities(scored[here] / temperature) >= threshold
                for scored, (threshold, temperature) in zip(part.logits, cuts, strict=True)
            ]
            found = part.patients[here], np.array(called) == part.ill[here]
            yield _counted(part.part, population, *found)
            if part.part != "test":
                copies.append(found)
        if len(copies) == 2:
            patients, is_right = zip(*copies, strict=True)
            yield _counted(BOTH, population, np.hstack(patients), np.hstack(is_right))


def _counted(part: str, population: str, patients: ArrayLike, is_right: NDArray[np.bool_]) -> Right:
    """Films of a patient are counted together: what differs is a sum over independent patients."""
    a, b = (int(each.sum()) for each in is_right)
    _, whose = np.unique(patients, return_inverse=True)
    gains = np.bincount(whose, weights=is_right[1].astype(float) - is_right[0])
    spread = 0.0 if len(gains) < 2 else Z_95 * math.sqrt(len(gains) * gains.var(ddof=1))
    difference = Estimate(b - a, b - a - spread, b - a + spread)
    return Right(part, population, is_right.shape[1], a, b, difference)


def markdown(compared: Compared) -> str:
    """Two tables, the rows in which b is worse by more than chance first."""
    lines = [
        f"a: {compared.a}",
        "",
        f"b: {compared.b}",
        "",
        "Films of patients that neither learned from; differences are b minus a on the same films, "
        'paired, with 95 % intervals. "Within": within strata of what facts of the files tell.',
        "",
        "| part | source | ill | normal | | a | b | difference | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(compared.ranked, key=lambda row: not row.is_worse):
        cells = [row.part, row.source, row.positives, row.normals, *row.cells]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "| part | population | films | right at `balanced`, a | b | difference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.part} | {r.population} | {r.films} | {r.a} ({r.a / r.films:.4f}) | "
        f"{r.b} ({r.b / r.films:.4f}) | {r.difference:+.0f} |"
        for r in compared.right
    ]
    if compared.elsewhere:
        lines += _elsewhere(compared.elsewhere)
    return "\n".join(lines) + "\n"


def _elsewhere(found: ComparedElsewhere) -> Iterator[str]:
    d = found.difference
    yield from (
        "",
        f"Sources that both were trained without, {found.films} films. Mean over sources, by view "
        f"where known: a {found.a:.4f}, b {found.b:.4f}, difference {d:+.4f} (patients drawn, "
        f"p {d.p_value:.3f}).",
        "",
        "| source | view | finding | films | against | films | | a | b | difference | p |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    )
    for row in sorted(found.pairs, key=lambda row: not row.is_worse):
        cells = [row.source, row.view or "any", row.finding, row.positives, row.against]
        cells += [row.normals, *row.cells]
        yield "| " + " | ".join(map(str, cells)) + " |"
