"""What every verb that trains takes, and a training by it; Keras only when it begins."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from train.data.table import add_data_sets, add_fields
from train.fit.track import TOOLS


def add_mixture_arguments(parser: argparse.ArgumentParser) -> None:
    """What decides what is learned from: films, their lungs, changes of the recipe."""
    add_data_sets(parser)
    add_fields(
        parser, "where the lungs are, for recipes that graft them; may be given several times"
    )
    add_fields(
        parser,
        "each lung's own field, for recipes that teach the map where evidence may lie",
        "--sides",
    )
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe: optimisation.epochs=3",
    )
    parser.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="what in a film's path names the patient (its first group), where no column says it",
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """What every verb that trains takes, the recipe apart."""
    add_mixture_arguments(parser)
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloads), a weights file without the top, a finished run (of which a "
        "narrower recipe takes the most telling channels), or none",
    )
    parser.add_argument("--output", type=Path, required=True, help="run folder")
    parser.add_argument(
        "--mixed-precision",
        nargs="?",
        const="float16",
        default="",
        choices=("float16", "bfloat16"),
        help="arithmetic in float16 (the default, for GPUs) or bfloat16 (newer GPUs, and "
        "processors with AVX-512 BF16 or AMX), weights in float32",
    )
    parser.add_argument(
        "--distribute", action="store_true", help="share each batch between all GPUs"
    )
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        choices=TOOLS,
        help="copy the history to tensorboard (RUN/tensorboard) or mlflow (mlruns/ beside RUN); "
        "may be given several times",
    )
    parser.add_argument(
        "--batches",
        type=Path,
        metavar="DIR",
        help="train on what `render` puts there; several trainings can, on one GPU or on several",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="keep the prepared images on the disk, for data that do not fit in memory",
    )


def told_changes(arguments: argparse.Namespace) -> list[str]:
    """Of the recipe, by --set and --patient-pattern."""
    pattern = arguments.patient_pattern
    told = [] if pattern is None else [f"data.patient_pattern={json.dumps(pattern)}"]
    return [*arguments.set, *told]


def fit_from(
    arguments: argparse.Namespace, output: Path, further_changes: Sequence[str] = ()
) -> None:
    """Train as the arguments say, into a folder; further changes come after theirs."""
    from train.fit.hardware import Hardware
    from train.fit.loop import fit

    fit(
        recipe_name=arguments.recipe,
        data=arguments.data,
        fields=arguments.fields,
        sides=arguments.sides,
        weights=arguments.weights,
        output=output,
        seed=arguments.seed,
        changes=[*told_changes(arguments), *further_changes],
        hardware=Hardware(
            mixed_precision=arguments.mixed_precision,
            distribute=arguments.distribute,
            stream=arguments.stream,
        ),
        track=arguments.track,
        batches=arguments.batches,
    )
