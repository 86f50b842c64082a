"""Many boxes on one page: collect their audit logs, and say which of them changed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from typing import TYPE_CHECKING

from edge_runtime.basics.streams import tell
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.messages import choose_language

if TYPE_CHECKING:
    from edge_runtime.judge.reference import Reference


EXTRA = "fleet"


def is_available() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "`collect` takes copies of the folders that --audit writes (from a USB stick, say), checks "
        "that each is whole, and keeps one row a day and box. `report` shows every box: volume, "
        "shares, model, last day, and which changed more than chance allows. No server, no image, "
        "no patient data."
    )
    parser.epilog = (
        "example: cxr-edge fleet collect usb/ --store fleet/; "
        "cxr-edge fleet report --store fleet/ --output fleet.html"
    )
    parser.add_argument("action", choices=("collect", "report"))
    parser.add_argument("folders", nargs="*", metavar="DIR", help="collect: audit logs, or above")
    parser.add_argument("--store", required=True, metavar="DIR", help="of the days; made if needed")
    parser.add_argument("--output", metavar="FILE", help="report: write an HTML page")
    parser.add_argument("--json", action="store_true", help="report: JSON instead of text")
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        help="report: hold boxes against the calibration of this bundle too; may be given again; "
        "the package's own are known",
    )
    parser.add_argument(
        "--site", action="append", default=[], metavar="FILE", help="report: of this site profile"
    )
    parser.add_argument("--lang", metavar="CODE", help="of the page: en, fr, es, pt")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "collect":
        return _collect(arguments)
    return _report(arguments)


def _collect(arguments: argparse.Namespace) -> int:
    from edge_runtime.fleet.collect import collect
    from edge_runtime.records.output import printable

    if not arguments.folders:
        raise InvalidValueError("collect: name the folders of audit logs")
    found = collect(arguments.folders, arguments.store)
    for box, why in found.refused:
        tell(printable(f"REFUSED {box}: {why}"))
    print(f"{len(found.boxes)} boxes, {found.days} days; {len(found.refused)} refused")
    return 1 if found.refused else 0


def _report(arguments: argparse.Namespace) -> int:
    from edge_runtime.basics.parse import to_mapping
    from edge_runtime.fleet.changes import report_boxes
    from edge_runtime.fleet.page import render_page, render_text
    from edge_runtime.fleet.store import read_days

    language = choose_language(arguments.lang)
    if arguments.folders:
        raise InvalidValueError("report: it reads --store alone; leave the folders out")
    days = read_days(arguments.store)
    if not days:
        raise InvalidValueError(f"{arguments.store} holds no days; run `fleet collect` first")
    boxes = report_boxes(days, _references(arguments))
    if arguments.json:
        print(json.dumps(to_mapping(boxes), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(render_text(boxes))
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(render_page(boxes, language))
    return 1 if any(box.changed for box in boxes) else 0


def _references(arguments: argparse.Namespace) -> dict[str, Reference]:
    from edge_runtime.bundle.folder import load_bundle
    from edge_runtime.bundle.shipped import SHIPPED
    from edge_runtime.bundle.site_profile import load_profile

    found = {}
    for name in (*SHIPPED, *arguments.bundle):
        bundle = load_bundle(name)
        if bundle.manifest.reference is not None:
            found[bundle.sha256] = bundle.manifest.reference
    for path in arguments.site:
        profile = load_profile(os.fspath(path))
        found[profile.sha256] = profile.reference
    return found
