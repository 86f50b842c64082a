"""An archive for people: as text, and as one self-contained HTML page."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping

from edge_runtime.archive.ask import ALPHA, LEAST_DISTANCE, Answers, Group, Suspect
from edge_runtime.records.figures import told_share
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import catalogue, say
from edge_runtime.records.output import printable
from edge_runtime.statistics.estimates import Estimate

_SHOWN = 100  # films of the worklist on the page; the CSV has all
_WIDTH, _HEIGHT = 180, 16  # of the small drawings
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bad: #c5221f; --ink: #c5221f; --grey: #8889 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 1.5rem auto;
  padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; margin-bottom: 1.5rem }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; white-space: nowrap }
td:first-child, th:first-child, td.words { text-align: left }
td:first-child { min-width: 8rem; max-width: 22rem; white-space: normal; overflow-wrap: anywhere }
.quiet { opacity: .8; font-size: .9rem } .differs { color: var(--bad); font-weight: 600 }
svg { display: block } .area { fill: var(--grey) } .dot { fill: var(--ink) }
.range { stroke: var(--ink); stroke-width: 2 }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --ink: #ff8a80 } }
"""


def render_text(answers: Answers) -> str:
    """The archive at a terminal."""
    lines = [summary(answers, "en"), ""]
    for kind, groups in answers.groups.items():
        if not _is_told(groups):
            continue
        lines.append(
            f"{kind:28} {'films':>9} {'positive':>9} {'uncertain':>9} {'refused':>9} "
            f"{'flagged':>9} {'errors':>7} {'median':>7}"
        )
        for group in groups:
            shares = (group.positive, group.uncertain, group.rejected, group.flagged)
            told = " ".join(f"{share.value:9.1%}" for share in shares)
            median = "–" if group.median is None else f"{group.median:.2f}"
            mark = f"  unlike the others ({group.distance:.2f})" if group.differs else ""
            name = printable(_name(group, "en"))[:28]
            lines.append(f"{name:28} {group.films:9} {told} {group.errors.value:7.1%} "
                         f"{median:>7}{mark}")  # fmt: skip
        if answers.smaller[kind]:
            lines.append(say("archive.more", "en").format(count=answers.smaller[kind]))
        lines.append("")
    lines.append(worklist_note(answers, "en"))
    lines += [
        printable(f"  {one.probability:.3f}  {one.decision:10} {one.source}")
        for one in answers.suspects[:10]
    ]
    return "\n".join(lines) + "\n"


def summary(answers: Answers, language: str) -> str:
    """How much there is, and with what it was screened."""
    made_with = answers.made_with
    return say("archive.summary", language).format(
        films=answers.total.films,
        origins=len(answers.groups["origin"]) + answers.smaller["origin"],
        model=str(made_with["model_sha256"])[:12],
        engine=made_with["engine"],
        point=made_with["operating_point"],
    )


def worklist_note(answers: Answers, language: str) -> str:
    """What the worklist is chosen from."""
    key = "archive.worklist.all" if answers.reported is None else "archive.worklist.unreported"
    return say(key, language).format(
        count=len(answers.suspects), candidates=answers.candidates, reported=answers.reported
    )


def render_page(answers: Answers, language: str = "en") -> str:
    """The page.

    Args:
        answers: Of `ask`.
        language: One of `messages.LANGUAGES`.
    """
    title = say("archive.title", language)
    note = say("archive.note", language).format(alpha=f"{ALPHA:.0%}", least=LEAST_DISTANCE)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p><strong>{html.escape(say('notice', language))}</strong></p>",
        f"<p>{html.escape(summary(answers, language))}</p>",
        _table([_named(answers.total, say("archive.total", language))], "", language),
    ]
    parts += [f"<p class=quiet>{html.escape(note)}</p>"]
    for kind, groups in answers.groups.items():
        if not _is_told(groups):
            continue
        parts.append(f"<h2>{html.escape(say(f'archive.by.{kind}', language))}</h2>")
        parts.append(_table(groups, say(f"archive.{kind}", language), language))
        if answers.smaller[kind]:
            more = say("archive.more", language).format(count=answers.smaller[kind])
            parts.append(f"<p class=quiet>{html.escape(more)}</p>")
    silent = [kind for kind, groups in answers.groups.items() if not _is_told(groups)]
    if silent:
        kinds = ", ".join(say(f"archive.{kind}", language) for kind in silent)
        told = say("archive.silent", language).format(kinds=kinds)
        parts.append(f"<p class=quiet>{html.escape(told)}</p>")
    parts.append(_counts("archive.flags", answers.flags, "flag", language))
    parts.append(_counts("archive.errors", answers.errors, "error", language))
    parts.append(f"<h2>{html.escape(say('archive.worklist', language))}</h2>")
    parts.append(f"<p>{html.escape(worklist_note(answers, language))}</p>")
    parts.append(_worklist(answers.suspects[:_SHOWN], language))
    return html_page(title, "\n".join(parts), _STYLE, language)


def _is_told(groups: tuple[Group, ...]) -> bool:
    """Whether any film says what it is of this kind."""
    return any(group.name is not None for group in groups)


def _named(group: Group, name: str) -> Group:
    return dataclasses.replace(group, name=name)


def _name(group: Group, language: str) -> str:
    return say("archive.unknown", language) if group.name is None else group.name


def _table(groups: tuple[Group, ...] | list[Group], first: str, language: str) -> str:
    keys = ("films", "positive", "", "uncertain", "refused", "flagged", "error", "median")
    words = [first, *(say(f"archive.{key}", language) if key else "" for key in keys)]
    head = "".join(f"<th>{html.escape(word)}</th>" for word in words)
    most = max((group.positive.high for group in groups if group.films), default=1.0) or 1.0
    rows = [_row(group, most, language) for group in groups]
    return f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _row(group: Group, most: float, language: str) -> str:
    name = html.escape(_name(group, language))
    if group.differs and group.distance is not None:
        told = say("archive.differs", language).format(distance=f"{group.distance:.2f}")
        name += f"<br><span class=differs>{html.escape(told)}</span>"
    shares = (group.uncertain, group.rejected, group.flagged, group.errors)
    cells = [
        f"<td>{name}</td>",
        f"<td>{group.films}</td>",
        f"<td>{html.escape(told_share(group.positive, language))}</td>",
        f"<td>{_interval(group.positive, most)}</td>",
        *(f"<td>{share.value:.1%}</td>" for share in shares),
        f"<td>{'–' if group.median is None else f'{group.median:.2f}'}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _interval(share: Estimate, most: float) -> str:
    """A share and its interval as a drawing, from 0 to the largest of the table."""
    x, low, high = (_WIDTH * min(1.0, v / most) for v in (share.value, share.low, share.high))
    middle = _HEIGHT / 2
    return (
        f"<svg width={_WIDTH} height={_HEIGHT} viewBox='-3 0 {_WIDTH + 6} {_HEIGHT}' role=img "
        f"aria-label='{share.value:.1%}'>"
        f"<rect class=area x=0 y={middle - 3} width={x:.1f} height=6 />"
        f"<line class=range x1={low:.1f} x2={high:.1f} y1={middle} y2={middle} />"
        f"<circle class=dot cx={x:.1f} cy={middle} r=3 /></svg>"
    )


def _counts(key: str, counts: Mapping[str, int], kind: str, language: str) -> str:
    """Flags or errors and how many films have them, with what is to be done."""
    if not counts:
        return ""
    words = catalogue(language)
    rows = [
        f"<tr><td>{html.escape(name)}</td><td>{count}</td>"
        f"<td class=words>{html.escape(words.get(f'{kind}.{name}', ''))}</td></tr>"
        for name, count in counts.items()
    ]
    head = html.escape(say(key, language))
    return f"<h2>{head}</h2><div class=wide><table>{''.join(rows)}</table></div>"


def _worklist(suspects: tuple[Suspect, ...], language: str) -> str:
    words = catalogue(language)
    keys = ("archive.film", "site.probability", "table.decision", "archive.origin", "archive.month")
    head = "".join(f"<th>{html.escape(words[key])}</th>" for key in keys)
    rows = [
        f"<tr><td>{html.escape(printable(one.source))}</td><td>{one.probability:.3f}</td>"
        f"<td>{html.escape(words.get(f'decision.{one.decision}', one.decision))}</td>"
        f"<td>{html.escape(one.origin)}</td><td>{html.escape(one.month or '–')}</td></tr>"
        for one in suspects
    ]
    return f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"
