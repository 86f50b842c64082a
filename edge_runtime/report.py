"""One self-contained HTML page of screened images: opens offline, prints."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from edge_runtime.heatmap import overlay
from edge_runtime.manifest import Manifest, OperatingPoint
from edge_runtime.record import Record
from edge_runtime.screener import Examination

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
.note { border-left: 4px solid #c60; padding: .5rem 1rem; background: #c601 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid #8885; border-radius: 6px; overflow: hidden }
img { width: 100%; display: block; aspect-ratio: 1; background: #000 }
figcaption { padding: .5rem .75rem; overflow-wrap: anywhere }
.pneumonia b { color: #c22 } .normal b { color: #284 } .uncertain b { color: #a60 }
.error { padding: .75rem; border: 1px solid #c22; border-radius: 6px; margin: .5rem 0 }
@media print { figure { break-inside: avoid } }
"""


def write_report(
    examinations: Sequence[Examination],
    manifest: Manifest,
    point: OperatingPoint,
    title: str,
    notice: str | None = None,
) -> str:
    """The page as text, images ordered by probability, highest first.

    Args:
        examinations: What was screened.
        manifest: For the model's name and intended use.
        point: The operating point in force.
        title: Heading.
        notice: A warning to show on top ("synthetic images").
    """
    good = [e for e in examinations if e.record.probability is not None]
    good.sort(key=lambda e: -(e.record.probability or 0))
    failed = [e.record for e in examinations if e.record.probability is None]
    called = sum(e.record.decision == "pneumonia" for e in good)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        "<meta http-equiv=Content-Security-Policy "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note><strong>{html.escape(notice)}</strong></p>" if notice else "",
        f"<p>{len(examinations)} images, {called} called pneumonia at the operating point "
        f"<b>{html.escape(point.name)}</b> (probability at least {point.threshold:.4f}), "
        f"{len(failed)} could not be screened. "
        f"Model {html.escape(manifest.name)} {html.escape(manifest.version)}.</p>",
        f"<p>{html.escape(manifest.intended_use)} Colour shows the regions that argue for "
        "pneumonia.</p>",
        *(f"<div class=error>{html.escape(_reason(r))}</div>" for r in failed),
        "<div class=cards>",
        *(_card(e) for e in good),
        "</div></html>",
    ]
    return "\n".join(part for part in parts if part)


def _reason(record: Record) -> str:
    if record.error is not None:
        return record.error.message
    return f"{record.source}: refused by the quality gate: {', '.join(record.quality.flags)}"


def _card(examination: Examination) -> str:
    record: Record = examination.record
    picture = ""
    if examination.pixels is not None and examination.evidence_map is not None:
        buffer = io.BytesIO()
        overlay(examination.pixels, examination.evidence_map, scale=1).save(
            buffer, format="JPEG", quality=80
        )
        data = base64.b64encode(buffer.getvalue()).decode()
        picture = f"<img alt='radiograph with heatmap' src='data:image/jpeg;base64,{data}'>"
    flags = f"<br>{', '.join(record.quality.flags)}" if record.quality.flags else ""
    return (
        f"<figure class={record.decision}>{picture}<figcaption><b>{record.decision}</b> "
        f"{record.probability:.4f}<br>{html.escape(record.source)}{flags}</figcaption></figure>"
    )
