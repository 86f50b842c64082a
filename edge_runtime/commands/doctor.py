"""Is this box right? Machine, engines, bundle; every fault with its remedy."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from edge_runtime.commands.formatter import HelpFormatter


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "doctor",
        formatter_class=HelpFormatter,
        help="is this box right? every fault with its remedy",
        description="Checks machine, Python, numpy, Pillow and every engine, each in a process of "
        "its own, with the bundle's known answers and its speed, and recommends an engine.",
        epilog="example: cxr-edge doctor",
    )
    parser.add_argument("--bundle", metavar="DIR", help="model bundle; default: the built-in one")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from edge_runtime.doctor import describe, examine_machine

    diagnosis = examine_machine(arguments.bundle)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(diagnosis), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(describe(diagnosis))
    if diagnosis.recommended is None:
        return 2
    return 1 if diagnosis.faults else 0
