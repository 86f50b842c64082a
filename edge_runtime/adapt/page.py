"""An adaptation as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.adapt.adapt import Adaptation
from edge_runtime.adapt.film import shown
from edge_runtime.adapt.guard import tells
from edge_runtime.adapt.text import points_of, told_fact, told_films, told_final, verdict
from edge_runtime.records.figures import told_share
from edge_runtime.records.heatmap import overlay_jpeg
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import say
from edge_runtime.records.record import Examination
from edge_runtime.site.page import STYLE as SITE_STYLE
from edge_runtime.site.plot import Plot
from edge_runtime.statistics.metrics import roc_curve

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_FACTS = 12
_STYLE = (
    SITE_STYLE
    + """
td:first-child, th:first-child { text-align: left }
.bar { display: inline-block; height: .8rem; background: #1f5fa8; vertical-align: middle }
.bar.telling { background: #c5221f }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem }
figure { margin: 0 } figure img { width: 100%; border-radius: 4px }
figcaption { font-size: .85rem; overflow-wrap: anywhere }
"""
)


def render_page(
    result: Adaptation, pictures: Sequence[Examination] = (), language: str = "en"
) -> str:
    """The page.

    Args:
        result: What was measured.
        pictures: Examinations of `result.suspicious`, in their order.
        language: One of `messages.LANGUAGES`.
    """
    title = say("adapt.title", language).format(name=result.name)
    model = say("report.model", language).format(model=result.model, engine=result.engine)
    first, *others = verdict(result, language)
    mark = "" if result.refusal is None else " refused"
    final = told_final(result, language)
    twice = ""
    if result.twice is not None:
        twice = say("adapt.twice", language).format(value=f"{result.twice:.3f}")
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p><strong>{_text('notice', language)}</strong> {_text('site.holds', language)}</p>",
        f"<p>{html.escape(model[:1].upper() + model[1:])}. "
        f"{html.escape(told_films(result, language))}</p>",
        f"<p class='big{mark}'>{html.escape(first)}</p>",
        *(f"<p>{html.escape(line)}</p>" for line in others),
        *([f"<p>{html.escape(final)}</p>"] if final else []),
        f"<h2>{_text('adapt.points', language)}</h2>",
        _points(result, language),
        f"<h2>{_text('adapt.facts', language)}</h2>",
        f"<p class=quiet>{_text('adapt.facts_told', language)}</p>",
        _facts(result, language),
        f"<h2>{_text('adapt.curve', language)}</h2>",
        "<div class=plots>",
        _roc(result, language),
        _curve(result, language),
        "</div>",
        *([f"<p>{html.escape(twice)}</p>"] if twice else []),
        _suspicious(result, pictures, language),
    ]
    return html_page(title, "\n".join(parts), _STYLE, language)


def _text(key: str, language: str) -> str:
    return html.escape(say(key, language))


def _points(result: Adaptation, language: str) -> str:
    head = ["", *(say(f"site.{k}", language) for k in ("threshold", "sensitivity", "specificity"))]
    lines = ["<div class=wide><table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head)]
    for code, point in points_of(result):
        shares = (told_share(e, language) for e in (point.sensitivity, point.specificity))
        cells = [say(code, language), f"{point.threshold:.4f}", *shares]
        lines.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    return "\n".join([*lines, "</table></div>"])


def _facts(result: Adaptation, language: str) -> str:
    rows = [
        (told_fact(fact.name, language), fact.auc) for fact in result.guarded.facts[:_MOST_FACTS]
    ]
    if result.guarded.together:
        rows.insert(0, (say("adapt.together", language), result.guarded.together))
    lines = [f"<div class=wide><table><tr><th>{_text('adapt.fact', language)}</th><th>AUC</th><th>"]
    for name, found in rows:
        telling = " telling" if tells(found) else ""
        width = max(0.0, (found.value - 0.5) * 20)
        told = say("report.interval", language).format(
            value=f"{found.value:.2f}", low=f"{found.low:.2f}", high=f"{found.high:.2f}"
        )
        lines.append(
            f"<tr><td>{html.escape(name)}</td><td>{told}</td><td style='text-align:left'>"
            f"<span class='bar{telling}' style='width:{width:.1f}rem'></span></td></tr>"
        )
    return "\n".join([*lines, "</table></div>"])


def _roc(result: Adaptation, language: str) -> str:
    plot = Plot(
        say("site.roc", language),
        f"1 - {say('site.specificity', language)}",
        say("site.sensitivity", language),
    )
    plot.line([(0, 0), (1, 1)], "#8888")
    for place, (code, scores, colour, dashes) in enumerate(
        (
            ("adapt.bundled", result.scores_before, "#888", "6 3"),
            ("adapt.adapted", result.scores_after, "#1f5fa8", ""),
        )
    ):
        plot.line(_roc_points(result.positive, scores), colour, dashes)
        plot.name(0.45, 0.18 - 0.08 * place, say(code, language), colour)
    return plot.svg()


def _roc_points(
    positive: NDArray[np.int64], scores: NDArray[np.float64]
) -> list[tuple[float, float]]:
    false_positive, true_positive = roc_curve(positive, scores)[:2]
    return list(zip(false_positive.tolist(), true_positive.tolist(), strict=True))


def _curve(result: Adaptation, language: str) -> str:
    most = max(point.films for point in result.curve)
    plot = Plot(say("adapt.curve", language), f"{say('adapt.count', language)} / {most}", "AUC")
    plot.line([(point.films / most, point.auc) for point in result.curve], "#1f5fa8")
    for point in result.curve:
        plot.dot(point.films / most, point.auc)
    plot.line([(0, result.before.value), (1, result.before.value)], "#888", "6 3")
    plot.name(0.02, result.before.value + 0.03, say("adapt.bundled", language), "#888")
    return plot.svg()


def _suspicious(result: Adaptation, pictures: Sequence[Examination], language: str) -> str:
    if not result.suspicious:
        return ""
    lines = [
        f"<h2>{_text('adapt.suspicious', language)}</h2>",
        f"<p class=quiet>{_text('adapt.suspicious_told', language)}</p><div class=films>",
    ]
    for one, picture in zip(result.suspicious, pictures, strict=False):
        jpeg = overlay_jpeg(picture, 1)
        told = say("adapt.label", language).format(
            label=int(one.positive), chance=f"{one.chance:.1%}"
        )
        image = ""
        if jpeg:
            data = base64.b64encode(jpeg).decode("ascii")
            image = f"<img alt='' src='data:image/jpeg;base64,{data}'>"
        lines.append(
            f"<figure>{image}<figcaption>{html.escape(shown(one.path))}<br>{html.escape(told)}"
            "</figcaption></figure>"
        )
    return "\n".join([*lines, "</div>"])
