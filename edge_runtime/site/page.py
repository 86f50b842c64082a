"""A site calibration as one self-contained HTML page, with plots drawn as SVG by hand."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Callable, Sequence

from edge_runtime.bundle.site_profile import ThresholdRow
from edge_runtime.records.figures import told_share
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import say
from edge_runtime.site.calibrate import SiteCalibration, told
from edge_runtime.site.plot import Plot
from edge_runtime.site.thresholds import Policy
from edge_runtime.statistics.estimates import Estimate

_MOST_SHOWN = 15  # thresholds in the page's table
STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #1e7e44; --bad: #c5221f }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 1.5rem auto;
  padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse }
td, th { border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: right }
td, th { white-space: nowrap; font-variant-numeric: tabular-nums }
.quiet { opacity: .8; font-size: .9rem }
.big { font-size: 1.2rem; border-left: 5px solid var(--good); padding-left: .8rem }
.refused { border-color: var(--bad) }
.plots { display: flex; flex-wrap: wrap; gap: 1rem }
svg { max-width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif }
svg text { fill: currentColor }
.chosen { background: #1e7e4433; font-weight: 600 }
"""
# Of the curves over the threshold: key, colour, dashes, value.
_CURVES: tuple[tuple[str, str, str, Callable[[ThresholdRow], float]], ...] = (
    ("site.sensitivity", "#c5221f", "", lambda row: row.sensitivity.value),
    ("site.specificity", "#1e7e44", "", lambda row: row.specificity.value),
    ("site.ppv", "#1f5fa8", "6 3", lambda row: row.ppv.value if row.ppv else math.nan),
    ("site.referred", "#9a6200", "2 3", lambda row: row.referred_per_1000.value / 1000),
)


def render_page(result: SiteCalibration, table: str, language: str = "en") -> str:
    """The page.

    Args:
        result: What was measured.
        table: Name of the file beside it that has `whole_table`.
        language: One of `messages.LANGUAGES`.
    """
    chosen = result.chosen
    title = say("site.title", language).format(name=result.name)
    told_images = say("site.images", language).format(
        images=result.images,
        positives=result.positives,
        refused=result.refused,
        unreadable=result.unreadable,
        auc=_estimate(result.auc.value, result.auc.low, result.auc.high, language),
    )
    model = say("report.model", language).format(model=result.model, engine=result.engine)
    scale = "site.scale_profile" if result.profile else "site.scale_bundle"
    around = say("site.around", language).format(prevalence=f"{result.prevalence:.1%}")
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p><strong>{_text('notice', language)}</strong> {_text('site.holds', language)}</p>",
        f"<p>{html.escape(_capital(model))}. {html.escape(told_images)}</p>",
        _verdict(result, chosen, language),
        "<div class='plots'>",
        _by_threshold(result.rows, chosen, language),
        _roc(result.rows, chosen, language),
        _calibration(result, language),
        "</div>",
        f"<h2>{html.escape(around)}</h2>",
        f"<p class=quiet>{_text(scale, language)}</p>",
        _table([("", row) for row in _around(result.rows, chosen)], chosen, language),
        f"<p class=quiet>{html.escape(_capital(say('site.of_1000', language)))}. "
        f"{html.escape(say('site.whole', language).format(file=table))}</p>",
        f"<h2>{_text('site.points', language)}</h2>",
        _table(list(result.bundled), None, language),
        _strata(result, language),
    ]
    return html_page(title, "\n".join(parts), STYLE, language)


def whole_table(result: SiteCalibration, language: str = "en") -> str:
    """Every threshold as CSV, with separators and decimal marks as the language's spreadsheets."""
    buffer = io.StringIO()
    english = language == "en"
    writer = csv.writer(buffer, delimiter="," if english else ";")
    keys = ("threshold", "sensitivity", "specificity", "ppv", "npv")
    head = [say(f"site.{key}", language) for key in keys]
    counts = ("found", "missed", "referred", "cost")
    writer.writerow(
        [*head, "TP", "FP", "TN", "FN", *(say(f"site.{key}", language) for key in counts)]
    )
    for r in result.rows:
        estimates = (r.sensitivity, r.specificity, r.ppv, r.npv)
        per_1000 = (r.found_per_1000, r.missed_per_1000, r.referred_per_1000, r.cost_per_1000)
        cells = [f"{r.threshold:.8f}", *(_number(e, 4) for e in estimates)]
        cells += map(str, (r.true_positive, r.false_positive, r.true_negative, r.false_negative))
        cells += [_number(e, 1) for e in per_1000]
        writer.writerow(cells if english else [cell.replace(".", ",") for cell in cells])
    return buffer.getvalue()


def _number(estimate: Estimate | None, digits: int) -> str:
    return "" if estimate is None else f"{estimate.value:.{digits}f}"


def _text(key: str, language: str) -> str:
    return html.escape(say(key, language))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _estimate(value: float, low: float, high: float, language: str) -> str:
    return say("report.interval", language).format(
        value=f"{value:.3f}", low=f"{low:.3f}", high=f"{high:.3f}"
    )


def told_policy(policy: Policy, language: str) -> str:
    """How a threshold is chosen, in a sentence."""
    if policy.min_sensitivity is not None:
        text = say("site.policy_sensitivity", language)
        return text.format(value=f"{policy.min_sensitivity:g}")
    if policy.max_referred_per_1000 is not None:
        text = say("site.policy_referred", language)
        return text.format(value=f"{policy.max_referred_per_1000:g}")
    return say("site.policy_cost", language).format(
        missed=f"{policy.cost_missed:g}", alarm=f"{policy.cost_false_alarm:g}"
    )


def _verdict(result: SiteCalibration, chosen: ThresholdRow | None, language: str) -> str:
    if result.policy is None:
        return f"<p class='big'>{_text('site.no_policy', language)}</p>"
    policy = told_policy(result.policy, language)
    if chosen is None:
        refused = say("site.refused", language).format(policy=policy)
        return f"<p class='big refused'>{html.escape(refused)}</p>"
    text = say("site.chosen", language).format(policy=policy, threshold=f"{chosen.threshold:.4f}")
    per_1000 = say("site.per_1000", language).format(
        referred=f"{chosen.referred_per_1000.value:.0f}",
        found=f"{chosen.found_per_1000.value:.0f}",
        missed=f"{chosen.missed_per_1000.value:.0f}",
    )
    return f"<p class='big'>{html.escape(text)}<br>{html.escape(per_1000)}</p>"


def _around(rows: Sequence[ThresholdRow], chosen: ThresholdRow | None) -> Sequence[ThresholdRow]:
    """At most 15 rows: the chosen one and others, evenly over those of use on either side."""
    if chosen is None:
        places = [round(i * (len(rows) - 1) / (_MOST_SHOWN - 1)) for i in range(_MOST_SHOWN)]
        return [rows[place] for place in sorted(set(places))]
    below = [row for row in rows if row.threshold < chosen.threshold]
    above = [row for row in rows if row.threshold > chosen.threshold]
    half = _MOST_SHOWN // 2
    return [*_spread(below[::-1], half)[::-1], chosen, *_spread(above, half)]


def _spread(rows: list[ThresholdRow], count: int) -> list[ThresholdRow]:
    """At most `count` of them, the first ones closer together than the last ones."""
    if len(rows) <= count:
        return rows
    places = {round((len(rows) - 1) * ((i + 1) / count) ** 2) for i in range(count)}
    return [rows[place] for place in sorted(places)]


def _table(
    rows: Sequence[tuple[str, ThresholdRow]], chosen: ThresholdRow | None, language: str
) -> str:
    keys = ["threshold", "sensitivity", "specificity", "ppv", "npv", "found", "missed", "referred"]
    costs = any(row.cost_per_1000 for _, row in rows)
    keys += ["cost"] if costs else []
    named = any(name for name, _ in rows)
    head = [""] * named + [say(f"site.{key}", language) for key in keys]
    lines = ["<div class=wide><table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head)]
    for name, r in rows:
        cells = [html.escape(name)] if named else []
        cells += [f"{r.threshold:.4f}"]
        cells += [told_share(e, language) for e in (r.sensitivity, r.specificity)]
        cells += [told(r.ppv, 3), told(r.npv, 3)]
        per_1000 = (r.found_per_1000, r.missed_per_1000, r.referred_per_1000)
        cells += [f"{e.value:.0f}" for e in per_1000]
        cells += [f"{r.cost_per_1000.value:.0f}"] if r.cost_per_1000 else []
        mark = " class='chosen'" if chosen and chosen.threshold == r.threshold else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "\n".join([*lines, "</table></div>"])


def _strata(result: SiteCalibration, language: str) -> str:
    if not result.strata:
        return ""
    keys = ("group", "count")
    head = [say(f"site.{key}", language) for key in keys] + ["AUC"]
    head += [say(f"site.{key}", language) for key in ("sensitivity", "specificity")]
    lines = [f"<h2>{_text('site.groups', language)}</h2><div class=wide><table><tr>"]
    lines += [f"<th>{html.escape(h)}</th>" for h in head]
    for s in result.strata:
        auc = _estimate(s.auc.value, s.auc.low, s.auc.high, language) if s.auc else "–"
        cells = [f"{s.column} = {s.value}", f"{s.images}, {s.positives}", auc]
        shares = (s.sensitivity, s.specificity)
        cells += ["–" if e is None else told_share(e, language) for e in shares]
        lines.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    return "".join([*lines, "</table></div>"])


def _by_threshold(rows: Sequence[ThresholdRow], chosen: ThresholdRow | None, language: str) -> str:
    plot = Plot(say("site.trade", language), say("site.threshold", language), "", 620)
    for place, (key, colour, dashes, value) in enumerate(_CURVES):
        plot.line([(row.threshold, value(row)) for row in rows], colour, dashes)
        plot.name(0.02 + 0.25 * place, 1.03, say(key, language), colour)
    if chosen:
        plot.line([(chosen.threshold, 0), (chosen.threshold, 1)], "#888", "4 4")
        for _, _, _, value in _CURVES:
            if not math.isnan(value(chosen)):
                plot.dot(chosen.threshold, value(chosen))
    return plot.svg()


def _roc(rows: Sequence[ThresholdRow], chosen: ThresholdRow | None, language: str) -> str:
    plot = Plot(
        say("site.roc", language),
        f"1 - {say('site.specificity', language)}",
        say("site.sensitivity", language),
    )
    points = sorted((1 - r.specificity.value, r.sensitivity.value) for r in rows)
    plot.line([(0, 0), *points, (1, 1)], "#1f5fa8")
    plot.line([(0, 0), (1, 1)], "#8888")
    if chosen:
        plot.dot(1 - chosen.specificity.value, chosen.sensitivity.value)
    return plot.svg()


def _calibration(result: SiteCalibration, language: str) -> str:
    plot = Plot(
        say("site.calibration", language),
        say("site.probability", language),
        say("site.share", language),
    )
    plot.line([(0, 0), (1, 1)], "#8888")
    for b in result.bins:
        plot.line([(b.mean_probability, b.share.low), (b.mean_probability, b.share.high)], "#888")
        plot.dot(b.mean_probability, b.share.value)
    return plot.svg()
