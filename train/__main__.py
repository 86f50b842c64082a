"""python -m train fit|recipes: see --help of each."""

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
        help="imagenet (downloads), a weights file without the top, or none",
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

    verbs.add_parser("recipes", help="list the recipes")

    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "recipes":
            for name in recipe_names():
                print(f"{name:24} {load_recipe(name).description}")
            return 0
        from train.fit import fit as run_fit  # Keras takes seconds to import

        run_fit(
            recipe_name=arguments.recipe,
            data=arguments.data,
            weights=arguments.weights,
            output=arguments.output,
            seed=arguments.seed,
            changes=arguments.set,
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
