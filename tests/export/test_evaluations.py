"""What a card says of films that were held out has to be of these films."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edge_runtime.errors import InvalidValueError
from export.build import read_evaluations
from train.run.finished import open_run


def test_an_evaluation_of_other_films_than_those_held_out_is_refused(
    smoke_run: Path, tmp_path: Path
) -> None:
    run = dataclasses.replace(open_run(smoke_run), folder=tmp_path)
    held_out = dataclasses.replace(run.recipe.data, held_out=("clinic", "ward"))
    run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, data=held_out))
    assert read_evaluations(run) == {}
    file = tmp_path / "evaluation-external" / "evaluation.json"
    file.parent.mkdir()
    document = {"images": {"normal": 3}, "auc": {"value": 0.5}, "points": []}
    # Written before sources were noted, and of a source that is held out.
    for sources in ({}, {"sources": ["ward"]}):
        file.write_text(json.dumps(document | sources), encoding="utf-8")
        assert read_evaluations(run)["external"]["images"] == {"normal": 3}
    file.write_text(json.dumps(document | {"sources": ["ward", "abroad"]}), encoding="utf-8")
    with pytest.raises(InvalidValueError, match=r"of films of abroad, .* holds out clinic, ward"):
        read_evaluations(run)
    # Where the recipe holds nothing out, any other hospital will do.
    own = dataclasses.replace(run.recipe.data, held_out=())
    run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, data=own))
    assert "external" in read_evaluations(run)
