"""Every finished recipe beside what the five systems reported: docs/results.md.

    python -m benchmarks scorecard runs/* --data chest_xray --external nih_external \
        --output docs/results.md

evaluates what has not been evaluated yet, copies the figures to results/recipes/ beside the output
(so that they can be committed) and writes the page from those copies. Without runs it writes the
page from the copies alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_runtime.basics.parse import from_mapping
from edge_runtime.errors import InvalidValueError
from train.data.table import add_data_sets
from train.evaluate.evaluation import run_evaluation
from train.evaluate.figures import Evaluation, PointMetrics
from train.run.finished import open_run

REPORTED = Path(__file__).with_name("reported.toml")
_COMMAND = "python -m benchmarks scorecard"


@dataclasses.dataclass(frozen=True)
class System:
    """What somebody else reported, and our recipes for it."""

    name: str
    what: str
    recipes: tuple[str, ...]
    reported: str
    note: str = ""  # in what our runs fall short of the recipe


@dataclasses.dataclass(frozen=True)
class _Reported:
    system: tuple[System, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One run: its evaluation on test and, where there is one, on the external data."""

    test: Evaluation
    external: Evaluation | None
    validation: Evaluation | None

    def point(self, name: str) -> PointMetrics:
        return next(p for p in self.test.points if p.name == name)


SPREADS: dict[str, Callable[[Row], float | None]] = {
    "test_AUC": lambda row: row.test.auc.value,
    "accuracy_at_balanced": lambda row: row.point("balanced").accuracy.value,
    "sensitivity_at_screening": lambda row: row.point("screening").sensitivity.value,
    "specificity_at_screening": lambda row: row.point("screening").specificity.value,
    "specificity_at_sensitivity_0.989": lambda row: row.test.specificity_at_sensitivity_0_989,
    "external_AUC": lambda row: row.external.auc.value if row.external else None,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Evaluates the runs where that is still to do, copies the figures beside the "
        "page and writes it; without runs it writes the page from the copies."
    )
    parser.epilog = (
        "example: python -m benchmarks scorecard runs/default --data chest_xray "
        "--external nih_external --output docs/results.md"
    )
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    add_data_sets(parser)
    parser.add_argument("--external", type=Path, help="another hospital's labelled folder")
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"))


def run(arguments: argparse.Namespace) -> int:
    run_scorecard(arguments.runs, arguments.data, arguments.external, arguments.output)
    return 0


def run_scorecard(
    runs: Sequence[Path], data: Sequence[Path], external: Path | None, output: Path
) -> None:
    """Evaluate the runs where that is still to do, and write `output`.

    Raises:
        InvalidValueError: A run is not finished, or data are missing for an evaluation.
    """
    store = output.with_suffix("") / "recipes"
    for run in runs:
        recipe = open_run(run).recipe
        target = store / f"{recipe.name}-seed{recipe.seed}"
        target.mkdir(parents=True, exist_ok=True)
        parts = [("validation", data), ("test", data)]
        parts += [("external", [external])] if external else []
        for part, sets in parts:
            source = run / f"evaluation-{part}" / "evaluation.json"
            if not source.exists():
                run_evaluation(run, sets, part)
            shutil.copyfile(source, target / f"{part}.json")
    output.write_text(scorecard(read_rows(store)), encoding="utf-8")
    print(output.read_text(encoding="utf-8"))


def read_rows(store: Path) -> list[Row]:
    """The copied evaluations, by recipe and seed.

    Raises:
        InvalidValueError: There are none.
    """
    rows = []
    for folder in sorted(store.glob("*-seed*")):
        test, external, validation = (
            _read(folder / f"{part}.json") for part in ("test", "external", "validation")
        )
        if test is not None:
            rows.append(Row(test, external, validation))
    if not rows:
        raise InvalidValueError(f"no evaluations in {store}; name finished runs")
    return sorted(rows, key=lambda row: (row.test.recipe, row.test.seed))


def _read(path: Path) -> Evaluation | None:
    if not path.exists():
        return None
    return from_mapping(Evaluation, json.loads(path.read_text(encoding="utf-8")), str(path))


def scorecard(rows: Sequence[Row]) -> str:
    """The page as Markdown."""
    systems = read_reported()
    parts = [
        "# Results",
        "",
        f"Generated by `{_COMMAND}` from the files in `results/recipes`; change those, not this "
        "page. Test: 234 normal, 390 pneumonia, read once for each finished run; every choice "
        "(epochs, temperature, thresholds) was made on validation patients, thresholds by the rule "
        "of a run's time (decisions 15, 32 and, in runs of 6.0.0, 41). AUC with DeLong's, "
        "proportions with exact 95 % intervals. External: 120 adults of NIH ChestX-ray8; for a "
        "recipe that learned from such films, the sources that it held out (`hospitals`: 144 films "
        "of `nih-sample`), so that column compares within a recipe alone. Not a diagnosis: "
        "screening support, research and education.",
        "",
        "## Every run",
        "",
        *_table(
            ("recipe", "seed", "weights", "parameters", "test AUC", "accuracy, balanced",
             "sensitivity, screening", "missed", "specificity, screening",
             "specificity at sensitivity 0.989", "external AUC"),
            [_cells(row) for row in rows],
        ),
        "",
        *_seeds(rows),
        "## Beside what was reported",
        "",
        *_table(
            ("system", "what", "reported", "here: test AUC, accuracy at balanced"),
            [(s.name, s.what, s.reported, _here(s, rows)) for s in systems],
        ),
        "",
        "## What the models lean on",
        "",
        "AUC on validation patients after each image was given something of another image: of "
        "its own class, then of the other class. What is lost between the two was read there "
        "instead of in the lungs (`train/evaluate/counterfactual.py`).",
        "",
        *_counterfactuals(rows),
        "",
    ]  # fmt: skip
    return "\n".join(parts)


def read_reported() -> tuple[System, ...]:
    """reported.toml."""
    document = tomllib.loads(REPORTED.read_text(encoding="utf-8"))
    return from_mapping(_Reported, document, REPORTED.name).system


def _cells(row: Row) -> tuple[str, ...]:
    e, screening, balanced = row.test, row.point("screening"), row.point("balanced")
    return (
        e.recipe,
        str(e.seed),
        _weights(e.weights),
        f"{e.parameters:,}",
        str(e.auc),
        str(balanced.accuracy),
        str(screening.sensitivity),
        str(screening.false_negative),
        str(screening.specificity),
        f"{e.specificity_at_sensitivity_0_989:.4f}",
        str(row.external.auc) if row.external else "",
    )


def _weights(source: str) -> str:
    return {"none": "none (random)", "imagenet": "ImageNet"}.get(
        source, "ImageNet" if "imagenet" in source else source
    )


def _seeds(rows: Sequence[Row]) -> list[str]:
    """Mean and spread of every recipe with several seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.test.recipe, []).append(row)
    lines = []
    for recipe, members in groups.items():
        if len(members) < 2:
            continue
        listed = ", ".join(
            f"{name.replace('_', ' ')} {spread}"
            for name in SPREADS
            if (spread := spread_over_seeds(members, name))
        )
        lines += [
            f"`{recipe}`, {len(members)} seeds, mean ± standard deviation: {listed}.",
            "",
        ]
    return lines


def spread_over_seeds(rows: Sequence[Row], name: str) -> str:
    """Mean and standard deviation of one of SPREADS; "" where fewer than two rows have it."""
    values = [value for row in rows if (value := SPREADS[name](row)) is not None]
    if len(values) < 2:
        return ""
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def _here(system: System, rows: Sequence[Row]) -> str:
    said = "; ".join(
        f"{row.test.recipe} seed {row.test.seed}: {row.test.auc.value:.4f}, "
        f"{row.point('balanced').accuracy.value:.4f}"
        + (" (random weights)" if row.test.weights == "none" and not _drawn(row) else "")
        for row in rows
        if row.test.recipe in system.recipes
    )
    return f"{said}; {system.note}" if said and system.note else said


def _drawn(row: Row) -> bool:
    """Networks that never have pretrained weights."""
    return "cnn" in row.test.recipe


def _counterfactuals(rows: Sequence[Row]) -> list[str]:
    measured = [row for row in rows if row.validation and row.validation.counterfactuals]
    if not measured:
        return ["Not measured."]
    first = measured[0].validation
    names = [c.swapped for c in first.counterfactuals] if first else []
    return _table(
        ("recipe", "seed", "plain", *(f"other {name}" for name in names)),
        [
            (
                row.test.recipe,
                str(row.test.seed),
                f"{row.validation.auc.value:.4f}",
                *(
                    f"{c.own_class.value:.4f} / {c.other_class.value:.4f}"
                    for c in row.validation.counterfactuals
                ),
            )
            for row in measured
            if row.validation
        ],
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
