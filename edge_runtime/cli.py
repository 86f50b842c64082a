"""cxr-edge: chest X-ray pneumonia screening, offline. Screening support, not a diagnosis."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

from edge_runtime import __version__
from edge_runtime.basics.streams import mend_streams, tell
from edge_runtime.basics.verbs import parse_verb
from edge_runtime.commands.formatter import HelpFormatter
from edge_runtime.errors import CxrEdgeError

VERBS = {
    "screen": ("edge_runtime.commands.screen", "screen radiographs"),
    "watch": ("edge_runtime.commands.watch", "screen what is dropped into a folder"),
    "pipe": (
        "edge_runtime.commands.pipe",
        "JSON lines on standard input and output, for other programs",
    ),
    "serve": ("edge_runtime.commands.serve", "a local web page and HTTP API"),
    "listen": ("edge_runtime.commands.listen", "a DICOM node that screens what it receives"),
    "info": (
        "edge_runtime.commands.info",
        "version, bundle, engine, machine, and what optional parts would need",
    ),
    "verify": (
        "edge_runtime.commands.verify",
        "checksums, schema, and a known-answer test on this machine",
    ),
    "doctor": ("edge_runtime.commands.doctor", "is this box right? every fault with its remedy"),
    "calibrate": (
        "edge_runtime.commands.calibrate",
        "choose this site's own threshold on its labelled images",
    ),
    "adapt": (
        "edge_runtime.commands.adapt",
        "learn this site from its labelled films, or say why not",
    ),
    "audit": (
        "edge_runtime.commands.audit",
        "verify, export or sum up the audit log; watch for drift",
    ),
    "fleet": (
        "edge_runtime.commands.fleet",
        "many boxes on one page, from their audit logs; which of them changed",
    ),
    "archive": (
        "edge_runtime.commands.archive",
        "whole archives, by Ray into Parquet; and what one holds on one page",
    ),
    "bench": (
        "edge_runtime.commands.bench",
        "latency, throughput, cold start and memory on this machine",
    ),
    "demo": (
        "edge_runtime.commands.demo",
        "draw synthetic radiographs, screen them, write a report",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Parse, call, and turn the outcome into an exit code (see docs/contract.md)."""
    arguments_given = sys.argv[1:] if argv is None else argv
    try:
        arguments = parse_verb(
            "cxr-edge", __doc__, VERBS, arguments_given, HelpFormatter, f"cxr-edge {__version__}"
        )
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except CxrEdgeError as error:
        tell(f"cxr-edge: error: {error}")
        return 2
    except KeyboardInterrupt:
        tell("\ncxr-edge: interrupted; what was written is valid, --resume goes on from it")
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except OSError as error:
        # A heatmap or report that cannot be written; inputs that cannot be read have records.
        tell(f"cxr-edge: error: {error}; results already written are valid")
        return 2


def run() -> None:
    """The command: `main`, without what a process of one verb needs not wait for.

    Importing numpy and an engine makes many objects and no garbage, so nothing is collected until
    the model is loaded (`load_screener`), and the memory of a process that has flushed and closed
    everything is left to the system: together a fifth of a cold start.
    """
    gc.disable()
    mend_streams()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # what is lost with it was said before
            stream.flush()
    os._exit(code)
