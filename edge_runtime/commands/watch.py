"""Screen what is dropped into a folder."""

from __future__ import annotations

import argparse

from edge_runtime.basics.processors import default_threads
from edge_runtime.commands.options import add_screening_options, number, open_audit, seconds
from edge_runtime.commands.running import (
    Log,
    StopSignal,
    add_log_option,
    load_tested_screener,
    quiet_libraries,
)
from edge_runtime.records.messages import choose_language, table_line
from edge_runtime.records.record import Record

_WITHOUT_NAME = {
    "not_moved": "a screened file cannot be moved",
    "set_aside": "a file ended the program twice: set aside",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Waits until a file is complete, screens it, appends its record to --output "
        "and moves the file, if it is told where to. Survives restarts; stops on Ctrl-C or "
        "SIGTERM."
    )
    parser.epilog = "example: cxr-edge watch inbox/ --output results.jsonl --done screened/"
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--output", metavar="FILE", required=True, help="append results here")
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    parser.add_argument("--done", metavar="DIR", help="move screened files there")
    parser.add_argument(
        "--failed", metavar="DIR", help="move refused and unreadable files there; default: --done"
    )
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="S", help="between looks")
    parser.add_argument(
        "--settle",
        type=number(0, 86_400),
        default=2.0,
        metavar="S",
        help="unchanged for so long: complete",
    )
    parser.add_argument("--once", action="store_true", help="end when nothing is left to screen")
    add_log_option(parser)
    add_screening_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_runtime.services.watch import Watcher, WatchSettings

    log, stop, language = Log(arguments.log_json), StopSignal(), choose_language()
    quiet_libraries(log)
    workers = arguments.threads or default_threads()
    screener = load_tested_screener(arguments, workers)

    def said(record: Record) -> None:
        # File names can hold names of patients: programs get the hash, people at the box the line.
        text = "screened" if arguments.log_json else table_line(record, language)
        log.say(
            "screened", text, sha256=record.sha256, status=record.status, decision=record.decision
        )

    settings = WatchSettings(
        arguments.folder,
        arguments.output,
        arguments.format,
        arguments.done,
        arguments.failed,
        arguments.interval,
        arguments.settle,
        (arguments.audit,) if arguments.audit else (),
    )

    def troubled(event: str, text: str) -> None:
        # As above: with the file's name for people alone.
        log.say(event, _WITHOUT_NAME[event] if arguments.log_json else text)

    watcher = Watcher(screener, settings, workers, said, open_audit(arguments), troubled)
    log.say("ready", f"watching {arguments.folder} with {screener.engine_name}")
    try:
        while not stop.is_set:
            count = watcher.step(lambda: stop.is_set)
            if arguments.once and not count and not watcher.waiting:
                break
            if not count:
                stop.wait(arguments.interval)
    finally:
        watcher.close()
    log.say("stopped", "stopped; every record is on the disk")
    return 0
