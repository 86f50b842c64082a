"""Self-contained HTML pages of screened images: a worklist that opens offline and prints."""

from __future__ import annotations

import base64
import html
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from edge_runtime.basics.frozen import frozen
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.heatmap import overlay_jpeg
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import reasons, say
from edge_runtime.records.record import Examination, Record
from edge_runtime.statistics.estimates import Estimate

PER_PAGE = 300  # results: some megabytes, which any browser opens

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
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1rem 0 }
nav > * { border: 1px solid #8886; border-radius: 6px; min-width: 2rem; padding: .2rem .5rem;
  text-align: center }
@media print { figure, .failed { break-inside: avoid } fieldset, nav { display: none } }
""" + "".join(
    f"body:has(#show-{key}:checked) .result:not(.{key}) {{ display: none }}\n"
    for key, _ in _FILTERS[1:]
)


@frozen
class _Entry:
    """One result in the spool; results without a probability come first, then the likeliest."""

    order: float
    kind: str  # of _FILTERS
    offset: int
    length: int


class Report:
    """Pages that are written when all is screened, from parts that were written as they came.

    What stays in memory of a result is where its part lies: a folder may be as large as it likes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        manifest: Manifest,
        point: OperatingPoint,
        title: str | None = None,
        notice: str | None = None,
        language: str = "en",
    ) -> None:
        """Begin a report.

        Args:
            path: Of its first page; further ones are called NAME-2.html and so on, beside it.
            manifest: For the model's name, intended use and operating points.
            point: The operating point in force.
            title: Heading; by default what such a page is called.
            notice: A warning to show on top ("synthetic images").
            language: One of `messages.LANGUAGES`; the model's intended use is shown as its
                manifest states it.

        Raises:
            OSError: Nothing can be written there.
        """
        self._path, self._manifest, self._point = os.fspath(path), manifest, point
        self._title, self._notice = title or say("report.title", language), notice
        self._language = language
        self._entries: list[_Entry] = []
        folder = os.path.dirname(self._path) or "."
        # Without a name: it is gone with the process, whatever happens.
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def add(self, examination: Examination) -> None:
        """Keep one result.

        Raises:
            OSError: The disk is full.
        """
        record, language = examination.record, self._language
        if record.probability is None:
            kind, order = "failed", -math.inf
            text = f"<div class='result failed'>{html.escape(_reason(record, language))}</div>"
        else:
            kind, order = str(record.decision), -record.probability
            text = _card(examination, language)
        data = text.encode("utf-8", "backslashreplace")
        self._entries.append(_Entry(order, kind, self._spool.tell(), len(data)))
        self._spool.write(data)

    def write(self) -> list[str]:
        """Write the pages, and return their paths.

        Raises:
            OSError: They cannot be written.
        """
        entries = sorted(self._entries, key=lambda entry: entry.order)
        failed = sum(entry.kind == "failed" for entry in entries)
        parts = [entries[i : i + PER_PAGE] for i in range(0, len(entries), PER_PAGE)] or [[]]
        stem, extension = os.path.splitext(self._path)
        paths = [self._path, *(f"{stem}-{n}{extension}" for n in range(2, len(parts) + 1))]
        for number, (path, part) in enumerate(zip(paths, parts, strict=True)):
            text = self._page(part, len(entries) - failed, failed, paths, number)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        self._spool.close()
        return paths

    def _page(
        self, part: list[_Entry], screened: int, failed: int, paths: list[str], number: int
    ) -> str:
        language = self._language
        caution = f"{self._manifest.intended_use} {say('report.caution', language)}"
        if language != "en":
            caution = f"{say('notice', language)} {caution}"
        summary = _summary(screened, failed, self._manifest, self._point, language)
        pages = _pages(paths, number, language)
        parts = [
            f"<h1>{html.escape(self._title)}</h1>",
            f"<p class=note><strong>{html.escape(self._notice)}</strong></p>"
            if self._notice
            else "",
            f"<p>{html.escape(summary)}</p>",
            f"<p class=note>{html.escape(caution)}</p>",
            pages,
            _filter(Counter(entry.kind for entry in part), language),
            *(self._text(entry) for entry in part if entry.kind == "failed"),
            "<div class=cards>",
            *(self._text(entry) for entry in part if entry.kind != "failed"),
            "</div>",
            pages,
        ]
        body = "\n".join(text for text in parts if text)
        return html_page(self._title, body, _STYLE, language)

    def _text(self, entry: _Entry) -> str:
        self._spool.seek(entry.offset)
        return self._spool.read(entry.length).decode()


def write_report(
    path: str | os.PathLike[str],
    examinations: Iterable[Examination],
    manifest: Manifest,
    point: OperatingPoint,
    title: str | None = None,
    notice: str | None = None,
    language: str = "en",
) -> list[str]:
    """A whole report at once, images ordered by probability, highest first; see `Report`."""
    report = Report(path, manifest, point, title, notice, language)
    for examination in examinations:
        report.add(examination)
    return report.write()


def _pages(paths: list[str], number: int, language: str) -> str:
    """Links to the other pages; "" where there is one."""
    if len(paths) == 1:
        return ""
    shown = []
    for i, path in enumerate(paths):
        name = html.escape(quote(os.path.basename(path)), quote=True)
        shown.append(
            f"<b aria-current=page>{i + 1}</b>" if i == number else f"<a href='{name}'>{i + 1}</a>"
        )
    return f"<nav aria-label='{html.escape(say('report.pages', language))}'>{' '.join(shown)}</nav>"


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


def _filter(counts: Mapping[str, int], language: str) -> str:
    """Buttons for the kinds of results on a page."""
    shown = {"all": sum(counts.values()), **counts}
    options = [
        f"<label><input type=radio name=show id=show-{key}{' checked' if key == 'all' else ''}>"
        f"{html.escape(_capital(say(name, language)))} {shown[key]}</label>"
        for key, name in _FILTERS
        if shown.get(key)
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
