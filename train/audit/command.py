"""`python -m train audit`."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.data.table import add_data_sets, add_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: python -m train audit --data chest_xray --output build/audit"
    add_data_sets(parser, required=True)
    add_fields(
        parser, "where the lungs are: the page then shows cut lungs grafted into whole films"
    )
    parser.add_argument(
        "--run", dest="runs", type=Path, action="append", default=[], metavar="RUN",
        help="a finished run: what do its features tell of normal films beside disease? "
        "May be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", metavar="NAME",
        help="a name from `recipes`, or a .toml file: what its data.findings calls normal is, and "
        "its data.patient_pattern names patients",
    )  # fmt: skip
    parser.add_argument(
        "--patient-pattern", metavar="REGEX", default="",
        help="what in a film's path names the patient (its first group), where no column says it",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="folder for the report")


def run(arguments: argparse.Namespace) -> int:
    from train.audit.findings import run_audit
    from train.data.fields import Fields
    from train.recipe import load_recipe

    recipe = load_recipe(arguments.recipe) if arguments.recipe else None
    run_audit(
        arguments.data,
        arguments.output,
        Fields(arguments.fields),
        arguments.runs,
        arguments.patient_pattern or (recipe.data.patient_pattern if recipe else ""),
        recipe.data.findings if recipe else {},
    )
    return 0
