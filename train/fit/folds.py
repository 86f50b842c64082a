"""Cross-validation: a recipe trained once for each fold of the patients, and judged on it.

    python -m train fit --recipe mine.toml --data films.csv --folds 5 --output runs/mine

trains runs/mine/fold-1 to fold-5, each a run like any other, without a fifth of the patients; the
same command again resumes. folds.json and folds.md say what every fold reached and how far they lie
apart. Patients are never torn apart, and each fold has its share of every finding: scikit-learn's
StratifiedGroupKFold.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_runtime.basics.parse import to_mapping
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval
from train.run.finished import open_run
from train.run.folder import write_results

SCHEMA = "cxr-edge/folds/1"


@dataclasses.dataclass(frozen=True)
class Fold:
    """One fold, judged by the model that did not learn from it."""

    run: str
    films: int
    positives: int
    auc: Estimate


@dataclasses.dataclass(frozen=True)
class Folds:
    schema: str
    recipe: str
    mean_auc: float
    standard_deviation: float  # between folds
    folds: tuple[Fold, ...]


def fit_folds(
    output: Path, count: int, fit_all: Callable[[Sequence[tuple[Path, tuple[str, ...]]]], None]
) -> Folds:
    """Train and judge every fold.

    Args:
        output: Folder of the folds' runs.
        count: Folds, at least 2.
        fit_all: Trains into folders, each with settings of the recipe changed ("data.fold=[1,5]").
    """
    found = []
    recipe = ""
    folders = [output / f"fold-{number}" for number in range(1, count + 1)]
    fit_all([(f, (f"data.fold=[{i},{count}]",)) for i, f in enumerate(folders, 1)])
    for folder in folders:
        run = open_run(folder)
        recipe = run.recipe.name
        positive = run.validation.positive
        reached = auc_interval(positive, run.disease(run.validation.logits))
        found.append(Fold(folder.name, len(positive), int(positive.sum()), reached))
    values = [fold.auc.value for fold in found]
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    result = Folds(SCHEMA, recipe, mean, spread, tuple(found))
    write_results(output, "folds", to_mapping(result), markdown(result))
    return result


def markdown(result: Folds) -> str:
    """A table, and what all folds have in common."""
    return "\n".join(
        [
            f"{result.recipe}, {len(result.folds)} folds of patients: AUC {result.mean_auc:.4f} "
            f"(standard deviation between folds {result.standard_deviation:.4f}). Each fold's "
            "interval is DeLong's; folds share training films, so they are no independent repeats.",
            "",
            "| fold | films | ill | AUC (95 %) |",
            "|---|---|---|---|",
            *(f"| {f.run} | {f.films} | {f.positives} | {f.auc} |" for f in result.folds),
            "",
        ]
    )
