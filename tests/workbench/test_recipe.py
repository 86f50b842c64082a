"""Recipes are data: every one loads, and a misspelt key is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import InvalidValueError
from train.recipe import load_recipe, recipe_names

MINIMAL = 'name = "x"\ndescription = "y"\n'


def test_every_recipe_loads() -> None:
    assert {"default", "smoke"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + "epochs = 3", "epochs"),
        (MINIMAL + "[optimisation]\nlearning_rat = 1", "learning_rat"),
        (MINIMAL + "[optimisation]\nepochs = true", "epochs: expected int"),
        (MINIMAL + '[optimisation]\nepochs = "3"', "'3'"),
        (MINIMAL + "[augmentation]\nzoom = [1.0]", "zoom: expected 2 items"),
        (MINIMAL + "[input]\nheight = 8\nwidth = 8", "32 to 1024"),
        ('name = "x"', "description"),
        ("name = ", "recipe.toml"),
    ],
)
def test_a_wrong_recipe_is_refused_by_key_and_value(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=said):
        load_recipe(str(file))


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidValueError, match="default"):
        load_recipe("nonesuch")
