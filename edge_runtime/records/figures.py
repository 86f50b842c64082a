"""What people are told an operating point does, the least flattering first."""

from __future__ import annotations

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.site_profile import SiteProfile
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.messages import say, say_of
from edge_runtime.statistics.estimates import Estimate


def told_figures(
    manifest: Manifest, point: OperatingPoint, language: str, population: str | None = None
) -> list[str]:
    """A sentence for each set of films that it was measured on; [] of a threshold made up here.

    The films that it was chosen on come last, and the sentence says that they flatter.

    Args:
        manifest: What was measured.
        point: Of the manifest, or made up.
        language: One of `messages.LANGUAGES`.
        population: Whose point it is; None of one that decides of all films.
    """
    if point.name == "custom":
        return []
    lines = []
    for known in manifest.expectations(point.name, population):
        films = say(f"figures.{known.split}", language).format(films=known.films)
        if known.answers:
            shares = {
                name: told_share(getattr(known.answers, name), language)
                for name in ("ill_pneumonia", "ill_uncertain", "normal_normal", "normal_uncertain")
            }
            line = say_of("figures.answers", manifest.positive, language).format(
                films=films, **shares
            )
        else:
            line = _line(films, known.sensitivity, known.specificity, language)
        counts = say("figures.films", language).format(
            pneumonia=known.pneumonia, normal=known.normal
        )
        lines.append(f"{line} ({counts}).")
    # A grey band's own films would have to be counted by three answers too; they flatter anyhow.
    if not lines or point.uncertain is None:
        chosen = say("figures.chosen", language).format(films=point.split)
        lines.append(_line(chosen, point.sensitivity, point.specificity, language) + ".")
    if population is None:
        return lines
    name = say(f"population.{population}", language)
    told = say("population.figures", language)
    return [told.format(population=name, line=line) for line in lines]


def told_site(profile: SiteProfile | None, language: str) -> str | None:
    """A site profile by its name, and what it changed of the score; None without one."""
    if profile is None or profile.correction is None:
        return profile.name if profile else None
    gain = profile.correction.gain
    if gain is None:
        share = f"{profile.prevalence:.1%}"
        told = say("report.shifted", language).format(films=profile.images, share=share)
    else:
        told = say("report.adapted", language).format(films=profile.images, gain=f"{gain:+.3f}")
    if profile.correction.accepted_confounding:
        told += "; " + say("report.confounded", language)
    return f"{profile.name} ({told})"


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
