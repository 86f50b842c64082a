"""Receive radiographs as a DICOM node, screen them, answer with SR and Secondary Capture."""

from __future__ import annotations

import argparse
import importlib.util

from edge_runtime.basics.install import install_extra
from edge_runtime.basics.processors import default_threads
from edge_runtime.commands.options import add_screening_options, open_audit, port, whole
from edge_runtime.commands.running import (
    Log,
    StopSignal,
    add_log_option,
    load_tested_screener,
    quiet_libraries,
)
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.record import Record

EXTRA = "dicom"


def ae_title(text: str) -> str:
    """The type of an option. Source: the value representation AE, DICOM PS3.5 6.2."""
    title = text.strip(" ")
    if not (1 <= len(title) <= 16 and title.isascii() and title.isprintable()) or "\\" in title:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no AE title: 1 to 16 printable ASCII characters, no backslash"
        )
    return title


def is_available() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("pydicom", "pynetdicom"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Receives CR, DX and Secondary Capture images by C-STORE, screens each, "
        "appends its record to --output, and writes a structured report and a heatmap image, or "
        "sends them to another node. Answers C-ECHO."
    )
    parser.epilog = (
        "example: cxr-edge listen --spool spool/ --output results.jsonl --objects answers/"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine)")
    parser.add_argument("--port", type=port, default=11112)
    parser.add_argument("--ae-title", type=ae_title, default="CXREDGE", metavar="AET")
    parser.add_argument(
        "--allow",
        type=ae_title,
        action="append",
        default=[],
        metavar="AET",
        help="calling AE titles; needed on any address but this machine's",
    )
    parser.add_argument("--max-associations", type=whole(1, 1000), default=16, metavar="N")
    parser.add_argument("--spool", required=True, metavar="DIR", help="received, not yet screened")
    parser.add_argument("--output", required=True, metavar="FILE", help="append records here")
    parser.add_argument("--objects", metavar="DIR", help="write SR and Secondary Capture here")
    parser.add_argument("--send-to", metavar="AET@HOST:PORT", help="send them to this node")
    parser.add_argument("--keep", metavar="DIR", help="keep received objects; default: removed")
    add_log_option(parser)
    add_screening_options(parser)


def run(arguments: argparse.Namespace) -> int:
    if not is_available():
        raise InvalidValueError(f"listen needs: {install_extra(EXTRA)}")
    if arguments.host not in ("127.0.0.1", "::1", "localhost") and not arguments.allow:
        raise InvalidValueError(
            f"--host {arguments.host} can be reached from other machines: name the AE titles that "
            "may send with --allow"
        )
    from edge_runtime.services.dicom.node import DicomNode, NodeSettings

    log, stop = Log(arguments.log_json), StopSignal()
    quiet_libraries(log)
    workers = arguments.threads or default_threads()
    screener = load_tested_screener(arguments, workers)

    def said(record: Record) -> None:
        # No identifier of a patient or a study, only the hash of what came.
        digest = (record.sha256 or "")[:16]
        log.say(
            "screened",
            f"{digest} {record.decision or record.status}",
            sha256=record.sha256,
            status=record.status,
        )

    settings = NodeSettings(
        spool=arguments.spool,
        output=arguments.output,
        host=arguments.host,
        port=arguments.port,
        ae_title=arguments.ae_title,
        allowed=tuple(arguments.allow),
        associations=arguments.max_associations,
        objects=arguments.objects,
        keep=arguments.keep,
        destination=_destination(arguments.send_to),
        workers=workers,
    )
    audit = open_audit(arguments)
    node = DicomNode(screener, settings, said, lambda text: log.say("problem", text), audit)
    node.start()
    log.say(
        "ready",
        f"{settings.ae_title} at {settings.host}:{node.port} with {screener.engine_name}",
        port=node.port,
    )
    while not stop.wait(3600):
        pass
    node.stop()
    log.say("stopped", "stopped; every accepted object has its record")
    return 0


def _destination(text: str | None):  # type: ignore[no-untyped-def]
    if text is None:
        return None
    from edge_runtime.services.dicom.answers import Destination

    title, at, address = text.partition("@")
    host, colon, port = address.rpartition(":")
    if not (title and at and host and colon and port.isdigit()):
        raise InvalidValueError(f"--send-to takes AET@HOST:PORT, got {text!r}")
    return Destination(host, int(port), title)
