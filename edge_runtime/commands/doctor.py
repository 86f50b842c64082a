"""Is this box right? Machine, engines, bundle; every fault with its remedy."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys

from edge_runtime.basics.streams import tell
from edge_runtime.commands.bundle_option import add_bundle_option
from edge_runtime.errors import InvalidValueError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks machine, Python, numpy, Pillow and every engine, each in a process of "
        "its own, with the bundle's known answers and its speed, and recommends an engine."
    )
    parser.epilog = "example: cxr-edge doctor"
    add_bundle_option(parser)
    parser.add_argument("--site", metavar="FILE", help="is this site profile right here, too?")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.add_argument(
        "--choose",
        action="store_true",
        help="keep the fastest engine with right answers as what `auto` takes on this machine, in "
        "a small file whose place is said",
    )


def run(arguments: argparse.Namespace) -> int:
    from edge_runtime.device.doctor import describe, examine_machine

    diagnosis = examine_machine(arguments.bundle, arguments.site)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(diagnosis), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(describe(diagnosis))
    if diagnosis.recommended is None:
        return 2
    if arguments.choose:
        from edge_runtime.engines.preference import Preference, write_preference

        today = f"{datetime.date.today():%Y-%m-%d}"
        kept = Preference(diagnosis.recommended, diagnosis.milliseconds, today)
        try:
            path = write_preference(kept)
        except OSError as error:
            raise InvalidValueError(f"the choice cannot be kept: {error}") from error
        tell(f"auto takes {kept.engine} from now on: {path}; remove that file to undo it")
    return 1 if diagnosis.faults else 0
