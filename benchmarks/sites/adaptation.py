"""A source of a table as a site: some of its films are labelled, the others say what it was worth.

Films are drawn again and again, whole patients at a time; each draw is adapted to as `cxr-edge
adapt` does, and the films of all other patients judge it. What the guard said of a draw is counted
beside what the adaptation did in truth. With --elsewhere the fits of every strength are also judged
at another source: what one site's films teach of another.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_data
from benchmarks.results import write_results
from edge_runtime.adapt.adapt import begun, labelled_of, start_from
from edge_runtime.adapt.film import LabelledFilm, Seen, as_facts, look_at
from edge_runtime.adapt.guard import Guarded, guard
from edge_runtime.adapt.prove import Labelled, choose, prove
from edge_runtime.adapt.ridge import STRENGTHS, Basis, fit_ridge
from edge_runtime.basics.processors import default_threads
from edge_runtime.bundle.site_profile import load_profile
from edge_runtime.errors import InvalidValueError
from edge_runtime.screener import Screener
from edge_runtime.statistics.metrics import auc, auc_difference
from train.data.dataset import NORMAL, shown_by
from train.data.table import read_table

_FEWEST_OTHERS = 20  # of either kind, to judge a draw by
_TRIED = (0.1, 0.3, *STRENGTHS)  # the first two are weaker than `adapt` ever is


@dataclasses.dataclass(frozen=True)
class ByStrength:
    """A fit of one strength, whether the cross-validation would have chosen it or not."""

    strength: float | None  # None: no other ranking
    here: float | None  # AUC of the films of other patients
    elsewhere: float | None  # AUC at another source


@dataclasses.dataclass(frozen=True)
class Draw:
    """One draw of labelled films."""

    films: int
    refusal: str  # "" where it is believed
    strongest: str
    facts_auc: float
    gain: float  # in AUC, as proven on the labelled films
    gain_low: float
    strength: float | None
    before: float | None  # AUC of the films of other patients; None of too few
    after: float | None
    lost: bool  # whether it is worse there, by a paired test
    by_strength: tuple[ByStrength, ...]  # from hardly free to free


@dataclasses.dataclass(frozen=True)
class AdaptationResult:
    site: str
    model: str
    finding: str
    films: int  # that there are
    wanted: int  # labelled films of a draw
    flipped: float  # share of labels that were turned round
    elsewhere: str  # "" where the fits were not judged at another source
    begun_from: tuple[str, ...]  # names of the profiles that the fits began from
    draws: tuple[Draw, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.epilog = (
        "example: python -m benchmarks adaptation bundles/unseen-us --data hospitals/hospitals.csv "
        "--source nih --finding pneumonia --output docs/results/adaptation/nih"
    )
    parser.add_argument("bundle", help="a folder, or the name of a shipped one")
    add_data(parser, "a table (CSV), or a folder in the public layout")
    parser.add_argument("--source", required=True, help="of the table: the site")
    parser.add_argument("--finding", action="append", required=True, help="what counts as ill")
    parser.add_argument("--view", help="films of this view alone")
    parser.add_argument(
        "--balance-views", action="store_true", help="as many ill as normal films of each view"
    )
    parser.add_argument("--films", type=int, default=200, help="labelled films of a draw")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--flip", type=float, default=0.0, help="share of labels turned round")
    parser.add_argument(
        "--elsewhere", metavar="SOURCE=FINDING", help="judge the fits at this source, too"
    )
    parser.add_argument(
        "--from", nargs="+", default=[], dest="begin_from", metavar="FILE", help="as of `adapt`"
    )


def run(arguments: argparse.Namespace) -> int:
    run_adaptation(
        arguments.bundle,
        arguments.data,
        arguments.output,
        arguments.source,
        arguments.finding,
        arguments.view,
        arguments.balance_views,
        arguments.films,
        arguments.draws,
        arguments.flip,
        arguments.elsewhere,
        arguments.begin_from,
    )
    return 0


def films_of(
    data: Path, source: str, findings: Sequence[str], view: str | None = None
) -> list[LabelledFilm]:
    """The films of a site, with what the table tells of them.

    Raises:
        InvalidValueError: One kind is missing.
    """
    table = read_table([data])
    found = [
        LabelledFilm(
            str(table.root / f.sample.path),
            f.sample.kind != NORMAL,
            f.sample.patient,
            {"view": f.view} if f.view else {},
        )
        for f in table.films
        if f.source == source
        and f.crop == "whole"
        and (view is None or f.view == view)
        and (f.sample.kind == NORMAL or not set(findings).isdisjoint(shown_by(f.sample.kind)))
    ]
    if len({film.positive for film in found}) < 2:
        raise InvalidValueError(f"{data}: no normal and ill films of {source}")
    return found


def run_adaptation(
    bundle: str,
    data: Path,
    output: Path,
    source: str,
    findings: Sequence[str],
    view: str | None = None,
    balance_views: bool = False,
    wanted: int = 200,
    draws: int = 100,
    flip: float = 0.0,
    elsewhere: str | None = None,
    begin_from: Sequence[str] = (),
) -> AdaptationResult:
    """Measure, write adaptation.json and adaptation.md."""
    screener = Screener.load(bundle, parallel=default_threads(), threads=1)
    seen = _look(screener, films_of(data, source, findings, view))
    profiles = [load_profile(path) for path in begin_from]
    start = start_from(screener, profiles) if profiles else None
    raw = labelled_of(screener, seen)
    whole = begun(raw, start)
    other = None
    if elsewhere:
        name, _, finding = elsewhere.partition("=")
        there = _look(screener, films_of(data, name, [finding]))
        other = begun(labelled_of(screener, there), start)
    found = tuple(
        _draw(seen, raw, whole, other, wanted, np.random.default_rng(i), balance_views, flip)
        for i in tqdm(range(draws), "draws", leave=False, disable=None)
    )
    manifest = screener.bundle.manifest
    site = " ".join(filter(None, [source, view, "views balanced" if balance_views else ""]))
    model = f"{manifest.name} {manifest.version}, {screener.engine_name}"
    result = AdaptationResult(
        site,
        model,
        "|".join(findings),
        len(whole),
        wanted,
        flip,
        elsewhere or "",
        tuple(profile.name for profile in profiles),
        found,
    )
    write_results(output, "adaptation", result, markdown(result))
    return result


def _look(screener: Screener, films: Sequence[LabelledFilm]) -> Seen:
    with tqdm(total=len(films), desc="films", unit="film", leave=False, disable=None) as bar:
        return look_at(screener, films, default_threads(), bar.update)


def _draw(
    seen: Seen,
    raw: Labelled,
    whole: Labelled,
    other: Labelled | None,
    wanted: int,
    rng: np.random.Generator,
    balance_views: bool,
    flip: float,
) -> Draw:
    rows = _chosen(seen, whole, wanted, rng, balance_views)
    truth = whole.positive[rows]
    wrong = rng.random(len(rows)) < flip
    given = np.where(wrong, 1 - truth, truth)
    data = Labelled(
        whole.logits[rows],
        whole.features[rows],
        given,
        tuple(whole.patients[i] for i in rows),
        whole.slope,
    )
    basis = Basis(data.features)
    proven = prove(basis, data)
    facts = as_facts([seen.kept[i] for i in rows])
    guarded = guard(given, raw.logits[rows], proven, facts, data.patients)
    chosen = choose(basis.coordinates(data.features), data, np.arange(len(data)))
    taught = set(data.patients)
    others = np.array([i for i, p in enumerate(whole.patients) if p not in taught], np.int64)
    before = after = None
    lost = False
    label = whole.positive[others]
    if min(np.bincount(label, minlength=2)) >= _FEWEST_OTHERS:
        logits = whole.logits[others]
        scores = chosen.fit.scores(logits, basis.coordinates(whole.features[others]))
        before, after = auc(label, raw.logits[others]), auc(label, scores)
        lost = auc_difference(label, raw.logits[others], scores).high < 0
    tried = _by_strength(data, basis, _part(whole, others) if before is not None else None, other)
    return _told(guarded, len(rows), chosen.strength, before, after, lost, tried)


def _part(data: Labelled, rows: NDArray[np.int64]) -> Labelled:
    people = tuple(data.patients[i] for i in rows)
    return Labelled(data.logits[rows], data.features[rows], data.positive[rows], people, data.slope)


def _by_strength(
    data: Labelled, basis: Basis, here: Labelled | None, other: Labelled | None
) -> tuple[ByStrength, ...]:
    x = basis.coordinates(data.features)
    fits = fit_ridge(data.logits, x, data.positive, data.slope, _TRIED)
    taught = set(data.patients)
    there = None
    if other is not None:  # a person can be in both sources
        fresh = np.array([p not in taught for p in other.patients])
        there = _part(other, np.flatnonzero(fresh))
    found = []
    for strength, fit in zip([None, *sorted(_TRIED, reverse=True)], [None, *fits], strict=True):
        values: list[float | None] = []
        for films in (here, there):
            if films is None:
                values.append(None)
                continue
            scores = films.logits
            if fit is not None:
                scores = fit.scores(films.logits, basis.coordinates(films.features))
            values.append(auc(films.positive, scores))
        found.append(ByStrength(strength, values[0], values[1]))
    return tuple(found)


def _told(
    guarded: Guarded,
    films: int,
    strength: float | None,
    before: float | None,
    after: float | None,
    lost: bool,
    by_strength: tuple[ByStrength, ...],
) -> Draw:
    return Draw(
        films,
        guarded.refusal or "",
        guarded.strongest or "",
        guarded.together.value if guarded.together else 0.5,
        guarded.gain.difference,
        guarded.gain.low,
        strength,
        before,
        after,
        lost,
        by_strength,
    )


def _chosen(
    seen: Seen, whole: Labelled, wanted: int, rng: np.random.Generator, balance_views: bool
) -> NDArray[np.int64]:
    """Films of patients drawn until there are enough of either kind (and view)."""
    views = [s.words.get("view", "") if balance_views else "" for s in seen.kept]
    groups = sorted(set(views))
    most = wanted // (2 * len(groups))
    cells = {(view, kind): 0 for view in groups for kind in (0, 1)}
    if balance_views:
        counts = Counter(zip(views, whole.positive.tolist(), strict=True))
        most = min(most, *(counts[cell] for cell in cells))
    found: list[int] = []
    by_patient: dict[str, list[int]] = {}
    for i, patient in enumerate(whole.patients):
        by_patient.setdefault(patient, []).append(i)
    for patient in rng.permutation(sorted(by_patient)).tolist():
        for i in by_patient[patient]:
            cell = (views[i], int(whole.positive[i]))
            if cells[cell] < most:
                cells[cell] += 1
                found.append(i)
    return np.array(sorted(found), np.int64)


def markdown(result: AdaptationResult) -> str:
    """The table as a page."""
    draws = result.draws
    kinds = Counter(d.refusal or "believed" for d in draws)
    flipped = f", {result.flipped:.0%} of labels turned round" if result.flipped else ""
    begun = f", begun from what {', '.join(result.begun_from)} learned" if result.begun_from else ""
    lines = [
        f"{result.model}; site: {result.site}, {result.finding} against normal, {result.films} "
        f"films. {len(draws)} draws of {round(float(np.mean([d.films for d in draws])))} labelled "
        f"films{flipped}{begun}; AUC of films of all other patients.",
        "",
        "| the guard | draws | AUC before | after | gain (5 to 95 % of draws) | worse by a paired "
        "test | facts alone |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in ("believed", "chance", "confounded", "incomparable", "all"):
        those = [d for d in draws if kind in ("all", d.refusal or "believed")]
        if not those:
            continue
        judged = [d for d in those if d.before is not None and d.after is not None]
        cells = ["–", "–", "–", "–"]
        if judged:
            before = np.array([d.before for d in judged], np.float64)
            after = np.array([d.after for d in judged], np.float64)
            low, high = np.percentile(after - before, [5, 95])
            cells = [
                f"{before.mean():.3f}",
                f"{after.mean():.3f}",
                f"{(after - before).mean():+.3f} ({low:+.3f} to {high:+.3f})",
                f"{sum(d.lost for d in judged)} of {len(judged)}",
            ]
        facts = float(np.mean([d.facts_auc for d in those]))
        count = len(draws) if kind == "all" else kinds[kind]
        lines.append(f"| {kind} | {count} | " + " | ".join([*cells, f"{facts:.2f}"]) + " |")
    named = Counter(d.strongest for d in draws if d.strongest).most_common(3)
    told = ", ".join(f"{name} ({count})" for name, count in named)
    lines += ["", f"Facts that told most, by draws: {told or 'none'}."]
    lines += _strengths(result)
    return "\n".join(lines) + "\n"


def _strengths(result: AdaptationResult) -> list[str]:
    lines = [
        "",
        f"| strength | AUC of other patients | {result.elsewhere or 'elsewhere'} |",
        "|---|---|---|",
    ]
    for place, first in enumerate(result.draws[0].by_strength):
        cells = ["none" if first.strength is None else f"{first.strength:g}"]
        for values in (
            [d.by_strength[place].here for d in result.draws],
            [d.by_strength[place].elsewhere for d in result.draws],
        ):
            known = [v for v in values if v is not None]
            cells.append(f"{np.mean(known):.3f}" if known else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
