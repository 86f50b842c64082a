"""One self-contained HTML page of screened images: a worklist that opens offline and prints."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.heatmap import overlay_jpeg
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import reasons, say
from edge_runtime.records.record import Examination, Record
from edge_runtime.statistics.estimates import Estimate

# What the filter shows: the key of each kind of result, and that of its name.
_FILTERS = (
    ("all", "report.all"),
    ("pneumonia", "decision.pneumonia"),
    ("uncertain", "decision.uncertain"),
    ("normal", "decision.normal"),
    ("failed", "report.failed"),
)

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
.note { border-left: 4px solid #c60; padding: .5rem 1rem; background: #c602 }
fieldset { border: 0; padding: 0; margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .5rem }
label { border: 1px solid #8886; border-radius: 99px; padding: .15rem .9rem; cursor: pointer }
label:has(:checked) { background: #36c; color: #fff } label:focus-within { outline: 3px solid #9bf }
input { position: absolute; opacity: 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid #8886; border-radius: 6px; overflow: hidden }
img { width: 100%; display: block; aspect-ratio: 1; background: #000 }
figcaption, .failed { padding: .5rem .75rem; overflow-wrap: anywhere }
.pneumonia b { color: #d33 } .normal b { color: #2a6 } .uncertain b { color: #c80 }
.failed { border: 1px solid #d33; border-radius: 6px; margin: .5rem 0 }
.flags { font-size: .85em; color: #c60 }
@media print { figure, .failed { break-inside: avoid } fieldset { display: none } }
""" + "".join(
    f"body:has(#show-{key}:checked) .result:not(.{key}) {{ display: none }}\n"
    for key, _ in _FILTERS[1:]
)


def write_report(
    examinations: Sequence[Examination],
    manifest: Manifest,
    point: OperatingPoint,
    title: str | None = None,
    notice: str | None = None,
    language: str = "en",
) -> str:
    """The page as text, images ordered by probability, highest first. No script, no link.

    Args:
        examinations: What was screened.
        manifest: For the model's name, intended use and operating points.
        point: The operating point in force.
        title: Heading; by default what such a page is called.
        notice: A warning to show on top ("synthetic images").
        language: One of `messages.LANGUAGES`; the model's intended use is shown as its manifest
            states it.
    """
    title = title or say("report.title", language)
    caution = f"{manifest.intended_use} {say('report.caution', language)}"
    if language != "en":
        caution = f"{say('notice', language)} {caution}"
    good = [e for e in examinations if e.record.probability is not None]
    good.sort(key=lambda e: -(e.record.probability or 0))
    failed = [e.record for e in examinations if e.record.probability is None]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note><strong>{html.escape(notice)}</strong></p>" if notice else "",
        f"<p>{html.escape(_summary(len(good), len(failed), manifest, point, language))}</p>",
        f"<p class=note>{html.escape(caution)}</p>",
        _filter(good, failed, language),
        *(f"<div class='result failed'>{html.escape(_reason(r, language))}</div>" for r in failed),
        "<div class=cards>",
        *(_card(e, language) for e in good),
        "</div>",
    ]
    return html_page(title, "\n".join(part for part in parts if part), _STYLE, language)


def _summary(
    screened: int, failed: int, manifest: Manifest, point: OperatingPoint, language: str
) -> str:
    text = say("report.summary", language).format(
        screened=screened,
        failed=failed,
        model=f"{manifest.name} {manifest.version}",
        point=point.name,
        threshold=f"{point.threshold:.4f}",
    )
    if any(point.name == known.name for known in manifest.operating_points):
        text += "; " + say("report.known", language).format(
            split=point.split,
            sensitivity=_percent(point.sensitivity, language),
            specificity=_percent(point.specificity, language),
        )
    return text + "."


def _percent(estimate: Estimate, language: str) -> str:
    return say("report.interval", language).format(
        value=f"{estimate.value:.1%}", low=f"{estimate.low:.1%}", high=f"{estimate.high:.1%}"
    )


def _filter(good: list[Examination], failed: list[Record], language: str) -> str:
    counts = {"all": len(good) + len(failed), "failed": len(failed)}
    for examination in good:
        decision = str(examination.record.decision)
        counts[decision] = counts.get(decision, 0) + 1
    options = [
        f"<label><input type=radio name=show id=show-{key}{' checked' if key == 'all' else ''}>"
        f"{html.escape(_capital(say(name, language)))} {counts[key]}</label>"
        for key, name in _FILTERS
        if counts.get(key)
    ]
    return f"<fieldset aria-label='{say('page.show', language)}'>{''.join(options)}</fieldset>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _reason(record: Record, language: str) -> str:
    if record.error is not None and language == "en":
        return record.error.message  # says more than the sentence for its code
    refused = "" if record.error else f"{say('report.refused', language)}. "
    return f"{record.source}: {refused}{reasons(record, language)}"


def _card(examination: Examination, language: str) -> str:
    record: Record = examination.record
    picture = ""
    if content := overlay_jpeg(examination, scale=2, quality=80):
        data = base64.b64encode(content).decode()
        told = html.escape(say("report.picture", language))
        picture = f"<img alt='{told}' src='data:image/jpeg;base64,{data}'>"
    flags = html.escape(reasons(record, language))
    decision = html.escape(say(f"decision.{record.decision}", language))
    return (
        f"<figure class='result {record.decision}'>{picture}<figcaption><b>{decision}</b> "
        f"{record.probability:.4f}<br>{html.escape(record.source)}"
        + (f"<br><span class=flags>{flags}</span>" if flags else "")
        + "</figcaption></figure>"
    )
