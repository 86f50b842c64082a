"""Everything there is to know about a finished run on one part of the data.

    python -m train evaluate runs/default --data chest_xray --part test

writes RUN/evaluation-PART/{scores.csv, evaluation.json, index.html, *.svg}. The scores are kept: a
second call redraws from them and does not look at the images' labels through the model again.
Temperature and operating points come from the run's validation logits, never from the part.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from train.data.dataset import (
    NORMAL_FOLDERS,
    POSITIVE_FOLDER,
    Sample,
    kind_of,
    load_pixels,
    patient_of,
    read_folder,
)
from train.evaluate.counterfactual import measure_counterfactuals
from train.evaluate.figures import Evaluation, evaluate, summary
from train.evaluate.page import write_page
from train.evaluate.probes import measure_detail
from train.run.finished import FinishedRun, open_run
from train.run.folder import write_json
from train.run.scores import Scores, predict_logits, read_scores, write_scores


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
    write_page(run, model, scores, evaluation, data, output)
    print(summary(evaluation))
    return evaluation


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
