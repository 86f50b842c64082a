"""Arguments that several benchmarks take."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.bundle.shipped import DEFAULT_BUNDLE, SHIPPED, bundle_folder
from edge_runtime.engines.names import ENGINE_NAMES


def bundle_path(text: str) -> Path:
    """The folder of a bundle that is named or given."""
    return Path(bundle_folder(text))


def add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        type=bundle_path,
        default=Path(DEFAULT_BUNDLE),
        metavar="BUNDLE",
        help=f"a folder, or {', '.join(SHIPPED)}",
    )


def add_bundles(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    parser.add_argument(
        "--float", type=Path, required=True, dest="reference", help="the float bundle"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=ENGINE_NAMES, default="litert")


def add_data(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--data", type=Path, required=True, help=what)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")


def add_repetitions(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument("--repetitions", type=int, default=default, metavar="N")


def add_report_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--html", type=Path, default=Path("build/benchmarks.html"))
