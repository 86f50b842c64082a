"""Screen files, folders, or paths from standard input."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping

from edge_runtime.basics.processors import default_threads
from edge_runtime.basics.progress import Progress
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import add_screening_options, load_screener, open_audit
from edge_runtime.commands.summary import summarise
from edge_runtime.errors import ImageError, InvalidValueError
from edge_runtime.images.file import hash_file
from edge_runtime.images.inputs import Input, find_inputs
from edge_runtime.records.messages import (
    choose_language,
    say,
    shown_findings,
    told_legend,
)
from edge_runtime.records.output import FORMATS, RecordWriter
from edge_runtime.records.record import Examination
from edge_runtime.screener import Screener


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Screen radiographs: files, folders (recursively), or - for paths on "
        "standard input, one a line. Results go to standard output or --output."
    )
    parser.epilog = (
        "example: cxr-edge screen ward3/ --format csv --output ward3.csv --heatmaps maps/"
    )
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--output", metavar="FILE", help="append results here, a line each")
    parser.add_argument(
        "--resume", action="store_true", help="skip what --output already has, by content"
    )
    parser.add_argument("--heatmaps", metavar="DIR", help="write an overlay picture per image")
    parser.add_argument(
        "--report", metavar="FILE", help="write an HTML page of all results, 300 on each"
    )
    parser.add_argument(
        "--lang",
        metavar="CODE",
        help="of table and report: en, fr, es, pt; default: the system's",
    )
    parser.add_argument("--timings", action="store_true", help="add timing_ms to the records")
    add_screening_options(parser)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    language = choose_language(arguments.lang)
    # What libraries warn of is said in the records; they would quote what they read.
    warnings.showwarning = lambda *_, **__: None
    workers = arguments.threads or default_threads()
    screener = load_screener(arguments, parallel=workers)
    manifest, point = screener.bundle.manifest, screener.operating_point
    tell(f"{manifest.name} {manifest.version}, {screener.engine_name}. {say('notice', language)}")
    if arguments.format == "table":
        tell(told_legend(point, language, screener.points_by_population, manifest.positive))
    audit = open_audit(arguments)
    done: Mapping[tuple[str, str], str] = {}
    if arguments.resume:
        from edge_runtime.records.resume import open_output

        output, done = open_output(arguments.output, arguments.format, screener.conditions, audit)
    else:
        output = RecordWriter(
            arguments.output,
            arguments.format,
            language,
            audit,
            bool(manifest.findings),
            screener.conditions.site is not None,
        )
    counts: Counter[str] = Counter()
    extras = _Extras(arguments, screener, language)
    with contextlib.closing(output) as writer:
        progress = Progress(_count(arguments) if sys.stderr.isatty() else None)
        results = screener.examine_many(
            _inputs(arguments, done, counts), workers, arguments.timings
        )
        with contextlib.closing(results):
            for result in results:
                writer.write(result.record)
                counts[result.record.decision or result.record.status] += 1
                extras.add(result)
                progress.step()
        progress.clear()
    extras.finish()
    code = summarise(counts, language, manifest.positive)
    return 2 if extras.has_failed else code


class _Extras:
    """Heatmaps and report. Where they cannot be written the screening goes on without them."""

    def __init__(self, arguments: argparse.Namespace, screener: Screener, language: str) -> None:
        self._heatmaps, self._report, self._language = arguments.heatmaps, None, language
        self.has_failed = False
        if arguments.report:
            from edge_runtime.records.figures import told_site
            from edge_runtime.records.report import Made, Report  # only who asks waits for it

            made = Made(
                screener.bundle.manifest,
                screener.operating_point,
                screener.engine_name,
                told_site(screener.site, language),
                population=screener.population,
                by_population=screener.points_by_population,
            )
            with self._noted():
                self._report = Report(arguments.report, made, language=language)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.has_failed:
                tell(f"cxr-edge: error: {error}; screening goes on, results are written")
            self.has_failed = True

    def add(self, result: Examination) -> None:
        if self._heatmaps:
            with self._noted():
                _write_heatmap(self._heatmaps, result)
        if self._report is not None:
            with self._noted():
                self._report.add(result)

    def finish(self) -> None:
        if self._report is None:
            return
        with self._noted():
            first, *more = self._report.write()
            if more:
                told = say("summary.pages", self._language)
                tell(told.format(first=first, more=len(more)))


def _check(arguments: argparse.Namespace) -> None:
    if arguments.resume and not arguments.output:
        raise InvalidValueError("--resume needs --output, the file to go on with")
    if arguments.resume and arguments.format == "table":
        raise InvalidValueError("--resume needs --format jsonl or csv")
    if arguments.operating_point and arguments.threshold is not None:
        raise InvalidValueError("--operating-point and --threshold exclude each other")
    output = arguments.output
    if output and not arguments.resume and os.path.exists(output) and os.path.getsize(output):
        raise InvalidValueError(
            f"{output} holds results already; add --resume to go on with it, or name another file"
        )
    if arguments.heatmaps:
        os.makedirs(arguments.heatmaps, exist_ok=True)


def _inputs(
    arguments: argparse.Namespace, done: Mapping[tuple[str, str], str], counts: Counter[str]
) -> Iterator[Input]:
    known = {source for source, _ in done}
    for item in _all_inputs(arguments):
        if item.source in known and item.error is None:
            with contextlib.suppress(ImageError):  # unreadable now: the record will say so
                status = done.get((item.source, hash_file(item.path)))
                if status is not None:
                    counts["skipped" if status == "ok" else f"skipped with {status}"] += 1
                    continue
        yield item


def _all_inputs(arguments: argparse.Namespace) -> Iterator[Input]:
    named = (arguments.output, arguments.heatmaps, arguments.report, arguments.audit)
    own = [p for p in named if p]
    for path in arguments.paths:
        if path == "-":
            lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
            yield from find_inputs((os.fsdecode(line) for line in lines if line), own)
        else:
            yield from find_inputs([path], own)


def _count(arguments: argparse.Namespace) -> int | None:
    if "-" in arguments.paths:
        return None
    return sum(1 for _ in _all_inputs(arguments))


def _write_heatmap(folder: str, result: Examination) -> None:
    from edge_runtime.records.heatmap import has_heatmap, overlay_jpeg

    if not has_heatmap(result):
        return
    record = result.record
    stem = os.path.splitext(os.path.basename(record.source))[0]
    stem = stem[:50] or "image"  # a long name and the hash must fit together
    # The hash keeps files of one name from different folders apart.
    stem += f"-{(record.sha256 or '')[:8]}"
    names: dict[str | None, str] = {None: f"{stem}.jpeg"}
    for finding in shown_findings(record):
        letters = "".join(c if c.isalnum() else "-" for c in finding[:50])
        names[finding] = f"{stem}-{letters}.jpeg"
    for which, name in names.items():
        picture = overlay_jpeg(result, finding=which)
        # By its bytes: a locale of ASCII alone could not encode it.
        with open(os.path.join(folder, os.fsdecode(name.encode())), "wb") as file:
            file.write(picture or b"")
