"""Answer requests from another program on standard input, as JSON lines."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from edge_runtime.basics.processors import default_threads
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import add_screening_options, open_audit
from edge_runtime.commands.running import StopSignal, load_tested_screener, quiet_libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Reads requests such as {"id": 1, "path": "a.jpeg"} or {"id": 2, "base64": '
        '"..."}, a line each, and writes {"id": 1, "result": {record}} as they are ready.'
    )
    parser.epilog = 'example: echo \'{"id": 1, "path": "a.jpeg"}\' | cxr-edge pipe'
    add_screening_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_runtime.services.pipe import serve_pipe

    workers = arguments.threads or default_threads()
    stop = StopSignal()
    quiet_libraries()
    screener = load_tested_screener(arguments, workers)
    # Whatever an engine prints must not end up between the responses.
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answered = serve_pipe(
        screener,
        sys.stdin.buffer,
        responses,
        workers,
        lambda: stop.is_set,
        open_audit(arguments),
    )
    with contextlib.suppress(OSError):  # nobody reads any more: counted as failed
        responses.close()
    tell(f"{answered.results} requests answered by {screener.engine_name}")
    if answered.failed:
        tell(f"cxr-edge: error: {answered.failed} requests could not be answered")
        return 2
    return 0
