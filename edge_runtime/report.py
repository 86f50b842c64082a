"""One self-contained HTML page of screened images: a worklist that opens offline and prints."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from edge_runtime.estimates import Estimate
from edge_runtime.heatmap import overlay
from edge_runtime.manifest import Manifest, OperatingPoint
from edge_runtime.record import Record
from edge_runtime.screener import Examination

# What the filter shows, and the heading of each kind of result.
_FILTERS = (
    ("all", "All"),
    ("pneumonia", "Pneumonia"),
    ("uncertain", "Uncertain"),
    ("normal", "Normal"),
    ("failed", "Not screened"),
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
    title: str,
    notice: str | None = None,
) -> str:
    """The page as text, images ordered by probability, highest first. No script, no link.

    Args:
        examinations: What was screened.
        manifest: For the model's name, intended use and operating points.
        point: The operating point in force.
        title: Heading.
        notice: A warning to show on top ("synthetic images").
    """
    good = [e for e in examinations if e.record.probability is not None]
    good.sort(key=lambda e: -(e.record.probability or 0))
    failed = [e.record for e in examinations if e.record.probability is None]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        "<meta http-equiv=Content-Security-Policy "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note><strong>{html.escape(notice)}</strong></p>" if notice else "",
        f"<p>{_summary(good, failed, manifest, point)}</p>",
        f"<p class=note>{html.escape(manifest.intended_use)} Trained on one hospital's images: "
        "elsewhere, check it on your own before you rely on it. Colour shows the regions that "
        "argue for pneumonia.</p>",
        _filter(good, failed),
        *(f"<div class='result failed'>{html.escape(_reason(r))}</div>" for r in failed),
        "<div class=cards>",
        *(_card(e) for e in good),
        "</div></html>",
    ]
    return "\n".join(part for part in parts if part)


def _summary(
    good: list[Examination], failed: list[Record], manifest: Manifest, point: OperatingPoint
) -> str:
    model = html.escape(f"{manifest.name} {manifest.version}")
    text = (
        f"{len(good)} images screened, {len(failed)} not. Model {model}. Operating point "
        f"<b>{html.escape(point.name)}</b>: pneumonia at a probability of {point.threshold:.4f} "
        "and above"
    )
    if any(point.name == known.name for known in manifest.operating_points):
        text += (
            f"; on {html.escape(point.split)} sensitivity {_percent(point.sensitivity)}, "
            f"specificity {_percent(point.specificity)}"
        )
    return text + "."


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _filter(good: list[Examination], failed: list[Record]) -> str:
    counts = {"all": len(good) + len(failed), "failed": len(failed)}
    for examination in good:
        decision = str(examination.record.decision)
        counts[decision] = counts.get(decision, 0) + 1
    options = [
        f"<label><input type=radio name=show id=show-{key}{' checked' if key == 'all' else ''}>"
        f"{name} {counts[key]}</label>"
        for key, name in _FILTERS
        if counts.get(key)
    ]
    return f"<fieldset aria-label=Show>{''.join(options)}</fieldset>"


def _reason(record: Record) -> str:
    if record.error is not None:
        return record.error.message
    return f"{record.source}: refused by the quality gate: {', '.join(record.quality.flags)}"


def _card(examination: Examination) -> str:
    record: Record = examination.record
    picture = ""
    if examination.pixels is not None and examination.evidence_map is not None:
        buffer = io.BytesIO()
        overlay(examination.pixels, examination.evidence_map, scale=2).save(
            buffer, format="JPEG", quality=80
        )
        data = base64.b64encode(buffer.getvalue()).decode()
        picture = f"<img alt='radiograph with heatmap' src='data:image/jpeg;base64,{data}'>"
    flags = ", ".join(record.quality.flags)
    return (
        f"<figure class='result {record.decision}'>{picture}<figcaption><b>{record.decision}</b> "
        f"{record.probability:.4f}<br>{html.escape(record.source)}"
        + (f"<br><span class=flags>{flags}</span>" if flags else "")
        + "</figcaption></figure>"
    )
