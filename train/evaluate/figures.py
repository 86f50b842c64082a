"""Every figure of a run on one part of the data, from logits alone; each with its interval."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.scores import finding_probabilities
from edge_runtime.statistics import odds
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import (
    auc_interval,
    average_precision,
    binary_cross_entropy,
    bootstrap_interval,
    brier_score,
    confusion,
    expected_calibration_error,
    proportion,
)
from train.data.dataset import has_findings
from train.evaluate.adjusted import WithinFacts
from train.evaluate.by_finding import ByFinding, measure_findings
from train.evaluate.counterfactual import Counterfactual
from train.run.finished import FinishedRun
from train.run.scores import Scores

SCHEMA = "cxr-edge/evaluation/1"


@dataclasses.dataclass(frozen=True)
class PointMetrics:
    """What happens at one operating point; counts beside the proportions."""

    name: str
    threshold: float
    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    sensitivity_by_kind: dict[str, Estimate]
    uncertain: int | None  # images in the grey band, where the point has one
    # Rows normal and ill, columns normal, uncertain and pneumonia, where the point has a grey band;
    # the counts above are those at its threshold.
    answers: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """evaluation.json. Proportions have exact intervals, AUC DeLong's, the others bootstrap over
    patients.
    """

    schema: str
    recipe: str
    seed: int
    weights: str
    parameters: int
    part: str
    images: dict[str, int]  # by kind
    temperature: float
    median_probability: dict[str, float]  # by kind
    auc: Estimate
    auc_by_kind: dict[str, Estimate]  # one kind of pneumonia against normal
    average_precision: Estimate
    loss: Estimate
    brier: Estimate
    expected_calibration_error: Estimate
    points: tuple[PointMetrics, ...]
    # The specificity where as much sensitivity as in the title is kept, on this very part: a
    # property of the ranking, not an operating point.
    specificity_at_sensitivity_0_989: float
    # On validation only; see counterfactual.py.
    counterfactuals: tuple[Counterfactual, ...] = ()
    # On external images only: what file facts alone tell, and the AUC within strata of that.
    within_facts: WithinFacts | None = None
    # Of models that tell several findings.
    by_finding: ByFinding | None = None
    # AUC with less detail, on external images only; see probes.py.
    less_detail: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    # Whose films, on external images only.
    sources: tuple[str, ...] = ()


def evaluate(
    run: FinishedRun,
    scores: Scores,
    part: str,
    parameters: int,
    facts: NDArray[np.float64] | None = None,
) -> Evaluation:
    """All figures, from logits, and of findings also from facts of their files (n, facts)."""
    temperature, points = run.calibrate(run.disease(run.validation.logits))
    probability = probabilities(run, scores, temperature)
    positive = scores.positive
    kinds = np.array([s.kind for s in scores.samples])
    patients = [s.patient for s in scores.samples]

    def bootstrap(statistic) -> Estimate:  # type: ignore[no-untyped-def]
        return bootstrap_interval(statistic, positive, probability, patients)

    diseases = sorted(set(kinds) - {"normal"})
    order = np.argsort(-probability, kind="stable")
    needed = int(np.ceil(0.989 * positive.sum() - 1e-9))
    cut = probability[order][np.searchsorted(np.cumsum(positive[order]), needed)]
    return Evaluation(
        schema=SCHEMA,
        recipe=run.recipe.name,
        seed=run.recipe.seed,
        weights=run.weights,
        parameters=parameters,
        part=part,
        images={str(kind): int((kinds == kind).sum()) for kind in sorted(set(kinds))},
        temperature=temperature,
        median_probability={
            str(kind): round(float(np.median(probability[kinds == kind])), 4)
            for kind in sorted(set(kinds))
        },
        auc=auc_interval(positive, probability),
        auc_by_kind={
            str(kind): auc_interval(
                positive[(kinds == kind) | (positive == 0)],
                probability[(kinds == kind) | (positive == 0)],
            )
            for kind in diseases
        },
        average_precision=bootstrap(average_precision),
        loss=bootstrap(binary_cross_entropy),
        brier=bootstrap(brier_score),
        expected_calibration_error=bootstrap(expected_calibration_error),
        points=tuple(_at_point(point, positive, probability, kinds, patients) for point in points),
        specificity_at_sensitivity_0_989=float((probability[positive == 0] < cut).mean()),
        by_finding=_by_finding(run, scores, temperature, facts),
    )


def _by_finding(
    run: FinishedRun,
    scores: Scores,
    temperature: float,
    facts: NDArray[np.float64] | None,
) -> ByFinding | None:
    findings = run.calibrate_findings(run.validation.logits)
    if not findings:
        return None
    own = [finding.temperature for finding in findings]
    values = [finding_probabilities(z, run.activation, own, temperature) for z in scores.logits]
    shown = has_findings(scores.samples, run.labels)
    people = [s.patient for s in scores.samples]
    return measure_findings(findings, shown, np.array(values), people, facts)


def _at_point(
    point: OperatingPoint,
    positive: NDArray[np.int64],
    probability: NDArray[np.float64],
    kinds: NDArray[np.str_],
    patients: list[str],
) -> PointMetrics:
    counts = confusion(positive, probability, point.threshold)
    uncertain, answers = None, None
    if point.uncertain:
        edges = (0.0, *point.uncertain, np.inf)
        rows = [np.histogram(probability[positive == kind], edges)[0].tolist() for kind in (0, 1)]
        answers = (tuple(rows[0]), tuple(rows[1]))
        uncertain = rows[0][1] + rows[1][1]
    return PointMetrics(
        name=point.name,
        threshold=point.threshold,
        true_positive=counts.true_positive,
        false_negative=counts.false_negative,
        true_negative=counts.true_negative,
        false_positive=counts.false_positive,
        accuracy=counts.accuracy,
        sensitivity=counts.sensitivity,
        specificity=counts.specificity,
        precision=counts.precision,
        f1=bootstrap_interval(
            lambda y, s: confusion(y, s, point.threshold).f1, positive, probability, patients
        ),
        sensitivity_by_kind={
            str(kind): proportion(
                int((probability[kinds == kind] >= point.threshold).sum()),
                int((kinds == kind).sum()),
            )
            for kind in sorted(set(kinds) - {"normal"})
        },
        uncertain=uncertain,
        answers=answers,
    )


def probabilities(run: FinishedRun, scores: Scores, temperature: float) -> NDArray[np.float64]:
    """(n,) calibrated probabilities of any disease."""
    return odds.probabilities(run.disease(scores.logits) / temperature)


def summary(evaluation: Evaluation) -> str:
    """The figures that matter most, in a few lines."""
    e = evaluation
    lines = [
        f"{e.recipe}, seed {e.seed}, {e.part}: {sum(e.images.values())} images {e.images}",
        f"AUC {e.auc}, average precision {e.average_precision}, loss {e.loss}",
    ]
    lines += [f"  {kind}: AUC {value}" for kind, value in e.auc_by_kind.items()]
    medians = ", ".join(f"{kind} {value}" for kind, value in e.median_probability.items())
    lines.append(f"median probability: {medians}")
    for p in e.points:
        band = "" if p.uncertain is None else f", uncertain {p.uncertain}"
        lines.append(
            f"{p.name} ({p.threshold:.4f}): accuracy {p.accuracy}, sensitivity {p.sensitivity}, "
            f"missed {p.false_negative}, specificity {p.specificity}{band}"
        )
    lines += [
        f"other {c.swapped}: AUC {c.own_class} from the same class, {c.other_class} from the other"
        for c in e.counterfactuals
    ]
    if e.by_finding:
        lines += [
            f"{f.name}: {f.positives} films, AUC against all others {f.auc}, against normal "
            f"{f.auc_normal}"
            + (f"; facts of the files alone {f.within_facts.facts_auc}" if f.within_facts else "")
            for f in e.by_finding.figures
        ]
        lines.append(f"mean over findings: AUC {e.by_finding.macro_auc}")
    if e.within_facts:
        lines.append(
            f"facts of the files alone: AUC {e.within_facts.facts_auc}; the model within strata of "
            f"these: AUC {e.within_facts.adjusted_auc}"
        )
    lines += [f"detail reduced to {side}: AUC {value}" for side, value in e.less_detail.items()]
    return "\n".join(lines)
