"""Figures in documents are those of the results, and none stands outside of its marks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.pages.documents import compare, documents, figure, fill, without_marks
from edge_runtime.errors import InvalidValueError
from tests.conftest import ROOT

RESULTS = ROOT / "docs" / "results"
# What looks like a measured figure: three or more digits behind the point.
FIGURE = re.compile(r"(?<![\w.])[01]?\.\d{3,}(?!\d*\.)")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    points = [
        {"bundle": "small", "precision": "int8", "auc": {"value": 0.97, "low": 0.96, "high": 0.98}},
        {"bundle": "tiny", "precision": "int8", "auc": {"value": 0.9, "low": 0.8, "high": 1.0}},
    ]
    document = {"ratio": 1.2345, "size": 2_724_824, "points": points}
    (tmp_path / "a" / "a.json").write_text(json.dumps(document))
    (tmp_path / "a" / "a.md").write_text(
        "text\n\n| model | x |\n|---|---|\n| one | 1 |\n| two | 2 |\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a/a.json ratio .2f", "1.23"),
        ("a/a.json size MB", "2.72 MB"),
        ("a/a.json points[bundle=tiny,precision=int8].auc .1f", "0.9 (0.8 to 1.0)"),
        ("a/a.json points[bundle=small].auc", "0.9700 (0.9600 to 0.9800)"),
        (r"a/a.md /^\| (model|---|two)|^\|---/", "\n| model | x |\n|---|---|\n| two | 2 |\n"),
    ],
)
def test_a_source_gives_its_figure(results: Path, source: str, expected: str) -> None:
    assert figure(source, results) == expected
    text = f"before <!--= {source} -->old<!--/--> after"
    filled = fill(text, results)
    assert filled == f"before <!--= {source} -->{expected}<!--/--> after"
    assert len(list(compare(text, results))) == 1
    assert list(compare(filled, results)) == []


@pytest.mark.parametrize(
    "source",
    ["a/a.json nothing", "a/a.json points[precision=int8].auc", "a/b.json ratio", "a/a.md /three/",
     "seeds default nothing", "ratio"],
)  # fmt: skip
def test_a_source_that_names_nothing_is_an_error(results: Path, source: str) -> None:
    with pytest.raises(InvalidValueError):
        figure(source, results)


def test_documents_say_what_the_results_hold() -> None:
    found = [(p.name, line) for p in documents() for line in compare(p.read_text("utf-8"), RESULTS)]
    assert len(documents()) > 5
    assert found == []


def test_no_figure_of_the_readme_stands_outside_of_marks() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(FIGURE.findall(readme)) > 30
    code = re.compile(r"^(    [^\n]*|```.*?^```)$", re.MULTILINE | re.DOTALL)  # output, examples
    assert FIGURE.findall(code.sub("", without_marks(readme))) == []
