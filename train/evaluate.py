"""Everything there is to know about a finished run on one part of the data.

    python -m train evaluate runs/default --data chest_xray --part test

writes RUN/evaluation-PART/{scores.csv, evaluation.json, index.html, *.svg}. The scores are kept: a
second call redraws from them and does not look at the images' labels through the model again.
Temperature and operating points come from the run's validation logits, never from the part.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.calibration import choose_operating_points, fit_temperature
from edge_runtime.errors import InvalidValueError
from edge_runtime.estimates import Estimate
from edge_runtime.manifest import OperatingPoint
from edge_runtime.metrics import (
    auc_interval,
    average_precision,
    binary_cross_entropy,
    bootstrap_interval,
    brier_score,
    confusion,
    expected_calibration_error,
    proportion,
)
from edge_runtime.parse import from_mapping, to_mapping
from edge_runtime.scores import disease_logit
from train.counterfactual import Counterfactual, measure_counterfactuals
from train.dataset import (
    NORMAL_FOLDERS,
    POSITIVE_FOLDER,
    Sample,
    kind_of,
    load_pixels,
    patient_of,
    read_folder,
)
from train.logits import CORRUPTED, PLAIN, Scores, predict_logits, read_scores, write_scores
from train.probes import measure_detail
from train.recipe import Recipe
from train.run_folder import write_json

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
    # AUC with less detail, on external images only; see probes.py.
    less_detail: dict[str, Estimate] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What evaluation reads of a run folder."""

    folder: Path
    recipe: Recipe
    weights: str
    validation: Scores
    corrupted: Scores | None = None  # of the same images; older runs have none


def run_evaluation(
    run_folder: Path, data: Path | None, part: str, output: Path | None = None
) -> Evaluation:
    """Evaluate a run on a part and write the report.

    Args:
        run_folder: A finished run.
        data: The data folder; for part "external", a folder with PNEUMONIA/ and NO_FINDING/.
        part: "validation", "test" or "external".
        output: By default RUN/evaluation-PART.

    Raises:
        InvalidValueError: Not a finished run, an unknown part, or data that do not fit it.
    """
    run = open_run(run_folder)
    output = output or run_folder / f"evaluation-{part}"
    output.mkdir(parents=True, exist_ok=True)
    model = _load_model(run)
    scores = _scores(run, model, data, part, output / "scores.csv")
    evaluation = evaluate(run, scores, part, int(model.count_params()))
    if part == "validation":
        pixels = load_pixels(data, scores.samples, run.recipe.input, "counterfactuals")
        rows = measure_counterfactuals(model, pixels, scores.positive)
        evaluation = dataclasses.replace(evaluation, counterfactuals=rows)
    if part == "external":
        pixels = load_pixels(data, scores.samples, run.recipe.input, "less detail")
        levels = measure_detail(model, pixels, scores.positive)
        evaluation = dataclasses.replace(evaluation, less_detail=levels)
    write_json(output / "evaluation.json", to_mapping(evaluation))
    from train.evaluation_page import write_page  # matplotlib takes a second to import

    write_page(run, model, scores, evaluation, data, output)
    print(summary(evaluation))
    return evaluation


def open_run(folder: Path) -> FinishedRun:
    """A finished run.

    Raises:
        InvalidValueError: Not a run folder, or training has not finished.
    """
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{folder} is not a run folder: {error}") from error
    if "outcome" not in description:
        raise InvalidValueError(f"{folder}: training has not finished; run `train fit` again")
    recipe = from_mapping(Recipe, description["recipe"], f"{folder}/run.json: recipe")
    return FinishedRun(
        folder,
        recipe,
        str(description["weights"]["source"]),
        read_scores(folder / PLAIN),
        read_scores(folder / CORRUPTED) if (folder / CORRUPTED).exists() else None,
    )


def evaluate(run: FinishedRun, scores: Scores, part: str, parameters: int) -> Evaluation:
    """All figures, from logits alone."""
    validation = disease_logit(run.validation.logits)
    temperature = round(fit_temperature(validation, run.validation.positive), 4)
    corrupted = disease_logit(run.corrupted.logits) if run.corrupted else None
    points = choose_operating_points(validation, run.validation.positive, temperature, corrupted)
    probability = probabilities(scores, temperature)
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
    )


def _at_point(
    point: OperatingPoint,
    positive: NDArray[np.int64],
    probability: NDArray[np.float64],
    kinds: NDArray[np.str_],
    patients: list[str],
) -> PointMetrics:
    counts = confusion(positive, probability, point.threshold)
    uncertain = None
    if point.uncertain:
        low, high = point.uncertain
        uncertain = int(((probability >= low) & (probability < high)).sum())
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
    )


def probabilities(scores: Scores, temperature: float) -> NDArray[np.float64]:
    """(n,) calibrated probabilities of any pneumonia."""
    return np.asarray(1 / (1 + np.exp(-disease_logit(scores.logits) / temperature)))


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
    lines += [f"detail reduced to {side}: AUC {value}" for side, value in e.less_detail.items()]
    return "\n".join(lines)


def _scores(run: FinishedRun, model: Any, data: Path | None, part: str, kept: Path) -> Scores:
    if part == "validation":
        return run.validation
    if kept.exists():
        return read_scores(kept)
    if data is None:
        raise InvalidValueError(f"part {part} needs --data DIR")
    if part == "test":
        samples = read_folder(data, ("test",))
    elif part == "external":
        samples = _read_external(data)
    else:
        raise InvalidValueError(f"--part must be validation, test or external, got {part!r}")
    pixels = load_pixels(data, samples, run.recipe.input, f"reading {part}")
    scores = Scores(tuple(samples), predict_logits(model, pixels))
    write_scores(kept, scores)
    return read_scores(kept)  # the same figures now and when redrawn


def _read_external(data: Path) -> list[Sample]:
    samples = [
        Sample(file.relative_to(data).as_posix(), kind_of(file.name, folder), patient_of(file))
        for folder in (*NORMAL_FOLDERS, POSITIVE_FOLDER)
        if (data / folder).is_dir()
        for file in sorted((data / folder).iterdir())
        if not file.name.startswith(".")
    ]
    if len({s.kind for s in samples}) < 2:
        raise InvalidValueError(
            f"{data} needs the folders PNEUMONIA and NO_FINDING (or NORMAL), each with images"
        )
    return samples


def _load_model(run: FinishedRun) -> Any:
    import keras  # takes seconds

    return keras.saving.load_model(run.folder / "model.keras", compile=False)
