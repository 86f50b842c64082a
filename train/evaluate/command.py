"""`python -m train evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from train.data.table import add_data_sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Temperature and operating points come from the run's validation patients. "
        "Scores are kept beside the report; a second call redraws from them."
    )
    parser.epilog = "example: python -m train evaluate runs/default --data chest_xray --part test"
    parser.add_argument("run_folder", metavar="run", type=Path, help="run folder")
    add_data_sets(parser)
    parser.add_argument(
        "--part",
        default="validation",
        choices=("validation", "test", "external"),
        help="default: validation, as often as you like. test: read it once per finished recipe; "
        "each reading stands in the run (readings.json). external: --data is another hospital's, a "
        "table or a folder with PNEUMONIA/ and NO_FINDING/",
    )
    parser.add_argument("--output", type=Path, help="by default RUN/evaluation-PART")


def run(arguments: argparse.Namespace) -> int:
    from train.evaluate.evaluation import run_evaluation

    run_evaluation(arguments.run_folder, arguments.data, arguments.part, arguments.output)
    return 0
