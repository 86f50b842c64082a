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


def test_the_five_systems_are_here_by_name() -> None:
    """What each system was, as far as it is stated: backbone, input side, output units."""
    expected = {
        "a-efficientnetb0-frozen": ("efficientnetb0", 224, 1),
        "b-mobilenetv2-150": ("mobilenetv2", 150, 1),
        "c-mobilenetv2-recall": ("mobilenetv2", 224, 1),
        "c-plain-cnn": ("sequential-cnn", 150, 1),
        "d-sequential-cnn": ("sequential-cnn", 150, 2),
        "d-mobilenetv2-softmax": ("mobilenetv2", 150, 2),
        "e-resnet50-finetune": ("resnet50", 224, 1),
    }
    for name, (backbone, side, units) in expected.items():
        recipe = load_recipe(name)
        assert (recipe.network.backbone, recipe.input.height, recipe.network.units) == (
            backbone, side, units,
        )  # fmt: skip


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


def test_settings_are_changed_from_the_command_line() -> None:
    changes = ["optimisation.epochs=3", "augmentation.zoom=[0.5, 2.0]", "data.holdout=_virus_"]
    recipe = load_recipe("default", changes)
    assert recipe.optimisation.epochs == 3
    assert recipe.augmentation.zoom == (0.5, 2.0)
    assert recipe.data.holdout == "_virus_"
    assert recipe.network == load_recipe("default").network


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimisation.epoch=3", "epoch"),
        ("optimisation.epochs=many", "'many'"),
        ("optimisation.epochs", "KEY=VALUE"),
        ("name.epochs=3", "no table"),
    ],
)
def test_a_wrong_change_is_refused(change: str, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        load_recipe("default", [change])


def test_a_recipe_builds_on_another() -> None:
    base, recipe = load_recipe("default"), load_recipe("three-class")
    assert recipe.network.labels == ("normal", "bacterial", "viral") and recipe.network.units == 3
    assert recipe.network.dropout == base.network.dropout
    assert (recipe.augmentation, recipe.input) == (base.augmentation, base.input)


def test_a_recipe_on_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(f'base = "{file}"\n' + MINIMAL, encoding="utf-8")
    with pytest.raises(InvalidValueError, match="at most one more"):
        load_recipe(str(file))


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidValueError, match="default"):
        load_recipe("nonesuch")
