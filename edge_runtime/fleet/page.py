"""All boxes for people: as text, and as one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from edge_runtime.fleet.changes import ALPHA, RECENT, BoxReport, Change
from edge_runtime.records.figures import told_share
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import say
from edge_runtime.records.output import printable
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.odds import probability

_SILENT = 14  # days
_WIDTH, _HEIGHT = 160, 28  # of the small drawings
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #1e7e44; --bad: #c5221f; --note: #9a6200 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 90rem; margin: 1.5rem auto;
  padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; white-space: nowrap }
td:first-child, td.words, th:nth-child(-n + 2) { text-align: left }
td.words { white-space: normal; min-width: 14rem }
.quiet { opacity: .8; font-size: .9rem } .changed { color: var(--bad); font-weight: 600 }
.silent { color: var(--note) } .steady { color: var(--good) }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd99a; --note: #ffc46b } }
"""


def render_text(boxes: Sequence[BoxReport]) -> str:
    """The boxes at a terminal, those that changed first."""
    lines = [summary(boxes, "en"), ""]
    lines.append(
        f"{'box':20} {'films':>7} {'last day':>10} {'positive':>9} {'uncertain':>9} "
        f"{'rejected':>9}  what"
    )
    for box in boxes:
        shares = (box.positive, box.uncertain, box.rejected)
        told = " ".join(f"{'–' if s is None else f'{s.value:.1%}':>9}" for s in shares)
        words = "; ".join(sentences(box, "en"))
        lines.append(printable(f"{box.box[:20]:20} {box.films:7} {box.last:>10} {told}  {words}"))
    return "\n".join(lines) + "\n"


def summary(boxes: Sequence[BoxReport], language: str) -> str:
    """How many boxes, and how many of them want a look."""
    return say("fleet.summary", language).format(
        boxes=len(boxes),
        films=sum(box.films for box in boxes),
        changed=sum(box.changed for box in boxes),
        silent=sum(box.silent_days >= _SILENT for box in boxes),
        days=_SILENT,
    )


def sentences(box: BoxReport, language: str) -> list[str]:
    """What is to be said of a box; the change against its own past first."""
    told = [_sentence("fleet.changed", c, language) for c in box.own_past if c.changed]
    if box.silent_days >= _SILENT:
        told.append(say("fleet.silent", language).format(days=box.silent_days))
    told += [_sentence("fleet.differs", c, language) for c in box.calibration if c.changed]
    if not box.own_past:
        told.append(say("fleet.few", language).format(films=RECENT))
    return told or [say("fleet.steady", language)]


def _sentence(key: str, change: Change, language: str) -> str:
    now, then = (
        f"{probability(v):.2f}" if change.what == "scores"
        else f"{v:.2f}" if change.what == "distances"
        else f"{v:.1%}"
        for v in (change.recent, change.before)
    )  # fmt: skip
    what = say(f"fleet.{change.what}", language)
    return say(key, language).format(what=what, now=now, then=then)


def render_page(boxes: Sequence[BoxReport], language: str = "en") -> str:
    """The page.

    Args:
        boxes: In the order of `report_boxes`.
        language: One of `messages.LANGUAGES`.
    """
    title = say("fleet.title", language)
    keys = ("box", "what", "films", "last", "weeks", "positive", "uncertain", "rejected", "model")
    head = "".join(f"<th>{html.escape(say(f'fleet.{key}', language))}</th>" for key in keys)
    rows = [_row(box, language) for box in boxes]
    note = say("fleet.note", language).format(films=RECENT, alpha=f"{ALPHA:.0%}")
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p><strong>{html.escape(say('notice', language))}</strong></p>",
        f"<p>{html.escape(summary(boxes, language))}</p>",
        f"<p class=quiet>{html.escape(note)}</p>",
        f"<div class=wide><table><tr>{head}</tr>",
        *rows,
        "</table></div>",
    ]
    return html_page(title, "\n".join(parts), _STYLE, language)


def _row(box: BoxReport, language: str) -> str:
    state = "changed" if box.changed else "silent" if box.silent_days >= _SILENT else "steady"
    words = "<br>".join(html.escape(s) for s in sentences(box, language))
    model = f"{box.bundle[:12]} · {box.engine}" + (f" · {box.site[:8]}" if box.site else "")
    cells = [
        f"<td>{html.escape(box.box)}</td>",
        f"<td class='words {state}'>{words}</td>",
        f"<td>{box.films}</td>",
        f"<td>{html.escape(box.last)}</td>",
        f"<td>{_weeks(box)}</td>",
        *(f"<td>{_share(e, language)}</td>" for e in (box.positive, box.uncertain, box.rejected)),
        f"<td class=quiet>{html.escape(model)}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _share(estimate: Estimate | None, language: str) -> str:
    return "–" if estimate is None else html.escape(told_share(estimate, language))


def _weeks(box: BoxReport) -> str:
    """Films a week as bars, and the share called positive as a line."""
    weeks = box.by_week[-52:]
    if not weeks:
        return ""
    most = max(films for _, films, _ in weeks)
    step = _WIDTH / max(1, len(weeks))
    bars, line = [], []
    for i, (_, films, share) in enumerate(weeks):
        height = _HEIGHT * films / most
        bars.append(
            f"<rect x='{i * step:.1f}' y='{_HEIGHT - height:.1f}' fill='#8886' "
            f"width='{max(step - 0.5, 0.5):.1f}' height='{height:.1f}'/>"
        )
        line.append(f"{(i + 0.5) * step:.1f},{_HEIGHT * (1 - share):.1f}")
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' "
        f"aria-label='{html.escape(weeks[0][0])} – {html.escape(weeks[-1][0])}'>{''.join(bars)}"
        f"<polyline points='{' '.join(line)}' fill='none' stroke='#c5221f' stroke-width='1.4'/>"
        "</svg>"
    )
