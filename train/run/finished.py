"""A finished run, as evaluation, export and benchmarks read it; nothing here imports Keras."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.parse import from_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from edge_runtime.judge.calibration import SPLIT, choose_operating_points, fit_temperature
from edge_runtime.judge.finding import Finding
from edge_runtime.judge.operating_point import PNEUMONIA, OperatingPoint
from edge_runtime.judge.population import ADULT, Population
from edge_runtime.judge.scores import disease_logit, label_probabilities
from edge_runtime.statistics.metrics import auc_interval
from edge_runtime.statistics.odds import log_odds
from train.data.dataset import Sample, Split, has_findings
from train.recipe import Recipe
from train.run.folder import SCHEMA
from train.run.scores import CORRUPTED, PLAIN, Scores, read_scores

_FEWEST = 100  # validation films of either class, for thresholds of a population's own
_FEWEST_SHOWING = 5  # validation films with a finding, and without
_OLDEST = 200.0  # years: nobody is


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run whose training has ended; `folder`/model.keras is its model."""

    folder: Path
    description: Mapping[str, Any]  # run.json
    recipe: Recipe
    splits: Split
    validation: Scores
    corrupted: Scores | None = None  # of the same images; older runs have none

    @property
    def weights(self) -> str:
        """Where training began."""
        return str(self.description["weights"]["source"])

    @property
    def _word(self) -> str:
        """For what is ruled in or out."""
        is_pneumonia = self.recipe.network.positive == PNEUMONIA
        return PNEUMONIA if is_pneumonia else "disease"

    @property
    def activation(self) -> str:
        return self.recipe.network.activation

    def disease(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, units) logits of its model -> (n,) log odds of any disease."""
        return disease_logit(logits, self.activation)

    @property
    def input(self) -> InputSpec:
        return self.recipe.input

    def calibrate(self, logits: NDArray[np.float64]) -> tuple[float, tuple[OperatingPoint, ...]]:
        """Temperature and operating points, from validation alone.

        Args:
            logits: (n,) log odds of pneumonia of the validation images, before temperature.
        """
        temperature = round(fit_temperature(logits, self.validation.positive), 4)
        positive = self.validation.positive
        points = choose_operating_points(logits, positive, temperature, self._word)
        return temperature, points

    def calibrate_populations(
        self, logits: NDArray[np.float64], temperature: float, child: NDArray[np.bool_]
    ) -> tuple[Population, ...]:
        """Operating points of children and of adults; () where either has too few films.

        Args:
            logits: (n,) as for `calibrate`.
            temperature: Of `calibrate`: one for all, so that probabilities mean the same.
            child: (n,) whom each validation film shows.
        """
        positive = self.validation.positive
        groups = {"children": ((0.0, ADULT), child), "adults": ((ADULT, _OLDEST), ~child)}
        if any(
            (positive[here] == kind).sum() < _FEWEST
            for _, here in groups.values()
            for kind in (0, 1)
        ):
            return ()
        return tuple(
            Population(
                name,
                ages,
                choose_operating_points(logits[here], positive[here], temperature, self._word),
            )
            for name, (ages, here) in groups.items()
        )

    def calibrate_findings(self, logits: NDArray[np.float64]) -> tuple[Finding, ...]:
        """Each finding's temperature and operating points, from validation alone.

        () of models that tell pneumonia alone.

        Args:
            logits: (n, units) of the validation images, before temperature.
        """
        if self.recipe.network.positive == PNEUMONIA:
            return ()
        check_findings(self.recipe, self.validation.samples)
        positive = has_findings(self.validation.samples, self.labels).astype(np.int64)
        of_all = round(fit_temperature(self.disease(logits), self.validation.positive), 4)
        found = []
        for i, name in enumerate(self.labels[1:]):
            label, odds = positive[:, i], self.finding_odds(logits, i, of_all)
            alone = self.activation == "sigmoid"
            temperature = round(fit_temperature(odds, label), 4) if alone else of_all
            points = choose_operating_points(odds, label, temperature if alone else 1.0, name)
            auc = auc_interval(label, odds)
            found.append(Finding(name, temperature, auc, int(label.sum()), SPLIT, points))
        return tuple(found)

    def finding_odds(
        self, logits: NDArray[np.float64], i: int, temperature: float
    ) -> NDArray[np.float64]:
        """(n,) log odds of finding i: its own logit, or with softmax its share, calibrated.

        Args:
            logits: (n, units).
            i: Place among the labels after the first.
            temperature: Of any disease, for softmax.
        """
        if self.activation == "sigmoid":
            return logits[:, i]
        shares = (label_probabilities(row, temperature, self.activation) for row in logits)
        return np.array([log_odds(share[1 + i]) for share in shares])

    @property
    def labels(self) -> tuple[str, ...]:
        return self.recipe.network.labels


def check_findings(recipe: Recipe, validation: Sequence[Sample]) -> None:
    """Raise InvalidValueError where validation cannot choose thresholds for each finding."""
    if recipe.network.positive == PNEUMONIA:
        return
    shown = has_findings(validation, recipe.network.labels).sum(axis=0)
    for name, count in zip(recipe.network.labels[1:], shown, strict=True):
        if min(count, len(validation) - count) < _FEWEST_SHOWING:
            raise InvalidValueError(
                f"validation has {count} whole films with {name} and {len(validation) - count} "
                f"without, and thresholds need {_FEWEST_SHOWING} of either: raise "
                "data.validation_fraction, name more data, or leave the label out"
            )


def open_run(folder: Path) -> FinishedRun:
    """Open a finished run.

    Raises:
        InvalidValueError: Not a run folder, training has not finished, or its files do not fit
            each other.
    """
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        splits = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{folder} is not a run folder: {error}") from error
    if description.get("schema") != SCHEMA:
        raise InvalidValueError(f"{folder}/run.json: unknown schema {description.get('schema')!r}")
    if "outcome" not in description or not (folder / "model.keras").is_file():
        raise InvalidValueError(f"{folder}: training has not finished; run `train fit` again")
    run = FinishedRun(
        folder,
        description,
        from_mapping(Recipe, description["recipe"], f"{folder}/run.json: recipe"),
        from_mapping(Split, splits, f"{folder}/splits.json"),
        read_scores(folder / PLAIN),
        read_scores(folder / CORRUPTED) if (folder / CORRUPTED).exists() else None,
    )
    images = [sample.path for sample in run.splits.validation]
    for name, scores in ((PLAIN, run.validation), (CORRUPTED, run.corrupted)):
        if scores is not None and [sample.path for sample in scores.samples] != images:
            raise InvalidValueError(f"{folder}/{name} is not about the images of splits.json")
    return run
