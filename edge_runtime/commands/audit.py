"""Look into the audit log: is it whole, what does it hold, did something drift?"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter

from edge_runtime.commands.bundle_option import add_bundle_option
from edge_runtime.commands.options import positive_int

_COLUMNS = (
    "n", "time", "event", "image", "status", "probability", "decision", "operating_point",
    "threshold", "flags", "ood_score", "error", "bundle", "engine", "site", "population", "hash",
)  # fmt: skip

_HASH = 64  # digits of what names a site profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The log is written by `--audit DIR` of screen, watch, serve, pipe and "
        "listen. `verify` names every altered or missing line; `drift` says in words what has "
        "changed since the calibration."
    )
    parser.epilog = "example: cxr-edge audit verify audit/; cxr-edge audit drift audit/ --last 200"
    parser.add_argument("action", choices=("verify", "export", "summary", "drift"))
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="JSON instead of text (not export)")
    parser.add_argument("--last", type=positive_int, default=200, metavar="N", help="drift: images")
    parser.add_argument("--site", metavar="FILE", help="drift: compare with this site's images")
    add_bundle_option(parser, "drift: else with this bundle's")


def run(arguments: argparse.Namespace) -> int:
    actions = {"verify": _verify, "export": _export, "summary": _summary, "drift": _drift}
    return actions[arguments.action](arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from edge_runtime.records.audit_check import verify_log

    count, problems = verify_log(arguments.folder)
    if arguments.json:
        print(json.dumps({"entries": count, "problems": [str(p) for p in problems]}, indent=1))
    else:
        for problem in problems:
            print(problem)
        print(f"{count} entries, {'NOT WHOLE' if problems else 'whole and unaltered'}")
    return 1 if problems else 0


def _export(arguments: argparse.Namespace) -> int:
    from edge_runtime.records.audit_log import read_log

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in read_log(arguments.folder):
        cells = [entry.get(column) for column in _COLUMNS]
        writer.writerow([" ".join(c) if isinstance(c, list) else c for c in cells])
    return 0


def _summary(arguments: argparse.Namespace) -> int:
    from edge_runtime.records.audit_log import read_log

    events: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    models: Counter[str] = Counter()
    days: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for entry in read_log(arguments.folder):
        events[str(entry.get("event"))] += 1
        if entry.get("event") == "result":
            outcomes[str(entry.get("decision") or entry.get("status"))] += 1
            models[f"{str(entry.get('bundle'))[:16]} on {entry.get('engine')}"] += 1
            days[str(entry.get("time"))[:10]] += 1
            told = entry.get("flags")
            flags.update(map(str, told if isinstance(told, list) else []))
    parts = {
        "events": events, "outcomes": outcomes, "models": models, "flags": flags, "days": days
    }  # fmt: skip
    if arguments.json:
        print(json.dumps({name: dict(sorted(c.items())) for name, c in parts.items()}, indent=1))
        return 0
    for name, counter in parts.items():
        for key, value in sorted(counter.items()):
            print(f"{name:10} {value:8} {key}")
    return 0


def _drift(arguments: argparse.Namespace) -> int:
    from edge_runtime.basics.parse import to_mapping
    from edge_runtime.bundle.folder import load_bundle
    from edge_runtime.errors import InvalidValueError
    from edge_runtime.records.audit_log import read_log
    from edge_runtime.site.drift import ALPHA, MIN_IMAGES, measure_drift

    if arguments.site:
        from edge_runtime.bundle.site_profile import load_profile

        profile = load_profile(arguments.site)
        reference, bundle = profile.reference, profile.bundle_sha256
        # Logs from before profiles were named by their hash say nothing of a calibrated site.
        wanted: set[str | None] | None = {profile.sha256} if profile.correction else None
    else:
        opened = load_bundle(arguments.bundle)
        if opened.manifest.reference is None:
            raise InvalidValueError(f"{opened.folder} has no reference; give --site")
        reference, bundle, wanted = opened.manifest.reference, opened.sha256, {None}
    entries, others = [], 0
    for entry in read_log(arguments.folder):
        # Scores of another model, or as another site corrects them, are no drift.
        if entry.get("event") == "result" and entry.get("bundle") == bundle:
            site = entry.get("site")
            named = site if isinstance(site, str) and len(site) == _HASH else None
            if wanted is None or named in wanted:
                entries.append(entry)
            else:
                others += 1
    if others and len(entries) < MIN_IMAGES:
        raise InvalidValueError(
            f"{others} results in {arguments.folder} were made with another site profile than "
            f"{arguments.site or 'none'}, {len(entries)} with it; name theirs with --site"
        )
    report = measure_drift(entries[-arguments.last :], reference)
    if arguments.json:
        print(json.dumps(to_mapping(report), indent=1))
    else:
        print(f"the last {report.images} images against {report.reference}:")
        for finding in report.findings:
            print(f"  {finding.text} (p = {finding.p_value:.3g})")
        print(
            f"{'CHANGED' if report.changed else 'no change'}; on unchanged images this is wrong in "
            f"fewer than {ALPHA:.0%} of all looks"
        )
    return 1 if report.changed else 0
