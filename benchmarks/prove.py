"""Everything that is said of the shipped models, measured again from their float models.

    make prove DATA=chest_xray        or
    python -m benchmarks prove --data FOLDER_WITH_chest_xray_hospitals_AND_nih_external

needs no training and no earlier result. In order:

1. `export` from models/float/NAME: is it the shipped bundle, byte for byte, model card included?
2. accuracy, corruptions, layers and choices of the shipped bundles, and the scorecard's rows, as
   the documents' commands measure them: are they what docs/results holds, in every digit that a
   document shows?
3. README.md and docs/: do they say what docs/results holds?

Exit status 1 if an answer is no. Times are not measured: they are another machine's. Where other
versions of the converters are installed, or the processor is another one than the bundle names (or
it names none), scales of weights differ in their last digits, and so do some engines' sums. That is
said in notes, and is no failure as long as the exported bundle has the same wording and points, its
AUC is within 0.002 and its thresholds within 0.001 of the shipped ones', and no figure of step 2
moves by more than 3 films, 0.05 (a share of films), 1 dB (a layer) or 0.02 (any other).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.alike import compare_bundles, compare_figures
from benchmarks.pages.all_results import render
from benchmarks.pages.documents import compare as compare_marks
from benchmarks.pages.documents import documents
from benchmarks.pages.scorecard import read_rows, scorecard
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.errors import InvalidValueError
from train.data.table import PARTS
from train.run.finished import open_run

CHILDREN, HOSPITALS = Path("chest_xray"), Path("hospitals") / "hospitals.csv"
ROOT = Path(__file__).parents[1]
FLOAT_MODELS = ROOT / "models" / "float"
RESULTS = ROOT / "docs" / "results"
_TOLD = 40  # lines of a step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.epilog = "example: python -m benchmarks prove --data ../shared/data"
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with chest_xray/, hospitals/ and nih_external/",
    )
    parser.add_argument("--output", type=Path, default=Path("build/prove"))
    parser.add_argument(
        "--only", choices=SHIPPED, action="append", help="this model alone; may be given again"
    )


def run(arguments: argparse.Namespace) -> int:
    names = tuple(arguments.only or SHIPPED)
    answers: list[Answer] = []
    steps: list[Step] = [*map(_Bundle, names), *_measurements(names), _Documents()]
    for step in steps:
        print(f"== {step.title}", file=sys.stderr, flush=True)
        start = time.monotonic()
        found = list(step.differences(arguments.data, arguments.output))
        answers.append(Answer(step.title, found, time.monotonic() - start))
        for line in found[:_TOLD]:
            print(f"   {line}", file=sys.stderr)
        if len(found) > _TOLD:
            print(f"   and {len(found) - _TOLD} more", file=sys.stderr)
    for answer in answers:
        print(f"{answer.title:44} {answer.verdict}, {answer.seconds:.0f} s")
    return int(any(answer.failed for answer in answers))


def _learned_from(name: str, data: Path) -> tuple[object, ...]:
    """`--data` of what a run learned from: the children alone, or the other hospitals' films too.

    With several data sets the paths of a split begin with a data set's folder.
    """
    first = open_run(FLOAT_MODELS / name).splits.train[0].path.partition("/")[0]
    sets: tuple[object, ...] = ("--data", data / CHILDREN)
    return sets if first in PARTS else (*sets, "--data", data / HOSPITALS)


class Step(Protocol):
    """Something to prove."""

    @property
    def title(self) -> str: ...

    def differences(self, data: Path, output: Path) -> Iterator[str]: ...


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one step found; a difference that begins with "note: " is no failure."""

    title: str
    differences: list[str]
    seconds: float

    @property
    def failed(self) -> bool:
        return any(not line.startswith("note: ") for line in self.differences)

    @property
    def verdict(self) -> str:
        if self.failed:
            return f"DIFFERS in {len(self.differences)} places"
        return "the same figures, see notes" if self.differences else "the same"


@dataclasses.dataclass(frozen=True)
class _Bundle:
    """Is the shipped bundle what its float model gives?"""

    name: str

    @property
    def title(self) -> str:
        return f"bundle {self.name}"

    def differences(self, data: Path, output: Path) -> Iterator[str]:
        shipped = load_bundle(self.name)
        made = output / "bundles" / self.name
        manifest = shipped.manifest
        _call(
            "export", FLOAT_MODELS / self.name, *_learned_from(self.name, data), "--output", made,
            "--name", manifest.name, "--version", manifest.version,
            "--decode-oversampling", manifest.input.decode_oversampling, "--force",
        )  # fmt: skip
        yield from compare_bundles(Path(shipped.folder), made)
        # What is measured is what ships; but layers are compared with those of the float bundle,
        # whose branch for the gate was fitted here.
        again = made.with_name(f"{self.name}-again")
        shutil.rmtree(again, ignore_errors=True)
        made.rename(again)
        shutil.copytree(shipped.folder, made)


@dataclasses.dataclass(frozen=True)
class _Measurement:
    """One command of the documents, into a folder of its own, against what docs/results holds."""

    title: str
    command: tuple[object, ...]  # DATA/… and MADE/… stand for the data and the bundles
    file: str  # of the result, below the command's --output
    kept: Path  # the same in this repository
    only: tuple[str, ...] = ()  # bundles, where the file has rows of others too

    def differences(self, data: Path, output: Path) -> Iterator[str]:
        target = output / "results" / self.kept.relative_to(RESULTS).with_suffix("")
        words = [
            data / word[5:] if str(word).startswith("DATA/")
            else output / "bundles" / word[5:] if str(word).startswith("MADE/")
            else word
            for word in map(str, self.command)
        ]  # fmt: skip
        _call(*words, "--output", target, allowed=(0, 1))
        found = json.loads((target / self.file).read_text(encoding="utf-8"))
        kept = json.loads(self.kept.read_text(encoding="utf-8"))
        if self.only:
            kept["points"] = [p for p in kept["points"] if p["bundle"] in self.only]
            for document in (found, kept):  # their order is that of the times
                document["points"].sort(key=lambda p: (p["bundle"], p["precision"]))
        yield from compare_figures(kept, found, self.kept.stem)


def _measurements(names: tuple[str, ...]) -> Iterator[_Measurement]:
    at = Path("DATA")
    test, films = f"DATA/{CHILDREN}/test", f"DATA/{HOSPITALS}"
    elsewhere = ("--data", films, "--source", "nih-sample", "--finding", "opacity")
    if "default" in names:
        beside = ("--float", "MADE/default-float")
        for title, verb, films_of, where in (
            ("accuracy, test", "accuracy", ("--data", test, "--population", "children"), "test"),
            (
                "accuracy, another hospital",
                "accuracy",
                (*elsewhere, "--population", "adults"),
                "nih",
            ),
            ("corruptions, test", "robustness", ("--data", test), "robustness"),
            ("corruptions, another hospital", "robustness", elsewhere, "robustness-nih"),
            ("layers", "layers", ("--data", f"DATA/{CHILDREN}/val"), "layers"),
        ):
            bundle = "MADE/default-again" if verb == "layers" else "MADE/default"
            yield _Measurement(
                title,
                ("benchmarks", verb, "--bundle", bundle, *beside, *films_of),
                f"{verb}.json",
                RESULTS / where / f"{verb}.json",
            )
        yield _Measurement(
            "choices of the export",
            ("benchmarks", "choices", FLOAT_MODELS / "default", *_learned_from("default", at)),
            "choices.json",
            RESULTS / "choices" / "choices.json",
        )
    yield _Measurement(
        "frontier: AUC and size",
        ("benchmarks", "pareto", *(f"MADE/{name}" for name in names), "--data", test),
        "pareto.json",
        RESULTS / "pareto" / "pareto.json",
        names,
    )
    for name in names:
        recipe = open_run(FLOAT_MODELS / name).recipe
        for part, sets in (
            ("validation", _learned_from(name, at)),
            ("test", _learned_from(name, at)),
            ("external", ("--data", films if recipe.data.held_out else "DATA/nih_external")),
        ):
            yield _Measurement(
                f"scorecard, {name}, {part}",
                ("train", "evaluate", FLOAT_MODELS / name, "--part", part, *sets),
                "evaluation.json",
                RESULTS / "recipes" / f"{recipe.name}-seed{recipe.seed}" / f"{part}.json",
            )


@dataclasses.dataclass(frozen=True)
class _Documents:
    """Do the documents say what docs/results holds?"""

    title = "README.md and docs/"

    def differences(self, data: Path, output: Path) -> Iterator[str]:
        for path in documents():
            for line in compare_marks(path.read_text(encoding="utf-8"), RESULTS):
                yield f"{path.name}: {line}"
        made = {
            "results.md": scorecard(read_rows(RESULTS / "recipes")),
            "benchmarks.md": render(Path("docs/results"), ROOT / "docs" / "benchmarks.md")[0],
        }
        for page, text in made.items():
            if text != (ROOT / "docs" / page).read_text(encoding="utf-8"):
                yield f"docs/{page} is not what its command writes from docs/results"


def _call(module: object, *words: object, allowed: tuple[int, ...] = (0,)) -> None:
    command = [sys.executable, "-m", str(module), *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in allowed:
        raise InvalidValueError(f"ended with {done.returncode}: {' '.join(command)}")
