"""How a run does on films of other hospitals: by source and view, on patients new to it.

    python -m train elsewhere runs/hospitals --data hospitals.csv --output build/elsewhere

For each source, each view where there are two, and each age where it is known: the AUC of every
finding against normal films, the AUC of the film's facts alone (fitted on other patients), and the
AUC within strata of these (`adjusted`), which is the one to believe where facts tell the label. Of
the normal films, how many each operating point calls pneumonia. Films whose patients the run
learned from are left out and counted; so are lungs that were cut out, which nobody screens: with
--fields they are judged in the frames of whole films that are new to the run as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.film_facts import film_facts
from edge_runtime.images.preprocess import InputSpec
from edge_runtime.judge.population import ADULT
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval, proportion
from edge_runtime.statistics.odds import probabilities
from train.data.dataset import NORMAL, read_bytes
from train.data.fields import Fields
from train.data.judged import graft_judged
from train.data.source import Source
from train.data.table import Film, Table, add_data_sets, add_fields, read_table
from train.evaluate.adjusted import facts_of, within_facts
from train.run.finished import FinishedRun, open_run
from train.run.folder import write_results
from train.run.scores import predict_logits

SCHEMA = "cxr-edge/elsewhere/1"
_FEWEST = 20  # of either kind, for an AUC
# Children and, as is usual for pneumonia, the old by themselves.
_AGES = {"under 18": (0, ADULT), "18 to 64": (ADULT, 65), "65 or more": (65, math.inf)}
ELSEWHERE = " elsewhere"  # added to what a source without normal films is compared with


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One finding against normal films of one source (and view)."""

    source: str
    view: str  # "" is any
    finding: str
    against: str  # the finding of the others, "normal" for most
    positives: int
    normals: int  # films of the others
    auc: Estimate
    facts_auc: Estimate | None  # of the film's facts alone; None where they cannot be fitted
    adjusted_auc: Estimate | None
    age: str = ""  # of the patients; "" is any


@dataclasses.dataclass(frozen=True)
class Called:
    """How many films of one finding of one source an operating point calls pneumonia."""

    source: str
    finding: str
    point: str
    films: int
    share: Estimate


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    schema: str
    run: str
    films: int
    left_out: int  # their patients taught the run, or the lungs are cut out
    comparisons: tuple[Comparison, ...]
    called: tuple[Called, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run_folder", metavar="run", type=Path, help="run folder")
    add_data_sets(parser, required=True)
    add_fields(parser, "where the lungs are: cut lungs are grafted into whole films and judged too")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="FINDING",
        help="compare with films of this finding, not only with normal ones",
    )
    parser.add_argument("--output", type=Path, help="by default RUN/elsewhere")


def run(arguments: argparse.Namespace) -> int:
    measure_elsewhere(
        arguments.run_folder,
        arguments.data,
        arguments.output,
        Fields(arguments.fields),
        arguments.against,
    )
    return 0


def measure_elsewhere(
    run_folder: Path,
    data: Sequence[Path],
    output: Path | None = None,
    fields: Fields | None = None,
    against: Sequence[str] = (),
    sources: Sequence[str] = (),
) -> Elsewhere:
    """Measure, write elsewhere.json and elsewhere.md.

    Args:
        run_folder: A finished run.
        data: Data sets, as for `fit`.
        output: By default RUN/elsewhere.
        fields: Where the lungs are; with them cut lungs are judged too, grafted.
        against: Findings to compare with beside "normal".
        sources: Judge these alone; by default all.

    Raises:
        InvalidValueError: Not a finished run, data that cannot be read, or no film that is new to
            the run.
    """
    finished = open_run(run_folder)
    table = as_told(finished, data)
    taught = {sample.patient for sample in finished.splits.train}
    whole, cut = new_films(table, taught)
    if not whole:
        raise InvalidValueError(f"{run_folder} learned from the patients of every film there")
    films, pixels = prepared_films(Source.of(table), whole, cut, fields, finished.input)
    facts = facts_of_films(table, whole, pixels)
    scores = disease_logits(finished, pixels)
    wanted = set(sources) or {f.source for f in films}
    result = Elsewhere(
        SCHEMA,
        f"{finished.recipe.name}, seed {finished.recipe.seed}",
        len(films),
        len(table.films) - len(films),
        tuple(
            c
            for c in _comparisons(films, scores, facts, dict.fromkeys([NORMAL, *against]))
            if c.source in wanted
        ),
        tuple(c for c in _called(finished, films, scores) if c.source in wanted),
    )
    output = output or run_folder / "elsewhere"
    write_results(output, "elsewhere", to_mapping(result), markdown(result))
    return result


def new_films(table: Table, taught: set[str]) -> tuple[list[Film], list[Film]]:
    """Whole films and cut lungs of patients that taught nobody, without the data's test split."""
    new = [f for f in table.films if f.sample.patient not in taught and f.part != "test"]
    whole = [f for f in new if f.crop == "whole"]
    return whole, [f for f in new if f.crop != "whole"]


def prepared_films(
    source: Source,
    whole: Sequence[Film],
    cut: Sequence[Film],
    fields: Fields | None,
    spec: InputSpec,
) -> tuple[list[Film], NDArray[np.uint8]]:
    """What a model is shown, whole films first, and its pixels (n, h, w, 1).

    With fields, cut lungs follow in the frames of the whole films.
    """
    pixels = source.pixels([f.sample for f in whole], spec, "reading")
    if fields is None or not len(fields) or not cut:
        return list(whole), pixels
    judged = graft_judged(source, cut, whole, fields, spec)
    films = [*whole, *(one.film for one in judged)]
    return films, np.concatenate([pixels, *(one.pixels[np.newaxis] for one in judged)])


def facts_of_films(
    table: Table, whole: Sequence[Film], pixels: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """(n, facts) of the films of `prepared_films`: of grafts, which have no files, by pixels."""
    contents = (read_bytes(table.root, film.sample) for film in whole)
    facts = facts_of(contents, len(whole))
    seen = [film_facts(0, Image.fromarray(one[:, :, 0])) for one in pixels[len(whole) :]]
    return np.concatenate([facts, [list(values.values()) for values in seen]]) if seen else facts


def as_told(finished: FinishedRun, data: Sequence[Path]) -> Table:
    """Films by the findings that tables state, which are finer than a recipe's.

    Where none is called normal there, what the recipe calls normal is.
    """
    pattern = finished.recipe.data.patient_pattern
    table = read_table(data, patient_pattern=pattern)
    if any(film.sample.kind == NORMAL for film in table.films):
        return table
    called = finished.recipe.data.findings.items()
    return read_table(data, {k: kind for k, kind in called if kind == NORMAL}, pattern)


def disease_logits(finished: FinishedRun, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, h, w, 1) pixels -> (n,) log odds of any disease by a run's model."""
    import keras  # takes seconds

    model = keras.saving.load_model(finished.folder / "model.keras", compile=False)
    return finished.disease(predict_logits(model, pixels))


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Which films a comparison is of."""

    source: str
    view: str
    finding: str
    against: str
    rows: NDArray[np.bool_]  # of all films
    positive: NDArray[np.int64]  # of those
    age: str = ""


def pairings(films: Sequence[Film], others: Iterable[str]) -> Iterator[Pairing]:
    """Every finding of every source, and view, and age, against films of each of the others."""
    sources = np.array([f.source for f in films])
    views = np.array([f.view for f in films])
    ages = np.array([math.nan if f.age is None else f.age for f in films])
    kinds = np.array([f.sample.kind for f in films])
    others = list(others)
    whole = np.array([f.crop == "whole" for f in films])
    for source in np.unique(sources):
        inside = sources == source
        borrowed = ""
        if not (inside & (kinds == NORMAL)).any():
            # Nothing to compare with but other sources' films, which their facts tell apart.
            inside |= whole & (kinds == NORMAL)
            borrowed = ELSEWHERE
        named = [str(v) for v in np.unique(views[inside]) if v]
        parts = [("", "", inside)]
        if len(named) > 1 and not borrowed:
            parts += [(view, "", inside & (views == view)) for view in named]
        if not borrowed:
            of_age = {
                age: inside & (ages >= low) & (ages < high) for age, (low, high) in _AGES.items()
            }
            if sum(here.any() for here in of_age.values()) > 1:
                parts += [("", age, here) for age, here in of_age.items()]
        for view, age, here in parts:
            findings = [str(k) for k in np.unique(kinds[here]) if k != NORMAL]
            for finding, other in itertools.product(findings, others):
                if finding == other or (finding in others and other != NORMAL):
                    continue
                pair = here & ((kinds == other) | (kinds == finding))
                positive = (kinds[pair] == finding).astype(np.int64)
                count = int(positive.sum())
                if min(count, len(positive) - count) >= _FEWEST:
                    against = other + borrowed
                    yield Pairing(str(source), view, finding, against, pair, positive, age)


def _comparisons(
    films: Sequence[Film],
    scores: NDArray[np.float64],
    facts: NDArray[np.float64],
    others: Iterable[str],
) -> Iterator[Comparison]:
    patients = np.array([f.sample.patient for f in films])
    for p in pairings(films, others):
        found, positive = scores[p.rows], p.positive
        within = within_facts(positive, found, facts[p.rows], patients[p.rows].tolist())
        count = int(positive.sum())
        yield Comparison(
            p.source,
            p.view,
            p.finding,
            p.against,
            count,
            len(positive) - count,
            auc_interval(positive, found),
            within.facts_auc if within else None,
            within.adjusted_auc if within else None,
            p.age,
        )


def mean_over_sources(found: Iterable[tuple[str, str, float]]) -> float:
    """The mean over sources of what their findings reach, by view where known.

    Args:
        found: Source, view ("" is any) and AUC of each comparison; not empty.
    """
    by_source: dict[str, dict[str, list[float]]] = {}
    for source, view, value in found:
        by_source.setdefault(source, {}).setdefault(view, []).append(value)
    return float(np.mean([_of_views(views) for views in by_source.values()]))


def _of_views(values: Mapping[str, Sequence[float]]) -> float:
    named = {view: found for view, found in values.items() if view} or values
    return float(np.mean([np.mean(found) for found in named.values()]))


def _called(
    finished: FinishedRun, films: Sequence[Film], scores: NDArray[np.float64]
) -> Iterator[Called]:
    temperature, points = finished.calibrate(finished.disease(finished.validation.logits))
    probability = probabilities(scores / temperature)
    groups = sorted({(f.source, f.sample.kind) for f in films})
    for source, finding in groups:
        inside = np.array([(f.source, f.sample.kind) == (source, finding) for f in films])
        for point in points:
            if point.uncertain is None:
                hits = int((probability[inside] >= point.threshold).sum())
                count = int(inside.sum())
                yield Called(source, finding, point.name, count, proportion(hits, count))


def markdown(result: Elsewhere) -> str:
    """Two tables."""
    lines = [
        f"{result.run}: {result.films} films of patients that it did not learn from "
        f"({result.left_out} left out). AUC with DeLong, adjusted AUC with patient bootstrap 95 % "
        "intervals. Where facts of the film alone tell the label, believe the adjusted one.",
        "",
        "| source | view | age | finding | films | against | films | AUC | film facts alone | "
        "adjusted AUC |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in result.comparisons:
        told = (c.source, c.view or "any", c.age or "any", c.finding)
        cells: list[object] = [*told, c.positives, c.against, c.normals]
        cells.append(f"{c.auc:.3f}")
        cells += ["" if e is None else f"{e:.3f}" for e in (c.facts_auc, c.adjusted_auc)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "| source | finding | films | point | called pneumonia |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.source} | {c.finding} | {c.films} | {c.point} | {c.share:.3f} |"
        for c in result.called
    ]
    return "\n".join(lines) + "\n"
