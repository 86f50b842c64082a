"""`python -m train fit`; Keras, which takes seconds to import, only when it is run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m train fit --recipe default --data chest_xray "
        "--weights imagenet --output runs/default"
    )
    parser.add_argument("--recipe", required=True, help="a name from `recipes`, or a .toml file")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DATA",
        help="folder with train/, val/ and test/, or a CSV file (path, finding, patient, source, "
        "…); may be given several times",
    )
    parser.add_argument(
        "--fields",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.npz",
        help="where the lungs are, for recipes that graft them; may be given several times",
    )
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloads), a weights file without the top, a finished run (of which a "
        "narrower recipe takes the most telling channels), or none",
    )
    parser.add_argument("--output", type=Path, required=True, help="run folder")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe: optimisation.epochs=3",
    )
    parser.add_argument(
        "--mixed-precision",
        action="store_true",
        help="float16 arithmetic with float32 weights, for GPUs that are fast at it",
    )
    parser.add_argument(
        "--distribute", action="store_true", help="share each batch between all GPUs"
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="keep the prepared images on the disk, for data that do not fit in memory",
    )


def run(arguments: argparse.Namespace) -> int:
    from train.fit.hardware import Hardware
    from train.fit.loop import fit

    try:
        fit(
            recipe_name=arguments.recipe,
            data=arguments.data,
            fields=arguments.fields,
            weights=arguments.weights,
            output=arguments.output,
            seed=arguments.seed,
            changes=arguments.set,
            hardware=Hardware(
                mixed_precision=arguments.mixed_precision,
                distribute=arguments.distribute,
                stream=arguments.stream,
            ),
        )
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0
