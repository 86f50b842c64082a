"""Everything there is to know about a finished run on one part of the data.

    python -m train evaluate runs/default --data chest_xray --part test

writes RUN/evaluation-PART/{scores.csv, evaluation.json, index.html, *.svg}. The scores are kept: a
second call redraws from them and does not look at the images' labels through the model again.
Temperature and operating points come from the run's validation logits, never from the part.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edge_runtime import __version__
from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.operating_point import ABNORMAL
from train.data.dataset import NORMAL, Sample, read_bytes
from train.data.source import Source, open_source
from train.evaluate.adjusted import facts_of, within_facts
from train.evaluate.counterfactual import measure_counterfactuals
from train.evaluate.figures import Evaluation, evaluate, summary
from train.evaluate.page import write_page
from train.evaluate.probes import measure_detail
from train.run.finished import FinishedRun, open_run
from train.run.folder import write_json
from train.run.scores import Scores, predict_logits, read_scores, write_scores


def run_evaluation(
    run_folder: Path, data: Sequence[Path], part: str, output: Path | None = None
) -> Evaluation:
    """Evaluate a run on a part and write the report.

    Args:
        run_folder: A finished run.
        data: The data sets that the run learned from; for part "test" also any one with such a
            part; for "external" a data set of another hospital.
        part: "validation", "test" or "external".
        output: By default RUN/evaluation-PART.

    Raises:
        InvalidValueError: Not a finished run, an unknown part, or data that do not fit it.
    """
    run = open_run(run_folder)
    output = output or run_folder / f"evaluation-{part}"
    output.mkdir(parents=True, exist_ok=True)
    model = _load_model(run)
    source = open_source(data, run.recipe.data.findings, run.recipe.data.patient_pattern)
    scores = _scores(run, model, source, part, output / "scores.csv")
    facts = None
    if run.recipe.network.positive == ABNORMAL or part == "external":
        contents = (read_bytes(source.root, sample) for sample in scores.samples)
        facts = facts_of(contents, len(scores.samples))
    evaluation = evaluate(run, scores, part, int(model.count_params()), facts)
    if part == "validation":
        pixels = source.pixels(scores.samples, run.input, "counterfactuals")
        rows = measure_counterfactuals(model, pixels, scores.positive, run.activation)
        evaluation = dataclasses.replace(evaluation, counterfactuals=rows)
    if part == "external":
        pixels = source.pixels(scores.samples, run.input, "less detail")
        levels = measure_detail(model, pixels, scores.positive, run.activation)
        assert facts is not None
        within = within_facts(
            scores.positive,
            run.disease(scores.logits),
            facts,
            [sample.patient for sample in scores.samples],
        )
        sources = sorted({source.films[sample.path].source for sample in scores.samples})
        evaluation = dataclasses.replace(
            evaluation, less_detail=levels, within_facts=within, sources=tuple(sources)
        )
    write_json(output / "evaluation.json", to_mapping(evaluation))
    write_page(run, model, scores, evaluation, source, output)
    print(summary(evaluation))
    return evaluation


def _scores(run: FinishedRun, model: Any, source: Source, part: str, kept: Path) -> Scores:
    if part == "validation":
        return run.validation
    if kept.exists():
        return read_scores(kept)
    samples = _films_of(run, source, part)
    pixels = source.pixels(samples, run.input, f"reading {part}")
    scores = Scores(tuple(samples), predict_logits(model, pixels))
    write_scores(kept, scores)
    if part == "test":
        _note_reading(run, source)
    return read_scores(kept)  # the same figures now and when redrawn


def _note_reading(run: FinishedRun, source: Source) -> None:
    """Put down in the run that its test part was read, and say so where it was before."""
    file = run.folder / "readings.json"
    readings = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    if readings:
        tqdm.write(
            f"the test part was read before, {len(readings)} times, last on "
            f"{readings[-1]['date']}: whatever was chosen since then was chosen knowing it"
        )
    reading = {
        "date": f"{datetime.date.today():%Y-%m-%d}",
        "version": __version__,
        "data": source.root.name if source.root else "",
    }
    write_json(file, [*readings, reading])


def _films_of(run: FinishedRun, source: Source, part: str) -> list[Sample]:
    """The films of a part, by path.

    External are films of patients that the run did not learn from, and where its recipe held
    sources out, of these alone.

    Raises:
        InvalidValueError: An unknown part, no data, or films of one class alone.
    """
    parts = {"test": ("test",), "external": ("", "external")}.get(part)
    if parts is None:
        raise InvalidValueError(f"--part must be validation, test or external, got {part!r}")
    if source.root is None:
        raise InvalidValueError(f"part {part} needs --data DIR or FILE.csv")
    taught = {sample.patient for sample in run.splits.train}
    films = [
        f
        for f in source.films.values()
        if f.part in parts
        and f.crop == "whole"
        and not (part == "external" and f.sample.patient in taught)
    ]
    held_out = [f for f in films if f.source in run.recipe.data.held_out]
    if part == "external" and held_out:
        films = held_out
    if len({f.sample.kind == NORMAL for f in films}) < 2:
        raise InvalidValueError(
            f"{source.root}: part {part} needs normal films and others; as a folder it has "
            "PNEUMONIA and NO_FINDING (or NORMAL)"
            if part == "external"
            else f"{source.root} has no normal films and others in a part {part}"
        )
    return sorted((film.sample for film in films), key=lambda s: s.path)


def _load_model(run: FinishedRun) -> Any:
    import keras  # takes seconds

    return keras.saving.load_model(run.folder / "model.keras", compile=False)
