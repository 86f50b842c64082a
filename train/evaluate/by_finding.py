"""Figures of a model that tells several findings: each against all other films, and all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.judge.finding import Finding
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc, auc_interval, bootstrap_interval, confusion
from train.data.dataset import NORMAL
from train.evaluate.adjusted import WithinFacts, within_facts

_FEWEST = 2  # films with a finding, and without, for an AUC
POINT = "balanced"  # whose thresholds fill the confusion


@dataclasses.dataclass(frozen=True)
class FindingPoint:
    """One finding at its own threshold; of all films, with it and without."""

    name: str
    threshold: float
    sensitivity: Estimate
    specificity: Estimate


@dataclasses.dataclass(frozen=True)
class FindingFigures:
    """One finding."""

    name: str
    positives: int
    auc: Estimate | None  # against all other films
    auc_normal: Estimate | None  # against normal films alone
    # What facts of the files alone tell of it, and the AUC within strata of that.
    within_facts: WithinFacts | None
    points: tuple[FindingPoint, ...]


@dataclasses.dataclass(frozen=True)
class ByFinding:
    """What a model of several findings does with each."""

    figures: tuple[FindingFigures, ...]
    macro_auc: Estimate | None  # the mean over findings; bootstrap over patients
    columns: tuple[str, ...]  # "normal", then the findings
    # By what films show (the rows: normal, each finding, "several" where there are any): how many
    # are called normal, which is no finding present at `balanced`, or by the likeliest one present.
    confusion: dict[str, tuple[int, ...]]


def measure_findings(
    findings: Sequence[Finding],
    shown: NDArray[np.bool_],
    probability: NDArray[np.float64],
    patients: Sequence[str],
    facts: NDArray[np.float64] | None = None,
) -> ByFinding:
    """All of it.

    Args:
        findings: Of the model, with their operating points.
        shown: (n, findings) what the films show.
        probability: (n, findings) calibrated, of each finding.
        patients: (n) names.
        facts: (n, facts) of the files, see `facts_of`; without them nothing is said of these.
    """
    normal = ~shown.any(axis=1)
    figures = []
    for i, finding in enumerate(findings):
        label, score = shown[:, i].astype(np.int64), probability[:, i]
        beside = shown[:, i] | normal
        both = min(label.sum(), (1 - label).sum()) >= _FEWEST
        figures.append(
            FindingFigures(
                finding.name,
                int(label.sum()),
                auc_interval(label, score) if both else None,
                auc_interval(label[beside], score[beside])
                if both and normal.sum() >= _FEWEST
                else None,
                within_facts(label, score, facts, list(patients))
                if both and facts is not None
                else None,
                tuple(
                    FindingPoint(p.name, p.threshold, counts.sensitivity, counts.specificity)
                    for p in finding.operating_points
                    if p.uncertain is None
                    for counts in [confusion(label, score, p.threshold)]
                )
                if both
                else (),
            )
        )
    measured = [i for i, each in enumerate(figures) if each.auc is not None]
    macro = None
    if measured:

        def mean(_: object, chosen: NDArray[np.float64]) -> float:
            rows = chosen.astype(np.int64)
            kept = [i for i in measured if 0 < shown[rows, i].sum() < len(rows)]
            return float(np.mean([auc(shown[rows, i], probability[rows, i]) for i in kept]))

        # The rows themselves are drawn, for a statistic of several scores.
        places = np.arange(len(shown), dtype=np.float64)
        macro = bootstrap_interval(mean, (~normal).astype(np.int64), places, patients)
    names = tuple(finding.name for finding in findings)
    return ByFinding(
        tuple(figures), macro, (NORMAL, *names), _confusion(findings, shown, probability)
    )


def _confusion(
    findings: Sequence[Finding], shown: NDArray[np.bool_], probability: NDArray[np.float64]
) -> dict[str, tuple[int, ...]]:
    thresholds = np.array([f.point(POINT, f.operating_points[0].name).threshold for f in findings])
    present = probability >= thresholds
    likeliest = np.where(present, probability / thresholds, -1.0).argmax(axis=1) + 1
    called = np.where(present.any(axis=1), likeliest, 0)
    count = shown.sum(axis=1)
    rows = {NORMAL: count == 0}
    rows |= {f.name: (count == 1) & shown[:, i] for i, f in enumerate(findings)}
    rows["several"] = count > 1
    width = len(findings) + 1
    return {
        name: tuple(np.bincount(called[here], minlength=width).tolist())
        for name, here in rows.items()
        if here.any()
    }


def names_in(manifest: Manifest) -> dict[str, str]:
    """What a bundle's recipe calls the findings of tables; {} where it keeps their names."""
    recipe = manifest.provenance.get("recipe", {})
    return dict(recipe.get("data", {}).get("findings", {}))


def rows_of(found: ByFinding) -> tuple[list[list[str]], list[list[str]]]:
    """Two tables' cells: figures by finding, and the confusion; for pages and Markdown alike."""
    figures = [
        [
            f.name,
            str(f.positives),
            "too few" if f.auc is None else str(f.auc),
            "" if f.auc_normal is None else str(f.auc_normal),
            *(
                ("", "")
                if f.within_facts is None
                else (str(f.within_facts.facts_auc), str(f.within_facts.adjusted_auc))
            ),
            "; ".join(
                f"{p.name} ({p.threshold:.4f}): {p.sensitivity}, {p.specificity}" for p in f.points
            ),
        ]
        for f in found.figures
    ]
    if found.macro_auc is not None:
        figures.append(["mean (macro)", "", str(found.macro_auc), "", "", "", ""])
    counts = [[name, *map(str, row)] for name, row in found.confusion.items()]
    return figures, counts


FIGURE_COLUMNS = ("finding", "films with it", "AUC against all others (95 %)",
                  "AUC against normal (95 %)", "facts of the files alone, against all others",
                  "AUC within strata of these",
                  "at its own thresholds: sensitivity, specificity")  # fmt: skip
CONFUSION_TOLD = (
    f"What films show (rows), and what they are called at `{POINT}`: the likeliest finding that is "
    "present, or normal."
)
SOURCES_TOLD = (
    "Where findings come from different sources, a model that tells the hospital tells the "
    "finding. What facts of the files alone (bytes per pixel, sharpness, border and so on, fitted "
    "on other patients) tell of each stands beside it: the higher that is, the less a plain AUC "
    "says of disease (`python -m train audit` shows the facts)."
)
