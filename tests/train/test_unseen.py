"""Trained without a group of sources, judged on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.statistics.estimates import Estimate
from tests.conftest import workbench
from train.evaluate.elsewhere import Comparison
from train.recipe import load_recipe
from train.unseen import changes_for, mean_auc, parse_groups

SOURCES = {"chest_xray", "nih", "rsna", "rsna-lungs", "pakistan"}


def test_groups_are_sources_unless_told() -> None:
    assert parse_groups([], {"b", "a"}) == {"a": ("a",), "b": ("b",)}
    told = parse_groups(["us=nih, rsna", "children=chest_xray"], SOURCES)
    assert told == {"us": ("nih", "rsna"), "children": ("chest_xray",)}


@pytest.mark.parametrize("text", ["nih", "=nih", "us=", "../us=nih", "us=nih,mars"])
def test_a_group_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="--group"):
        parse_groups([text], SOURCES)


def test_batches_keep_their_size_without_a_group() -> None:
    recipe = load_recipe("hospitals")
    size = sum(share.images for share in recipe.data.mix)
    for group in (("nih", "rsna", "rsna-lungs"), ("chest_xray",), ("pakistan", "tb-mixed")):
        changed = load_recipe("hospitals", changes_for(recipe, group))
        assert set(changed.data.held_out) == {*recipe.data.held_out, *group}
        left = {source for share in changed.data.mix for source in share.sources}
        assert left and not left & set(group)
        assert sum(share.images for share in changed.data.mix) == size
        assert all(share.images > 0 for share in changed.data.mix)
    everything = [s for share in recipe.data.mix for s in share.sources]
    with pytest.raises(InvalidValueError, match="nothing to learn from"):
        changes_for(recipe, everything)


def compared(source: str, view: str, value: float, adjusted: float | None) -> Comparison:
    estimates = [Estimate(v, 0, 1) if v is not None else None for v in (value, adjusted)]
    assert estimates[0] is not None
    return Comparison(source, view, "opacity", "normal", 50, 50, estimates[0], None, estimates[1])


def test_the_mean_is_of_sources_and_by_view_where_known() -> None:
    found = [
        compared("nih", "", 0.99, 0.99),  # passed over: the views tell
        compared("nih", "AP", 0.9, 0.6),
        compared("nih", "PA", 0.9, 0.8),
        compared("pakistan", "", 0.9, None),
    ]
    assert mean_auc(found) == pytest.approx((0.7 + 0.9) / 2)
    with pytest.raises(InvalidValueError, match="too few"):
        mean_auc([])


def test_a_recipe_without_each_source_in_turn(tmp_path: Path) -> None:
    rows = ["path,finding,patient,source"]
    for i in range(160):
        sick = i % 2 == 1
        (tmp_path / f"{i}.jpeg").write_bytes(phantom_jpeg(i, sick, 90, 100))
        source = ("here", "there")[i // 80]
        rows.append(f"{i}.jpeg,{'pneumonia' if sick else 'normal'},p{i},{source}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    recipe = tmp_path / "folder.toml"
    recipe.write_text('base = "smoke"\nname = "folder"\n[data]\nsource = "folder"\n')
    command = (
        "train", "unseen", recipe, "--data", tmp_path / "films.csv", "--weights", "none",
        "--set", "optimisation.epochs=1", "--threads", 1, "--output",
    )  # fmt: skip
    done = workbench(*command, tmp_path / "out", "--ray", "--at-once", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    # Two at once, each in a process of its own, are the runs that they are one after the other.
    alone = workbench(*command, tmp_path / "alone", "--group", "here=here")
    assert alone.returncode == 0, alone.stderr[-2000:]
    for name in ("validation.csv", "validation-corrupted.csv", "splits.json"):
        files = [tmp_path / folder / "here" / name for folder in ("out", "alone")]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    states = [np.load(tmp_path / folder / "here" / "state.npz") for folder in ("out", "alone")]
    assert len(states[0].files) > 50 and states[0].files == states[1].files
    for name in states[0].files:
        one, other = (state[name] for state in states)
        assert one.tobytes() == other.tobytes(), f"bit for bit: {name}"
    unseen = json.loads((tmp_path / "out" / "unseen.json").read_text())
    assert [g["name"] for g in unseen["groups"]] == ["here", "there"]
    for group in unseen["groups"]:
        splits = json.loads((tmp_path / "out" / group["name"] / "splits.json").read_text())
        learned = {int(Path(s["path"]).stem) // 80 for p in splits.values() for s in p}
        assert learned == {("there", "here").index(group["name"])}
        assert [c["source"] for c in group["found"]["comparisons"]] == [group["name"]]
        assert 0 <= group["mean_auc"] <= 1
    assert "## Without there" in done.stdout
    # Rules for a threshold, judged where each run learned nothing.
    runs = [tmp_path / "out" / name for name in ("here", "there")]
    told = workbench(
        *("train", "thresholds", *runs, "--data", tmp_path / "films.csv"),
        *("--output", tmp_path / "rules"),
    )
    assert told.returncode == 0, told.stderr[-2000:]
    found = json.loads((tmp_path / "rules" / "thresholds.json").read_text())
    rules = list(dict.fromkeys(row["rule"] for row in found["rows"]))
    assert {"lowest", "middle", "highest"} < set(rules) == set(found["gains"])
    for source in ("here", "there"):
        of_source = {row["rule"]: row for row in found["rows"] if row["source"] == source}
        assert list(of_source) == rules
        assert of_source["lowest"]["logit"] <= of_source["middle"]["logit"]
        assert of_source["middle"]["logit"] <= of_source["highest"]["logit"]
        assert (
            of_source["lowest"]["sensitivity"]["value"]
            >= (of_source["highest"]["sensitivity"]["value"])
        )
        assert of_source[rules[0]]["gain"]["value"] == 0
        assert all((row["positives"], row["normals"]) == (40, 40) for row in of_source.values())
    # A patient of a source that was held out, whom training knows by other films, is left out.
    taught = json.loads((runs[0] / "splits.json").read_text())["train"][0]["patient"]
    assert rows[1].startswith("0.jpeg,normal,p0,here")
    rows[1] = f"0.jpeg,normal,{taught.rpartition('/')[2]},here"
    (tmp_path / "films.csv").write_text("\n".join(rows))
    again = workbench(
        *("train", "thresholds", runs[0], "--data", tmp_path / "films.csv"),
        *("--output", tmp_path / "again"),
    )
    assert again.returncode == 0, again.stderr[-2000:]
    left = json.loads((tmp_path / "again" / "thresholds.json").read_text())["rows"]
    assert {(row["positives"], row["normals"]) for row in left} == {(40, 39)}
