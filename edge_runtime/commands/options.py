"""Options that several verbs share."""

from __future__ import annotations

import argparse
import gc

from edge_runtime.engines import ENGINE_NAMES
from edge_runtime.screener import Screener


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="DIR", help="model bundle; default: the built-in one")
    parser.add_argument(
        "--engine",
        choices=("auto", *ENGINE_NAMES),
        default="auto",
        help="auto takes what is installed and says which (default)",
    )
    parser.add_argument(
        "--threads", type=positive_int, metavar="N", help="processors to use; default: all, up to 4"
    )


def add_decision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--operating-point", metavar="NAME", help="one of the bundle's, see `cxr-edge info`"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="probability instead of an operating point"
    )


def add_force_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="screen what the quality gate refuses too; its record still says so",
    )


def load_screener(arguments: argparse.Namespace, parallel: int = 1) -> Screener:
    """A screener from the options of a verb."""
    screener = Screener.load(
        arguments.bundle,
        engine=arguments.engine,
        threads=1 if parallel > 1 else arguments.threads,
        parallel=parallel,
        operating_point=getattr(arguments, "operating_point", None),
        threshold=getattr(arguments, "threshold", None),
        force=getattr(arguments, "force", False),
    )
    # From here on there is garbage (see `cli.run`); what was loaded is none of it.
    gc.freeze()
    gc.enable()
    return screener


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
