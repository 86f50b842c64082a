"""cxr-edge: chest X-ray pneumonia screening, offline. Screening support, not a diagnosis."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys

from edge_runtime import __version__
from edge_runtime.commands.formatter import HelpFormatter
from edge_runtime.errors import CxrEdgeError

VERBS = (
    "screen", "watch", "pipe", "serve", "listen", "info", "verify", "doctor", "calibrate", "audit",
    "bench", "demo",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Parse, call, and turn the outcome into an exit code (see docs/contract.md)."""
    arguments_given = sys.argv[1:] if argv is None else argv
    try:
        arguments = _parser(arguments_given).parse_args(arguments_given)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except CxrEdgeError as error:
        print(f"cxr-edge: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ncxr-edge: interrupted; what was written is valid, --resume goes on from it",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except OSError as error:
        # A heatmap or report that cannot be written; inputs that cannot be read have records.
        print(f"cxr-edge: error: {error}; results already written are valid", file=sys.stderr)
        return 2


def run() -> None:
    """The command: `main`, without what a process of one verb needs not wait for.

    Importing numpy and an engine makes many objects and no garbage, so nothing is collected until
    the model is loaded (`load_screener`), and the memory of a process that has flushed and closed
    everything is left to the system: together a fifth of a cold start.
    """
    gc.disable()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cxr-edge", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"cxr-edge {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    # Only the verb that is asked for is imported: a cold start matters on a small board.
    wanted = [verb for verb in VERBS if argv[:1] == [verb]] or VERBS
    for verb in wanted:
        importlib.import_module(f"edge_runtime.commands.{verb}").add_parser(verbs)
    return parser
