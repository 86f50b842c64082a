"""`python -m train audit`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m train audit --data chest_xray --output build/audit"
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, val/, test/")
    parser.add_argument("--output", type=Path, required=True, help="folder for the report")


def run(arguments: argparse.Namespace) -> int:
    from train.audit.findings import run_audit

    run_audit(arguments.data, arguments.output)
    return 0
