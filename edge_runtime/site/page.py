"""A site calibration as one self-contained HTML page, with plots drawn as SVG by hand."""

from __future__ import annotations

import html
from collections.abc import Sequence

from edge_runtime.bundle.site_profile import ThresholdRow
from edge_runtime.records.html_page import html_page
from edge_runtime.site.calibrate import SiteCalibration

_SIZE, _MARGIN = 300, 40
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 1.5rem auto }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border-bottom: 1px solid #ddd; padding: .2rem .6rem; text-align: right }
td, th { white-space: nowrap; font-variant-numeric: tabular-nums }
.big { font-size: 1.2rem; border-left: 5px solid #1b6e3c; padding-left: .8rem }
.refused { border-color: #b3261e }
.plots { display: flex; flex-wrap: wrap; gap: 1rem } svg text { font: 11px system-ui, sans-serif }
.chosen { background: #e7f3ea }
"""


def render_page(result: SiteCalibration) -> str:
    """The page."""
    chosen = result.profile.chosen if result.profile else None
    parts = [
        f"<h1>Site calibration: {html.escape(result.name)}</h1>",
        "<p>Screening support, not a diagnosis. These figures hold for patients like those of the "
        "labelled images, for this model and this engine.</p>",
        f"<p>{html.escape(result.model)} on {html.escape(result.engine)}. {result.images} images, "
        f"{result.positives} with disease; {result.refused} refused by the quality gate, "
        f"{result.unreadable} unreadable. AUC {result.auc}.</p>",
        _verdict(result, chosen),
        "<div class='plots'>",
        _roc(result.rows, chosen),
        _by_threshold(result.rows, chosen),
        _calibration(result),
        "</div>",
        "<h2>The bundle's own operating points, here</h2>",
        _table([(name, row) for name, row in result.bundled]),
    ]
    if result.strata:
        head = ("group", "images", "with disease", "AUC", "sensitivity", "specificity")
        parts.append("<h2>By group</h2><table><tr>" + "".join(f"<th>{h}</th>" for h in head))
        for s in result.strata:
            cells = [f"{s.column} = {s.value}", s.images, s.positives, s.auc or ""]
            cells += [s.sensitivity, s.specificity]
            text = "".join(f"<td>{html.escape(str(c))}</td>" for c in cells)
            parts.append(f"<tr>{text}</tr>")
        parts.append("</table>")
    parts += [
        f"<h2>Every threshold, at a prevalence of {result.prevalence:.1%}</h2>",
        _table([("", row) for row in result.rows], chosen),
    ]
    return html_page(f"Site calibration: {result.name}", "\n".join(parts), _STYLE)


def _verdict(result: SiteCalibration, chosen: ThresholdRow | None) -> str:
    if result.policy is None:
        return "<p class='big'>No policy was given, so no threshold was chosen.</p>"
    policy = html.escape(result.policy)
    if chosen is None:
        reason = html.escape(result.refusal or "")
        return f"<p class='big refused'>No threshold for: {policy}.<br>{reason}</p>"
    return (
        f"<p class='big'>{policy}: <b>{chosen.threshold:.4f}</b>.<br>Of 1,000 people screened, "
        f"{chosen.referred_per_1000:.0f} are referred, {chosen.found_per_1000:.0f} of them "
        f"rightly, and {chosen.missed_per_1000:.0f} cases are missed.</p>"
    )


def _table(rows: Sequence[tuple[str, ThresholdRow]], chosen: ThresholdRow | None = None) -> str:
    head = (
        "", "threshold", "TP", "FP", "TN", "FN", "sensitivity", "specificity", "PPV", "NPV",
        "found", "missed", "referred", "cost",
    )  # fmt: skip
    lines = ["<table><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>"]
    for name, r in rows:
        cells = (
            html.escape(name), f"{r.threshold:.4f}", r.true_positive, r.false_positive,
            r.true_negative, r.false_negative, f"{r.sensitivity:.3f}", f"{r.specificity:.3f}",
            f"{r.ppv:.3f}", f"{r.npv:.3f}", f"{r.found_per_1000:.0f}", f"{r.missed_per_1000:.0f}",
            f"{r.referred_per_1000:.0f}",
            "" if r.cost_per_1000 is None else f"{r.cost_per_1000:.0f}",
        )  # fmt: skip
        mark = " class='chosen'" if chosen and chosen.threshold == r.threshold else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _roc(rows: Sequence[ThresholdRow], chosen: ThresholdRow | None) -> str:
    points = [(1 - r.specificity.value, r.sensitivity.value) for r in rows]
    body = [_line([(0, 0), *sorted(points), (1, 1)], "#1f5fa8"), _line([(0, 0), (1, 1)], "#ccc")]
    if chosen:
        body.append(_dot(1 - chosen.specificity.value, chosen.sensitivity.value))
    return _frame("ROC", "1 - specificity", "sensitivity", body)


def _by_threshold(rows: Sequence[ThresholdRow], chosen: ThresholdRow | None) -> str:
    body = [
        _line([(r.threshold, r.sensitivity.value) for r in rows], "#b3261e"),
        _line([(r.threshold, r.specificity.value) for r in rows], "#1b6e3c"),
        f"<text x='{_x(0.55)}' y='{_y(0.12)}' fill='#b3261e'>sensitivity</text>",
        f"<text x='{_x(0.55)}' y='{_y(0.05)}' fill='#1b6e3c'>specificity</text>",
    ]
    if chosen:
        body.append(_line([(chosen.threshold, 0), (chosen.threshold, 1)], "#666"))
    return _frame("What a threshold trades", "threshold", "", body)


def _calibration(result: SiteCalibration) -> str:
    body = [_line([(0, 0), (1, 1)], "#ccc")]
    for b in result.bins:
        body.append(
            _line([(b.mean_probability, b.share.low), (b.mean_probability, b.share.high)], "#888")
        )
        body.append(_dot(b.mean_probability, b.share.value))
    return _frame("Calibration, on these images", "probability", "share with disease", body)


def _frame(title: str, x: str, y: str, body: list[str]) -> str:
    side = _SIZE + 2 * _MARGIN
    ticks = "".join(
        f"<text x='{_x(v)}' y='{_y(0) + 14}' text-anchor='middle'>{v:g}</text>"
        f"<text x='{_x(0) - 5}' y='{_y(v) + 4}' text-anchor='end'>{v:g}</text>"
        for v in (0, 0.5, 1)
    )
    return (
        f"<svg width='{side}' height='{side}' role='img' aria-label='{title}'>"
        f"<text x='{side / 2}' y='16' text-anchor='middle' font-weight='bold'>{title}</text>"
        f"<rect x='{_x(0)}' y='{_y(1)}' width='{_SIZE}' height='{_SIZE}' fill='none' "
        "stroke='#bbb'/>"
        f"{ticks}{''.join(body)}"
        f"<text x='{side / 2}' y='{side - 6}' text-anchor='middle'>{x}</text>"
        f"<text x='12' y='{side / 2}' text-anchor='middle' "
        f"transform='rotate(-90 12 {side / 2})'>{y}</text></svg>"
    )


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    text = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f"<polyline points='{text}' fill='none' stroke='{colour}' stroke-width='1.5'/>"


def _dot(x: float, y: float) -> str:
    return f"<circle cx='{_x(x):.1f}' cy='{_y(y):.1f}' r='4' fill='#1f5fa8'/>"


def _x(value: float) -> float:
    return _MARGIN + value * _SIZE


def _y(value: float) -> float:
    return _MARGIN + (1 - value) * _SIZE
