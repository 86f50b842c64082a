"""What people are told to expect of an operating point: measured on films that chose nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge_runtime.bundle.manifest import Expected
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.statistics.estimates import Estimate
from train.run.finished import FinishedRun

_PARTS = {"test": "test", "external": "held out"}


def expectations(run: FinishedRun, points: Sequence[OperatingPoint]) -> tuple[Expected, ...]:
    """From what `train evaluate` wrote beside the run, of the float model; () where it did not.

    Args:
        run: A finished run.
        points: Of the bundle. Where one has a grey band, another point's threshold is its lower
            end, and that one's sensitivity says how many of the ill are not ruled out.
    """
    found = []
    for part, split in _PARTS.items():
        file = run.folder / f"evaluation-{part}" / "evaluation.json"
        if not file.is_file():
            continue
        document = json.loads(file.read_text(encoding="utf-8"))
        measured = {point["name"]: point for point in document["points"]}
        films = "" if part == "test" else ", ".join(run.recipe.data.held_out)
        for point in points:
            row = measured.get(point.name)
            if row is None:
                continue
            found.append(
                Expected(
                    films,
                    split,
                    point.name,
                    row["true_negative"] + row["false_positive"],
                    row["true_positive"] + row["false_negative"],
                    Estimate(**row["sensitivity"]),
                    Estimate(**row["specificity"]),
                    _not_ruled_out(point, points, measured),
                )
            )
    return tuple(found)


def _not_ruled_out(
    point: OperatingPoint, points: Sequence[OperatingPoint], measured: Mapping[str, Any]
) -> Estimate | None:
    if point.uncertain is None:
        return None
    for other in points:
        if other.uncertain is None and other.threshold == point.uncertain[0]:
            return Estimate(**measured[other.name]["sensitivity"])
    return None
