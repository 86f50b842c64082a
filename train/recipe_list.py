"""`python -m train recipes`."""

from __future__ import annotations

import argparse

from train.recipe import load_recipe, recipe_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> int:
    for name in recipe_names():
        print(f"{name:24} {load_recipe(name).description}")
    return 0
