r"""Figures in documents: each stands between marks that say where it comes from.

    <!--= throughput/throughput.json ours_to_limit .2f -->0.86 (0.78 to 0.89)<!--/-->
    <!--= test/accuracy.md /^\| (model|---|int8)/ -->
    | …
    <!--/-->
    <!--= seeds default test_AUC -->0.9738 ± 0.0068<!--/-->

The first is a number (or an estimate, or a paired difference) of a JSON file below docs/results, by
its path: names joined by dots; `rows[model~int8,engine~litert].auc` where a list is searched, by
equality (=) or for what contains a word (~).
Percent formats multiply, as in Python (`.1%`). The second copies the lines of a result's table that
match. The third is the mean and spread over a recipe's evaluated seeds.

    python -m benchmarks documents            fills in
    python -m benchmarks documents --check    exit 1 where a document says something else
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.pages.scorecard import SPREADS, read_rows, spread_over_seeds
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate, PairedDifference

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/*.md")
_MARK = re.compile(r"<!--= (?P<source>.*?) -->(?P<text>.*?)<!--/-->", re.DOTALL)
_LINES = re.compile(r"(?P<file>\S+\.md) /(?P<pattern>.*)/")
_CONDITION = re.compile(r"(?P<key>\w+)(?P<how>[=~])(?P<value>.*)")
_STEP = re.compile(r"(?P<name>\w+)(\[(?P<wanted>[^\]]*)\])?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fills in the figures of README.md and docs/ from the results, between their marks."
    )
    parser.epilog = "example: python -m benchmarks documents --check"
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if they differ"
    )


def run(arguments: argparse.Namespace) -> int:
    differences = 0
    for path in documents():
        old = path.read_text(encoding="utf-8")
        new = fill(old, arguments.results)
        if new == old:
            continue
        if arguments.check:
            for difference in compare(old, arguments.results):
                differences += 1
                print(f"{path.relative_to(ROOT)}: {difference}", file=sys.stderr)
        else:
            path.write_text(new, encoding="utf-8")
            print(path.relative_to(ROOT))
    return int(differences > 0)


def documents() -> list[Path]:
    """The files that may hold marks."""
    return sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def fill(text: str, results: Path) -> str:
    """The text with every figure as the results have it.

    Raises:
        InvalidValueError: A mark names what the results do not have.
    """
    return _MARK.sub(
        lambda mark: f"<!--= {mark['source']} -->{figure(mark['source'], results)}<!--/-->", text
    )


def compare(text: str, results: Path) -> Iterator[str]:
    """What is not as the results have it, a sentence each."""
    for mark in _MARK.finditer(text):
        expected = figure(mark["source"], results)
        if mark["text"] != expected:
            yield f"{mark['source']}: says {mark['text']!r}, the results {expected!r}"


def without_marks(text: str) -> str:
    """The text less every marked figure."""
    return _MARK.sub("", text)


def figure(source: str, results: Path) -> str:
    """What belongs between the marks.

    Raises:
        InvalidValueError: The source is not of one of the three forms, or names nothing.
    """
    if lines := _LINES.fullmatch(source):
        found = [
            line
            for line in _read(results / lines["file"]).splitlines()
            if re.search(lines["pattern"], line)
        ]
        if not found:
            raise InvalidValueError(f"{source}: no such lines")
        return "\n" + "\n".join(found) + "\n"
    words = source.split()
    if words[0] == "seeds" and len(words) == 3 and words[2] in SPREADS:
        rows = [row for row in read_rows(results / "recipes") if row.test.recipe == words[1]]
        if len(rows) < 2:
            raise InvalidValueError(f"{source}: fewer than two seeds of {words[1]}")
        return spread_over_seeds(rows, words[2])
    if len(words) not in (2, 3) or not words[0].endswith(".json"):
        raise InvalidValueError(f"a mark says {source!r}: FILE.json PATH [FORMAT], or see --help")
    value = _at(json.loads(_read(results / words[0])), words[1], source)
    return _formatted(value, words[2] if len(words) == 3 else "")


@cache
def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidValueError(f"{path}: {error.strerror}") from error


def _at(document: Any, path: str, source: str) -> Any:
    for step in re.findall(r"\w+(?:\[[^\]]*\])?", path):
        parts = _STEP.fullmatch(step)
        try:
            assert parts is not None
            document = document[parts["name"]]
            if parts["wanted"] is not None:
                conditions = [_CONDITION.fullmatch(c) for c in parts["wanted"].split(",")]
                (document,) = (i for i in document if all(_meets(i, c) for c in conditions))
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise InvalidValueError(f"{source}: nothing, or not one thing, at {step!r}") from error
    return document


def _meets(item: Any, condition: re.Match[str] | None) -> bool:
    assert condition is not None
    value, wanted = str(item[condition["key"]]), condition["value"]
    return wanted in value if condition["how"] == "~" else wanted == value


def _formatted(value: Any, spec: str) -> str:
    if isinstance(value, dict) and "p_value" in value:
        return format(PairedDifference(**value), spec)
    if isinstance(value, dict) and {"value", "low", "high"} <= set(value):
        return format(Estimate(value["value"], value["low"], value["high"]), spec)
    if isinstance(value, (int, float)) and spec == "MB":
        return f"{value / 1e6:.2f} MB"
    return format(value, spec)
