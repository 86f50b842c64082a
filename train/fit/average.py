"""The mean of the weights of finished runs that began alike, as a run folder of its own.

    python -m train average runs/s1 runs/s2 --data chest_xray --output runs/mean

Runs of one recipe that began from the same weights and differ in their seeds often lie in one
basin, and their mean can be better than each; the validation figures of the mean and of its members
say whether it is. All must have the same validation films, of which none taught any of them.

Source: Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time, ICML 2022.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.metrics import auc
from train.data.arrays import split_data, validation_copies
from train.data.table import add_data_sets
from train.run.finished import FinishedRun, open_run
from train.run.folder import write_json
from train.run.scores import CORRUPTED, PLAIN, Scores, predict_logits, write_scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs, two or more")
    add_data_sets(parser)
    parser.add_argument("--output", type=Path, required=True, help="run folder of the mean")


def run(arguments: argparse.Namespace) -> int:
    for name, figures in average(arguments.runs, arguments.data, arguments.output).items():
        print(f"{name}: validation AUC {figures[0]:.4f}, corrupted {figures[1]:.4f}")
    return 0


def average(
    runs: Sequence[Path], data: Sequence[Path], output: Path
) -> dict[str, tuple[float, float]]:
    """Write the run folder; AUC on validation and on its corrupted copy, of all and of the mean.

    Raises:
        InvalidValueError: Fewer than two runs, runs that differ in more than their seeds, a
            validation film that taught one of them, or `output` holds something.
    """
    import keras  # takes seconds

    finished = [open_run(path) for path in runs]
    _check(finished)
    first = finished[0]
    models = [keras.saving.load_model(r.folder / "model.keras", compile=False) for r in finished]
    weights = [model.get_weights() for model in models]
    mean = models[0]
    mean.set_weights([np.mean(values, axis=0) for values in zip(*weights, strict=True)])
    outcome = {
        "chosen": "mean of the weights of several runs",
        "runs": [{"seed": r.recipe.seed, "outcome": r.description["outcome"]} for r in finished],
        "epochs": sum(int(r.description["outcome"].get("epochs", 0)) for r in finished),
    }
    write_made_run(mean, first, outcome, data, output)
    figures = {str(r.folder): validation_auc(r) for r in finished}
    figures["mean"] = validation_auc(open_run(output))
    return figures


def write_made_run(
    model: Any,
    like: FinishedRun,
    outcome: Mapping[str, Any],
    data: Sequence[Path],
    output: Path,
) -> None:
    """A run folder of a model that was not trained but made of finished runs.

    Args:
        model: A Keras model.
        like: The run whose recipe, films and weights to begin with are the model's too.
        outcome: How it was made.
        data: The data sets of that run.
        output: A folder that is not there yet.

    Raises:
        InvalidValueError: It is there.
    """
    if output.exists():
        raise InvalidValueError(f"{output} is there already; give a new --output")
    _, source = split_data(like.recipe, data)
    validation, corrupted = validation_copies(like.recipe, source, like.splits.validation)
    output.mkdir(parents=True)
    model.save(output / "model.keras")
    shutil.copy(like.folder / "splits.json", output)
    write_json(output / "history.json", [])
    for name, pixels in ((PLAIN, validation), (CORRUPTED, corrupted)):
        scores = Scores(like.splits.validation, predict_logits(model, pixels))
        write_scores(output / name, scores)
    described = dict(like.description) | {"outcome": dict(outcome)}
    write_json(output / "run.json", json.loads(json.dumps(to_mapping(described))))


def _check(finished: Sequence[FinishedRun]) -> None:
    if len(finished) < 2:
        raise InvalidValueError("the mean of one run is that run; name two or more")
    first = finished[0]
    films = [s.path for s in first.splits.validation]
    patients = {s.patient for s in first.splits.validation}
    for other in finished[1:]:
        one, two = (dict(to_mapping(r.recipe)) for r in (first, other))
        differing = sorted(key for key in one if one[key] != two[key] and key != "seed")
        if differing:
            raise InvalidValueError(
                f"{other.folder} has another {', '.join(differing)} than {first.folder}: their "
                "mean is of no recipe"
            )
        if other.description["weights"] != first.description["weights"]:
            raise InvalidValueError(
                f"{other.folder} began with other weights than {first.folder}: their mean is no "
                "model"
            )
        if [s.path for s in other.splits.validation] != films or any(
            s.patient in patients for s in other.splits.train
        ):
            raise InvalidValueError(
                f"{other.folder} was split otherwise than {first.folder}: set data.split_seed"
            )


def validation_auc(run: FinishedRun) -> tuple[float, float]:
    """On validation and on its corrupted copy."""
    positive = run.validation.positive
    assert run.corrupted is not None
    return (
        auc(positive, run.disease(run.validation.logits)),
        auc(positive, run.disease(run.corrupted.logits)),
    )
