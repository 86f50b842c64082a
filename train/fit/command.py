"""`python -m train fit`; Keras, which takes seconds to import, only when it is run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.commands.options import whole
from edge_runtime.errors import InvalidValueError
from train.fit.many import add_many_arguments, fit_many
from train.fit.training import add_training_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m train fit --recipe default --data chest_xray "
        "--weights imagenet --output runs/default"
    )
    parser.add_argument("--recipe", required=True, help="a name from `recipes`, or a .toml file")
    parser.add_argument(
        "--folds",
        type=whole(2, 100),
        metavar="N",
        help="cross-validation: train OUTPUT/fold-1 to fold-N, each without a part of the patients",
    )
    parser.add_argument(
        "--seeds", metavar="N,N,…", help="train OUTPUT/seed-N for each of these seeds"
    )
    add_training_arguments(parser)
    add_many_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.folds and arguments.seeds:
        raise InvalidValueError("--folds and --seeds exclude each other")
    try:
        if arguments.folds:
            from train.fit.folds import fit_folds

            fit_folds(arguments.output, arguments.folds, lambda jobs: fit_many(arguments, jobs))
        else:
            fit_many(arguments, _jobs(arguments))
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


def _jobs(arguments: argparse.Namespace) -> list[tuple[Path, tuple[str, ...]]]:
    if not arguments.seeds:
        return [(arguments.output, ())]
    try:
        seeds = [int(text) for text in arguments.seeds.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds) or arguments.seed is not None:
        raise InvalidValueError(
            f"--seeds takes whole numbers, each once, without --seed; got {arguments.seeds!r}"
        )
    return [(arguments.output / f"seed-{seed}", (f"seed={seed}",)) for seed in seeds]
