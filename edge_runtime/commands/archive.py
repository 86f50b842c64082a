"""Whole archives: screened by Ray into Parquet, and what they hold on one page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING

from edge_runtime.basics.progress import Progress
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import (
    add_decision_options,
    add_force_option,
    add_mode_option,
    add_model_options,
    load_screener,
    positive_int,
    seconds,
    set_file_mode,
)
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.messages import choose_language, say

if TYPE_CHECKING:
    from edge_runtime.archive.plan import Plan
    from edge_runtime.archive.run import Done

EXTRA = "archive"
REPORT = "report"


def is_available() -> bool:
    from importlib.util import find_spec

    from edge_runtime.archive.stores import PACKAGES

    return all(find_spec(name) for name in PACKAGES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Screen whole archives with Ray Data: folders, object stores (s3://…, gs://…), tar shards, "
        "@LIST of such. Parquet comes out, a row per film; the same command again goes on where "
        "it was. By itself it uses this machine; --ray joins a cluster. `archive report DIR` says "
        "what an archive holds."
    )
    parser.epilog = (
        "example: cxr-edge archive kigali=s3://kigali/films huye=/mnt/huye --output results/; "
        "cxr-edge archive report results/ --output archive.html"
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="[NAME=]folder, file, address or @list"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder or address of the rows; report: an HTML page"
    )
    parser.add_argument(
        "--workers", type=positive_int, metavar="N", help="films at a time; default: processors"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster; auto: the running one")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="KEYWORD",
        help="a DICOM attribute as a further column (PatientID, say: it may identify people); may "
        "be given again",
    )
    parser.add_argument(
        "--check-content",
        action="store_true",
        help="read again what has its row, though its size and time are the same",
    )
    parser.add_argument(
        "--film-seconds",
        type=seconds,
        default=300.0,
        metavar="S",
        help="a film that takes longer, twice, is set aside; default: 300",
    )
    report = parser.add_argument_group("archive report DIR")
    report.add_argument(
        "--reported",
        metavar="FILE",
        help="films that have a report, by source or SHA-256, one a line: left out of the worklist",
    )
    report.add_argument(
        "--worklist", metavar="FILE", help="write the films to look at first, as CSV"
    )
    report.add_argument(
        "--most", type=positive_int, default=1000, metavar="N", help="films of it; default: 1000"
    )
    report.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.add_argument("--lang", metavar="CODE", help="en, fr, es, pt; default: the system's")
    add_model_options(parser)
    add_decision_options(parser)
    add_force_option(parser)
    add_mode_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_runtime.archive.stores import check_installed

    check_installed()
    if arguments.sources[0] == REPORT:
        return _report(arguments)
    return _screen(arguments)


def _screen(arguments: argparse.Namespace) -> int:
    from edge_runtime.archive.folder import ArchiveFolder, made_with
    from edge_runtime.archive.rows import check_keywords
    from edge_runtime.archive.run import Cluster, screen_archive
    from edge_runtime.archive.sources import parse_source
    from edge_runtime.archive.supervisor import Settings
    from edge_runtime.commands.summary import summarise

    if not arguments.output:
        raise InvalidValueError("archive: name the folder of the results, --output DIR")
    language = choose_language(arguments.lang)
    sources = [parse_source(text) for text in arguments.sources]
    check_keywords(arguments.column)
    screener = load_screener(arguments)  # what it refuses is said before anything starts
    manifest = screener.bundle.manifest
    tell(f"{manifest.name} {manifest.version}, {screener.engine_name}. {say('notice', language)}")
    settings = Settings(
        _load_arguments(arguments),
        tuple(arguments.column),
        made_with(screener.conditions),
        arguments.film_seconds,
    )
    cluster = Cluster(arguments.ray, arguments.workers or arguments.threads)
    watched = _Watched()
    try:
        done = screen_archive(
            sources, ArchiveFolder(arguments.output), settings, cluster, arguments.check_content,
            watched.listed, watched.planned, watched.part_done,
        )  # fmt: skip
    except KeyboardInterrupt:
        watched.progress.clear()
        tell("interrupted; the same command goes on where it was")
        return 130
    finally:
        watched.progress.clear()
    return summarise(_summary(done), language, manifest.positive)


def _load_arguments(arguments: argparse.Namespace) -> dict[str, object]:
    """Of `Screener.load`, for another process and perhaps another machine."""
    bundle, site = arguments.bundle, arguments.site
    if bundle is not None and os.path.isdir(bundle):
        bundle = os.path.abspath(bundle)
    return {
        "bundle": bundle,
        "engine": arguments.engine,
        "operating_point": arguments.operating_point,
        "threshold": arguments.threshold,
        "site": os.path.abspath(site) if site else None,
        "force": arguments.force,
        "population": arguments.population,
    }


def _summary(done: Done) -> dict[str, int]:
    counts = Counter(done.counts)
    skipped = done.plan.done + done.same
    if skipped:
        counts["skipped"] = skipped
    return counts


class _Watched:
    """What somebody at a terminal sees of a run."""

    def __init__(self) -> None:
        self.progress = Progress(None, "inputs")
        self._is_seen = sys.stderr.isatty()
        self._has_begun = False  # Ray takes its time until the first part is done

    def listed(self, count: int) -> None:
        if self._is_seen:
            tell(f"\r{count} listed \x1b[K", end="")

    def planned(self, plan: Plan) -> None:
        self.progress.clear()
        if self._is_seen and plan.done:
            tell(f"{plan.done} have their rows, {plan.inputs} to do")
        self.progress = Progress(plan.inputs, "inputs")

    def part_done(self, inputs: int, films: int) -> None:
        self.progress.step(inputs)
        if not self._has_begun:
            self._has_begun = True
            self.progress.start_clock()


def _report(arguments: argparse.Namespace) -> int:
    from edge_runtime.archive.ask import ask, write_worklist
    from edge_runtime.archive.folder import ArchiveFolder
    from edge_runtime.archive.page import render_page, render_text

    if len(arguments.sources) != 2:
        raise InvalidValueError("archive report: name one folder of results")
    language = choose_language(arguments.lang)
    answers = ask(ArchiveFolder(arguments.sources[1]), arguments.most, arguments.reported)
    if arguments.json:
        from edge_runtime.basics.parse import to_mapping

        print(json.dumps(to_mapping(answers), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(render_text(answers))
    set_file_mode(arguments.mode)
    if arguments.worklist:
        write_worklist(arguments.worklist, answers.suspects)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(render_page(answers, language))
    return 0
