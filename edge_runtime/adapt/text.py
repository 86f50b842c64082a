"""An adaptation for people: the verdict, in a sentence, and the whole result at a terminal."""

from __future__ import annotations

from edge_runtime.adapt.adapt import HOLDOUT, Adaptation, AtPoint
from edge_runtime.adapt.guard import CONFOUNDED
from edge_runtime.records.messages import catalogue, say
from edge_runtime.records.output import printable
from edge_runtime.site.page import told_policy
from edge_runtime.site.thresholds import Policy


def verdict(result: Adaptation, language: str) -> list[str]:
    """What came of it and why, the refusal first; a sentence each."""
    guarded = result.guarded
    gain = guarded.gain_within if result.refusal == CONFOUNDED else guarded.gain
    if result.refusal == HOLDOUT and result.final_look:
        gain = result.final_look.gain
    told = say(f"adapt.{result.refusal or 'helps'}", language).format(
        before=f"{result.before:.3f}",
        after=f"{result.after:.3f}",
        gain=f"{gain:+.3f}" if gain else "–",
        facts=f"{guarded.together:.2f}" if guarded.together else "–",
        fact=told_fact(guarded.strongest, language) if guarded.strongest else "–",
        share=f"{guarded.comparable:.0%}",
        policy=told_policy(result.policy, language),
    )
    lines = [told]
    if result.accepted_confounding:
        lines.append(say("adapt.accepted", language))
    if guarded.telling and guarded.before and guarded.after and guarded.gain_within:
        within = say("adapt.within", language).format(
            before=f"{guarded.before:.3f}",
            after=f"{guarded.after:.3f}",
            gain=f"{guarded.gain_within:+.3f}",
        )
        lines.append(within)
    return lines


def told_fact(name: str, language: str) -> str:
    """A fact of the file as people call it; a column of the site's table keeps its name."""
    key = f"fact.{name.replace(' ', '_')}"
    return catalogue(language).get(key, name)


def told_films(result: Adaptation, language: str) -> str:
    """How many of what; and that nothing names patients, where nothing does."""
    told = say("adapt.films", language).format(
        films=result.films,
        patients=result.patients if result.knows_patients else "–",
        positives=result.positives,
        refused=result.refused,
        unreadable=result.unreadable,
        unsure=result.unsure,
    )
    return told if result.knows_patients else f"{told} {say('adapt.no_patients', language)}"


def told_final(result: Adaptation, language: str) -> str | None:
    """The last look, in a sentence; None where nothing was set aside."""
    look = result.final_look
    if look is None:
        return None
    return say("adapt.final", language).format(
        films=look.films,
        positives=look.positives,
        before=f"{look.before:.3f}",
        after=f"{look.after:.3f}",
        gain=f"{look.gain:+.3f}",
    )


def points_of(result: Adaptation) -> list[tuple[str, AtPoint]]:
    """Code of the sentence that names it, and what it does."""
    found = [("adapt.bundled", result.bundled)]
    if result.adapted:
        found.append(("adapt.adapted", result.adapted))
    if result.final_look:
        found.append(("adapt.aside", result.final_look.at_point))
    return found


def render_text(result: Adaptation) -> str:
    """The result for people, at a terminal."""
    lines = [f"{result.model} on {result.engine}", told_films(result, "en"), ""]
    lines += [*verdict(result, "en"), ""]
    lines.append(f"{'':26} {'threshold':>9} {'sensitivity':>25} {'specificity':>25}")
    for code, point in points_of(result):
        lines.append(
            f"{say(code, 'en'):26} {point.threshold:9.4f} {point.sensitivity!s:>25} "
            f"{point.specificity!s:>25}"
        )
    if (final := told_final(result, "en")) is not None:
        lines.append(final)
    lines += ["", f"{say('adapt.facts', 'en')}:"]
    if result.guarded.together:
        lines.append(f"  {say('adapt.together', 'en'):22} AUC {result.guarded.together:.3f}")
    lines += [f"  {told_fact(f.name, 'en'):22} AUC {f.auc:.3f}" for f in result.guarded.facts]
    lines += ["", f"{say('adapt.curve', 'en')}:"]
    lines += [f"  {point.films:6} {point.auc:.3f}" for point in result.curve]
    if result.twice is not None:
        lines.append(say("adapt.twice", "en").format(value=f"{result.twice:.3f}"))
    if result.suspicious:
        lines += ["", f"{say('adapt.suspicious', 'en')}:"]
        for s in result.suspicious:
            told = say("adapt.label", "en").format(label=int(s.positive), chance=f"{s.chance:.3f}")
            lines.append(printable(f"  {s.path}: {told}"))
    return "\n".join(lines) + "\n"


def default_policy(prevalence: float) -> Policy:
    """Costs of which the least is the largest sum of sensitivity and specificity."""
    return Policy(cost_missed=round((1 - prevalence) / prevalence, 6), cost_false_alarm=1.0)
