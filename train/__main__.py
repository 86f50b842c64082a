"""python -m train fit|evaluate|audit|recipes: see --help of each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import CxrEdgeError
from train.recipe import load_recipe, recipe_names


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    fit = verbs.add_parser(
        "fit",
        help="train a recipe into a run folder; the same command again resumes it",
        epilog="example: python -m train fit --recipe default --data chest_xray "
        "--weights imagenet --output runs/default",
    )
    fit.add_argument("--recipe", required=True, help="a name from `recipes`, or a .toml file")
    fit.add_argument("--data", type=Path, help="folder with train/, val/ and test/")
    fit.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloads), a weights file without the top, a finished run (of which a "
        "narrower recipe takes the most telling channels), or none",
    )
    fit.add_argument("--output", type=Path, required=True, help="run folder")
    fit.add_argument("--seed", type=int, help="instead of the recipe's")
    fit.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe: optimisation.epochs=3",
    )

    fit.add_argument(
        "--mixed-precision",
        action="store_true",
        help="float16 arithmetic with float32 weights, for GPUs that are fast at it",
    )
    fit.add_argument("--distribute", action="store_true", help="share each batch between all GPUs")
    fit.add_argument(
        "--stream",
        action="store_true",
        help="keep the prepared images on the disk, for data that do not fit in memory",
    )

    evaluate = verbs.add_parser(
        "evaluate",
        help="all figures of a finished run, with intervals, plots and a page",
        description="Temperature and operating points come from the run's validation patients. "
        "Scores are kept beside the report; a second call redraws from them.",
        epilog="example: python -m train evaluate runs/default --data chest_xray",
    )
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument("--data", type=Path, help="the data folder")
    evaluate.add_argument(
        "--part",
        default="test",
        choices=("validation", "test", "external"),
        help="external: --data has PNEUMONIA/ and NO_FINDING/ of another hospital",
    )
    evaluate.add_argument("--output", type=Path, help="by default RUN/evaluation-PART")

    audit = verbs.add_parser(
        "audit",
        help="what a data folder holds, and what separates its classes without being disease",
        epilog="example: python -m train audit --data chest_xray --output build/audit",
    )
    audit.add_argument("--data", type=Path, required=True, help="folder with train/, val/, test/")
    audit.add_argument("--output", type=Path, required=True, help="folder for the report")

    verbs.add_parser("recipes", help="list the recipes")

    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "recipes":
            for name in recipe_names():
                print(f"{name:24} {load_recipe(name).description}")
            return 0
        if arguments.verb == "evaluate":
            from train.evaluate import run_evaluation

            run_evaluation(arguments.run, arguments.data, arguments.part, arguments.output)
            return 0
        if arguments.verb == "audit":
            from train.audit import run_audit

            run_audit(arguments.data, arguments.output)
            return 0
        from train.fit import fit as run_fit  # Keras takes seconds to import
        from train.hardware import Hardware

        run_fit(
            recipe_name=arguments.recipe,
            data=arguments.data,
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
        return 0
    except CxrEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
