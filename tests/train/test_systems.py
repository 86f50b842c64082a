"""Each of the five systems' recipes trains from end to end: drawn phantoms, small, an epoch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from train.evaluate.evaluation import run_evaluation
from train.fit.loop import fit
from train.recipe import load_recipe

RECIPES = (
    "a-efficientnetb0-frozen",
    "b-mobilenetv2-150",
    "c-mobilenetv2-recall",
    "c-plain-cnn",
    "d-mobilenetv2-softmax",
    "d-sequential-cnn",
    "e-resnet50-finetune",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_systems_recipe_trains_and_is_evaluated(name: str, tmp_path: Path) -> None:
    plan = load_recipe(name).optimisation
    small = {
        "data.source": "phantoms",
        "data.phantom_count": 32,
        "data.validation_fraction": 0.4,
        "input.height": 64,
        "input.width": 64,
        "optimisation.batch_size": 8,
        "optimisation.head_epochs": min(1, plan.head_epochs),
        "optimisation.epochs": min(1, plan.epochs),
    }
    fit(name, (), "none", tmp_path, changes=[f"{key}={value}" for key, value in small.items()])
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"]["network"] == json.loads(
        json.dumps(dataclasses.asdict(load_recipe(name).network))
    )
    assert run["outcome"]["epochs"] == min(1, plan.head_epochs) + min(1, plan.epochs)
    evaluation = run_evaluation(tmp_path, [], "validation")
    assert 0 <= evaluation.auc.value <= 1
    assert (tmp_path / "evaluation-validation" / "index.html").stat().st_size > 10_000
