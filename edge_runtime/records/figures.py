"""What people are told an operating point does, the least flattering first."""

from __future__ import annotations

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.messages import say
from edge_runtime.statistics.estimates import Estimate


def told_figures(manifest: Manifest, point: OperatingPoint, language: str) -> list[str]:
    """A sentence for each set of films that it was measured on; [] of a threshold made up here.

    The films that it was chosen on come last, and the sentence says that they flatter.
    """
    if point.name == "custom":
        return []
    lines = []
    for known in manifest.expectations(point.name):
        films = say(f"figures.{known.split}", language).format(films=known.films)
        line = _line(films, known.sensitivity, known.specificity, language)
        if known.not_ruled_out:
            share = told_share(known.not_ruled_out, language)
            line += "; " + say("figures.not_ruled_out", language).format(share=share)
        counts = say("figures.films", language).format(
            pneumonia=known.pneumonia, normal=known.normal
        )
        lines.append(f"{line} ({counts}).")
    chosen = say("figures.chosen", language).format(films=point.split)
    return [*lines, _line(chosen, point.sensitivity, point.specificity, language) + "."]


def told_share(estimate: Estimate, language: str) -> str:
    """A share and its 95 % interval, for people."""
    return say("report.interval", language).format(
        value=f"{estimate.value:.1%}", low=f"{estimate.low:.1%}", high=f"{estimate.high:.1%}"
    )


def _line(films: str, sensitivity: Estimate, specificity: Estimate, language: str) -> str:
    return say("figures.line", language).format(
        films=films,
        sensitivity=told_share(sensitivity, language),
        specificity=told_share(specificity, language),
    )
