"""Self-contained HTML pages of screened images: a worklist that opens offline and prints."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import html
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from edge_runtime.basics.frozen import frozen
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.figures import told_figures
from edge_runtime.records.heatmap import has_heatmap, heat_png, plain_jpeg
from edge_runtime.records.html_page import html_page
from edge_runtime.records.messages import (
    meaning,
    reasons,
    say,
    say_of,
    shown_findings,
    times_threshold,
    told_findings,
    verdict,
)
from edge_runtime.records.record import Examination, Record
from edge_runtime.statistics.odds import log_odds

_SCALE_END = 7.0  # log odds at either end of the bar: 0.1 and 99.9 %
_MOST_PICKED = 8  # findings of one film whose colours can be chosen
PER_PAGE = 300  # results: some megabytes, which any browser opens

# What the filter shows: the key of each kind of result, and that of its name.
_FILTERS = (
    ("all", "report.all"),
    ("pneumonia", "decision.pneumonia"),
    ("abnormal", "decision.abnormal"),
    ("uncertain", "decision.uncertain"),
    ("normal", "decision.normal"),
    ("failed", "report.failed"),
)

_STYLE = (
    """
:root { color-scheme: light dark; --bad: #c5221f; --good: #1e7e44; --unsure: #9a6200; --not: #666 }
@media (prefers-color-scheme: dark) {
  :root { --bad: #ff8a80; --good: #7bd99a; --unsure: #ffc46b; --not: #aaa } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 1.5rem auto;
  padding: 0 1rem }
h1 { margin: 0 } header p { margin: .3rem 0 } .quiet { opacity: .8; font-size: .9rem }
.note { border-left: 4px solid var(--unsure); padding: .3rem .8rem; margin: .6rem 0 }
fieldset { border: 0; padding: 0; margin: .8rem 0; display: flex; flex-wrap: wrap; gap: .5rem }
legend { float: left; padding: .15rem .5rem .15rem 0 }
fieldset label { border: 1px solid #8886; border-radius: 99px; padding: .15rem .9rem;
  cursor: pointer }
label:has(:checked) { background: #36c; color: #fff } label:focus-within { outline: 3px solid #9bf }
input { position: absolute; opacity: 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem;
  align-items: start }
figure { margin: 0; border: 1px solid #8886; border-radius: 6px; overflow: hidden }
figure label { display: block; background: #000; cursor: zoom-in; position: relative }
figure label:has(:checked) { position: fixed; inset: 0; z-index: 1; cursor: zoom-out;
  background: #000 }
figure img { display: block; width: 100%; height: auto; max-height: 22rem; object-fit: contain }
figure img.heat { position: absolute; inset: 0; height: 100% }
figure label:has(:checked) img { width: 100vw; height: 100vh; max-height: none }
body:has(#heat-half:checked) img.heat { opacity: .5 }
body:has(#heat-none:checked) img.heat { opacity: 0 }
figcaption, .failed { padding: .5rem .75rem; overflow-wrap: anywhere }
figcaption p { margin: .1rem 0 } figcaption h3 { font-size: 1rem; margin: 0; font-weight: 600 }
.pneumonia .word, .abnormal .word { color: var(--bad) }
.normal .word { color: var(--good) }
.uncertain .word { color: var(--unsure) } .word { font-weight: 700; font-size: 1.1rem }
.bar { position: relative; height: .8rem; border-radius: .4rem; background: #8883; margin: .3rem 0 }
.bar i { position: absolute; top: 0; bottom: 0 }
.bar .band { background: repeating-linear-gradient(45deg, #8888 0 3px, #8882 3px 7px) }
.bar .cut { width: 2px; margin-left: -1px; top: -.25rem; bottom: -.25rem; background: currentColor }
.bar .at { width: .8rem; margin-left: -.4rem; border-radius: 50%; background: var(--not) }
.pneumonia .at, .abnormal .at { background: var(--bad) }
.normal .at { background: var(--good) }
.uncertain .at { background: var(--unsure) }
.scale { display: inline-block; width: 5rem; height: .7rem; border-radius: .3rem;
  background: linear-gradient(90deg, #ffeb50, #fd8d28, #c80a14) }
details { margin: 1rem 0 } summary { cursor: pointer; font-weight: 600 }
.failed { border: 1px solid #8886; border-radius: 6px; margin: .5rem 0 }
.flags { font-size: .9em; color: var(--unsure) }
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1rem 0 }
nav > * { border: 1px solid #8886; border-radius: 6px; min-width: 2rem; padding: .2rem .5rem;
  text-align: center }
figcaption ul { margin: .2rem 0; padding-left: 1.1rem }
figcaption fieldset { margin: .3rem 0; gap: .25rem } figcaption fieldset label { display: inline;
  background: none; font-size: .85rem; padding: 0 .5rem; cursor: pointer }
figcaption fieldset label:has(:checked) { position: static; background: #36c }
@media print { figure, .failed { break-inside: avoid } fieldset, nav { display: none } }
"""
    + "".join(
        f"body:has(#show-{key}:checked) .result:not(.{key}) {{ display: none }}\n"
        for key, _ in _FILTERS[1:]
    )
    + "".join(
        f"figure:has(.pick{i}:checked) img.heat:not(.of{i}) {{ display: none }}\n"
        for i in range(_MOST_PICKED + 1)
    )
)


@frozen
class Made:
    """What a report says of its making: with what, where and when."""

    manifest: Manifest  # for the model's name, intended use and figures
    point: OperatingPoint  # in force
    engine: str
    site: str | None = None  # the profile in force, as `figures.told_site` tells it
    at: datetime.datetime | None = None  # by default the time at which the report is begun
    population: str | None = None  # whose point it is
    by_population: Mapping[str, OperatingPoint] = dataclasses.field(default_factory=dict)


@frozen
class _Entry:
    """One result in the spool; the likeliest come first, results without a probability last."""

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
        made: Made,
        title: str | None = None,
        notice: str | None = None,
        language: str = "en",
    ) -> None:
        """Begin a report.

        Args:
            path: Of its first page; further ones are called NAME-2.html and so on, beside it.
            made: What its head says.
            title: Heading; by default what such a page is called.
            notice: A warning to show on top ("synthetic images").
            language: One of `messages.LANGUAGES`; where a manifest has no translation of the
                model's intended use, that is shown as it states it.

        Raises:
            OSError: Nothing can be written there.
        """
        self._path, self._made = os.fspath(path), made
        self._at = made.at or datetime.datetime.now()
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
            kind, order = "failed", math.inf
            text = _failure(record, language)
        else:
            kind, order = str(record.decision), -record.probability
            text = _card(examination, self._made, language)
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
        language, escape = self._language, html.escape
        pages = _pages(paths, number, language)
        counts = Counter(entry.kind for entry in part)
        total = say("report.summary", language).format(screened=screened, failed=failed)
        parts = [
            f"<header><h1>{escape(self._title)}</h1>",
            f"<p class=note><strong>{escape(self._notice)}</strong></p>" if self._notice else "",
            f"<p>{escape(self._head())}</p>",
            f"<p><strong>{escape(total)}</strong></p>",
            f"<p class=note>{_use(self._made.manifest, language)}</p></header>",
            _figures(self._made, language),
            pages,
            _filter(counts, language),
            _overlay_choice(language, self._made.manifest.positive),
            "<div class=cards>",
            *(self._text(entry) for entry in part if entry.kind != "failed"),
            "</div>",
        ]
        if counts["failed"]:
            # Open where there is nothing else to see.
            state = " open" if counts["failed"] == len(part) else ""
            told = say("report.not_screened", language).format(n=counts["failed"])
            parts += [f"<details{state}><summary>{escape(told)}</summary>"]
            parts += [self._text(entry) for entry in part if entry.kind == "failed"]
            parts += ["</details>"]
        body = "\n".join(text for text in [*parts, pages] if text)
        return html_page(self._title, body, _STYLE, language)

    def _head(self) -> str:
        made, language = self._made, self._language
        model = f"{made.manifest.name} {made.manifest.version}"
        told = [say("report.made", language).format(date=f"{self._at:%Y-%m-%d %H:%M}")]
        if made.site:
            told.append(say("report.site", language).format(site=made.site))
        told.append(say("report.model", language).format(model=model, engine=made.engine))
        told.append(say("report.point", language).format(point=made.point.name))
        if made.population:
            told.append(_whose(made.population, language))
        return "; ".join(told) + "."

    def _text(self, entry: _Entry) -> str:
        self._spool.seek(entry.offset)
        return self._spool.read(entry.length).decode()


def write_report(
    path: str | os.PathLike[str],
    examinations: Iterable[Examination],
    made: Made,
    title: str | None = None,
    notice: str | None = None,
    language: str = "en",
) -> list[str]:
    """A whole report at once, images ordered by probability, highest first; see `Report`."""
    report = Report(path, made, title, notice, language)
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


def _use(manifest: Manifest, language: str) -> str:
    """HTML: what the model is for, in the reader's language where the manifest has it."""
    use = html.escape(manifest.intended_use)
    if language != "en":
        translated = manifest.translations.get(language)
        use = html.escape(translated) if translated else f"<span lang=en>{use}</span>"
    notice, caution = (html.escape(say(key, language)) for key in ("notice", "report.caution"))
    return f"<strong>{notice}</strong> {use} {caution}"


def _figures(made: Made, language: str) -> str:
    """HTML: what the points in force did, and on whose films; the worst of each in sight."""
    points = [(made.population, made.point), *made.by_population.items()]
    told = [
        [html.escape(line) for line in told_figures(made.manifest, point, language, whose)]
        for whose, point in points
    ]
    told = [lines for lines in told if lines]
    if not told:
        return ""
    name = html.escape(made.point.name)
    worst = "".join(f"<p>{name}: {lines[0]}</p>" for lines in told)
    if all(len(lines) == 1 for lines in told):
        return worst
    title = html.escape(say("figures.title", language))
    every = "".join(f"<li>{line}</li>" for lines in told for line in lines)
    return f"{worst}<details><summary>{title}</summary><ol>{every}</ol></details>"


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


def _overlay_choice(language: str, positive: str) -> str:
    """Buttons that fade the colours, and what these are."""
    options = [
        f"<label><input type=radio name=heat id=heat-{key}{' checked' if key == 'full' else ''}>"
        f"{html.escape(say(f'picture.{key}', language))}</label>"
        for key in ("full", "half", "none")
    ]
    return (
        f"<fieldset><legend>{html.escape(say('picture.colours', language))}</legend>"
        f"{''.join(options)}</fieldset>"
        f"<p class=quiet><span class=scale></span> "
        f"{html.escape(say_of('picture.caption', positive, language))}</p>"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _failure(record: Record, language: str) -> str:
    """HTML: an image that has no decision, and why."""
    told = [verdict(record, language), meaning(record, language), reasons(record, language)]
    text = " ".join(html.escape(_capital(part)) for part in told[1:] if part)
    return (
        f"<div class='result failed'><b>{html.escape(record.source)}</b> "
        f"({html.escape(told[0])}): {text}</div>"
    )


def _whose(population: str, language: str) -> str:
    name = say(f"population.{population}", language)
    return say("population.decided", language).format(population=name)


def _card(examination: Examination, made: Made, language: str) -> str:
    record: Record = examination.record
    point = made.by_population.get(record.population or "", made.point)
    layers = picks = ""
    if has_heatmap(examination):
        shown = list(shown_findings(record))[:_MOST_PICKED]
        maps: list[str | None] = [None, *(shown if len(record.findings or {}) > 1 else [])]
        heat = "".join(
            f"<img class='heat of{i}' alt='' "
            f"src='{_data_url('png', heat_png(examination, 0.5, finding))}'>"
            for i, finding in enumerate(maps)
        )
        picks = _picks(record, maps[1:], language)
        title = html.escape(say("picture.enlarge", language), quote=True)
        alt = html.escape(say("page.radiograph", language), quote=True)
        layers = (
            f"<label title='{title}'><input type=checkbox aria-label='{title}'>"
            f"<img alt='{alt}' src='{_data_url('jpeg', plain_jpeg(examination, 2, 80))}'>"
            f"{heat}</label>"
        )
    flags = html.escape(reasons(record, language))
    return (
        f"<figure class='result {record.decision}'>{layers}<figcaption>"
        f"<p class=word>{html.escape(_capital(verdict(record, language)))}</p>"
        f"{_bar(record, point, language)}"
        f"<p>{html.escape(meaning(record, language))}</p>"
        f"{_listed(record, language)}{picks}"
        f"<h3>{html.escape(record.source)}</h3>"
        + (f"<p class=flags>{flags}</p>" if flags else "")
        + "</figcaption></figure>"
    )


def _listed(record: Record, language: str) -> str:
    """HTML: a line for each finding; "" of models without."""
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in told_findings(record, language))
    return f"<ul>{lines}</ul>" if lines else ""


def _picks(record: Record, findings: Sequence[str | None], language: str) -> str:
    """HTML: whose colours are shown, of all findings or of one."""
    if not findings:
        return ""
    group = html.escape(f"pick-{record.sha256}-{record.source}", quote=True)
    names = [say("finding.all", language), *map(str, findings)]
    options = (
        f"<label><input type=radio class=pick{i} name='{group}'{' checked' if i == 0 else ''}>"
        f"{html.escape(name)}</label>"
        for i, name in enumerate(names)
    )
    title = html.escape(say("finding.title", language), quote=True)
    return f"<fieldset aria-label='{title}'>{''.join(options)}</fieldset>"


def _bar(record: Record, point: OperatingPoint, language: str) -> str:
    """HTML: where the score lies against the threshold, on a scale of log odds."""
    assert record.probability is not None
    told = say("score.bar", language).format(times=times_threshold(record))
    band = ""
    if point.uncertain:
        low, high = map(place_on_scale, point.uncertain)
        band = f"<i class=band style='left:{low:.1f}%;width:{high - low:.1f}%'></i>"
    at, cut = place_on_scale(record.probability), place_on_scale(record.threshold)
    short = say("score.times", language).format(times=times_threshold(record))
    whose = f"; {_whose(record.population, language)}" if record.population else ""
    return (
        f"<div class=bar role=img title='{html.escape(told, quote=True)}' "
        f"aria-label='{html.escape(told, quote=True)}'>{band}"
        f"<i class=cut style='left:{cut:.1f}%'></i><i class=at style='left:{at:.1f}%'></i></div>"
        f"<p class=quiet>{html.escape(short)}{html.escape(whose)}</p>"
    )


def place_on_scale(probability: float) -> float:
    """0 to 100: where it lies on a scale of log odds, 50 % in the middle; app.js has the same."""
    return min(max(50 + 50 * log_odds(probability) / _SCALE_END, 0.0), 100.0)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
