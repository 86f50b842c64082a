"""Figures by population and source: counts that follow by hand, and what is left out."""

from __future__ import annotations

import numpy as np

from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.quality import Quality
from edge_runtime.statistics.estimates import Estimate
from export.populations import Described, measure_populations
from train.data.dataset import Sample
from train.data.source import Source
from train.data.table import Film
from train.recipe import load_recipe

HALF = Estimate(0.5, 0.4, 0.6)
POINTS = (
    OperatingPoint("balanced", 0.5, "", "validation", HALF, HALF),
    OperatingPoint("triage", 0.5, "", "validation", HALF, HALF, (0.2, 0.8)),
)


def test_every_source_has_a_row_and_an_auc_only_with_both_classes() -> None:
    films = [Described(i % 2 == 1, "mixed", False, "AP") for i in range(240)]
    films += [Described(False, "healthy", False, "") for _ in range(30)]
    films += [Described(i < 12, "kids", True, "") for i in range(24)]
    positive = np.array([f.positive for f in films])
    exact = np.where(positive, 2.0, -2.0) + np.linspace(-3, 3, len(films))
    verdicts = [Quality(i % 10 != 0, ("x",) if i % 5 == 0 else ()) for i in range(len(films))]
    rows = measure_populations(films, exact, {"int8 a": exact, "int8 b": -exact}, 1.0, POINTS,
                               verdicts)  # fmt: skip
    by_name = {row.name: row for row in rows}
    assert list(by_name) == [
        "children", "adults, AP", "adults, view not stated", "source healthy", "source kids",
        "source mixed",
    ]  # fmt: skip
    mixed, healthy, kids = (by_name[f"source {n}"] for n in ("mixed", "healthy", "kids"))
    assert (mixed.normal, mixed.pneumonia) == (120, 120) and mixed.auc is not None
    assert mixed.differences["int8 a"].difference == 0
    assert mixed.differences["int8 b"].difference < -0.5
    assert healthy.auc is None and healthy.points[0].sensitivity is None
    assert healthy.points[0].specificity is not None
    assert kids.auc is not None and kids.differences == {}  # too few for a difference
    assert [p.name for p in mixed.points] == ["balanced"]
    here = exact[:240] >= 0
    assert mixed.points[0].sensitivity is not None
    assert mixed.points[0].sensitivity.value == here[positive[:240]].mean()
    assert (mixed.refused, mixed.flagged) == (24, 24)


def test_whom_a_film_shows_follows_from_its_age_or_its_source() -> None:
    recipe = load_recipe("hospitals")
    films = {
        name: Film(Sample(name, "normal", name), source, view="PA", age=age)
        for name, source, age in (
            ("a", "chest_xray", None), ("b", "nih", 60.0), ("c", "nih", 7.0), ("d", "rsna", None),
        )
    }  # fmt: skip
    source = Source(None, films)
    told = {name: Described.of(film.sample, source, recipe) for name, film in films.items()}
    assert {n: d.child for n, d in told.items()} == {"a": True, "b": False, "c": True, "d": False}
    assert told["b"] == Described(False, "nih", False, "PA")
    unknown = Described.of(Sample("x", "viral", "x"), source, recipe)
    assert unknown == Described(True, "", False, "")
