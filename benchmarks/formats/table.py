"""Every form of the shipped models that can be verified here, in one table, and every program.

Two tables. Of the engines' files: size, load, one tensor on one thread, memory, AUC against float
and equal decisions, all on the same tensors, each in a process of its own. Of programs: `cxr-edge`,
screen.c and the browser's page on the same films from the file on; their answers stand film by film
in answers.csv.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_data
from benchmarks.formats.programs import Answered, NotHereError, by_c, by_runtime, in_browser
from benchmarks.labelled import Labelled, read_labelled
from benchmarks.results import median_ratio, write_results
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import BundledFile
from edge_runtime.bundle.shipped import SHIPPED, bundle_folder
from edge_runtime.device.machine import describe_machine
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.images.preprocess import prepare
from edge_runtime.statistics.estimates import Estimate, PairedDifference
from edge_runtime.statistics.metrics import auc_difference, auc_interval
from edge_runtime.statistics.odds import probabilities

_ENGINES = {"tflite": ("LiteRT",), "onnx": ("ONNX Runtime", "OpenVINO")}
_FLOAT_ONLY = ("ncnn",)
_DIGITS = 1e-6  # in which probabilities of the same engine may differ


@dataclasses.dataclass(frozen=True)
class FormRow:
    """One file in one engine; `note` says why there are no figures, where there are none."""

    bundle: str
    precision: str
    form: str  # tflite | onnx
    engine: str
    size_mb: float
    load_s: float | None = None  # from the engine's import to the first answer
    p50_ms: float | None = None
    p99_ms: float | None = None
    peak_mb: float | None = None
    auc: Estimate | None = None
    difference: PairedDifference | None = None  # to the float .tflite
    equal_decisions: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ProgramRow:
    """One program on whole films."""

    program: str
    bundle: str
    megabytes: float | None = None
    first_s: float | None = None
    ms_a_film: float | None = None  # its start included
    peak_mb: float | None = None
    equal_statuses: float | None = None  # to cxr-edge's
    equal_decisions: float | None = None
    largest_difference: float | None = None  # of probabilities
    auc_difference: PairedDifference | None = None  # of films that both judged
    note: str = ""


@dataclasses.dataclass(frozen=True)
class FormatsResult:
    films: int
    data: str
    machine: str
    forms: tuple[FormRow, ...]
    programs: tuple[ProgramRow, ...]
    # Of the page with `small`: time to its first answer by that of onnxruntime-web alone.
    first_in_browser: Estimate | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = (
        "example: python -m benchmarks formats --data chest_xray/test --output docs/results/formats"
    )
    parser.add_argument(
        "--floats",
        type=Path,
        default=Path("bundles"),
        metavar="DIR",
        help="folder with default-float and so on, as export writes them; without one its rows are "
        "left out",
    )
    parser.add_argument(
        "--runtime", type=Path, metavar="FILE.tgz", help="onnxruntime-web's npm package"
    )
    add_data(parser, "labelled folder")


def run(arguments: argparse.Namespace) -> int:
    run_formats(arguments.data, arguments.output, arguments.floats, arguments.runtime)
    return 0


def run_formats(
    data: Path, output: Path, floats: Path, runtime: Path | None = None
) -> FormatsResult:
    """Measure, write formats.json, formats.md and answers.csv.

    Args:
        data: Labelled films.
        output: Folder for the results.
        floats: Where the float bundles are.
        runtime: npm package of onnxruntime-web; without it, it is downloaded.

    Raises:
        InvalidValueError: The data cannot be read.
    """
    films = read_labelled(data)
    labels = np.array([film.positive for film in films], np.int64)
    forms: list[FormRow] = []
    for name in SHIPPED:
        forms += _forms(name, floats, films, labels)
    programs, answers, ratios = _programs([film.path for film in films], labels, runtime)
    machine = describe_machine()
    result = FormatsResult(
        len(films),
        data.name,
        f"{machine.processor or machine.system}, {machine.processors} processors",
        tuple(forms),
        tuple(programs),
        median_ratio(ratios) if ratios else None,
    )
    write_results(output, "formats", result, _markdown(result))
    _write_answers(output / "answers.csv", films, answers)
    return result


def _forms(
    name: str, floats: Path, films: Sequence[Labelled], labels: NDArray[np.int64]
) -> Iterator[FormRow]:
    own = Path(bundle_folder(name))
    manifest = load_bundle(own).manifest
    threshold = manifest.operating_point("balanced").threshold
    baseline: NDArray[np.float64] | None = None
    with tempfile.TemporaryDirectory() as place:
        tensors, found = Path(place) / "tensors.npy", Path(place) / "logits.npy"
        prepared = [
            prepare(film.path.read_bytes(), manifest.input)
            for film in tqdm(films, f"preparing, {name}", leave=False, disable=None)
        ]
        np.save(tensors, np.stack(prepared))
        files = [*_files("float32", floats / f"{name}-float"), *_files("int8", own)]
        for precision, path, file, engine in tqdm(files, name, leave=False, disable=None):
            row = FormRow(name, precision, str(file.format), engine, path.stat().st_size / 1e6)
            told = _work(engine, path, tensors, found)
            if isinstance(told, str):
                yield dataclasses.replace(row, note=told)
                continue
            raw = np.load(found)
            if (file.format, precision) == ("tflite", "int8"):
                raw = _dequantised(path, raw)
            logits = raw + file.logit_offset[0]
            baseline = logits if baseline is None else baseline
            decided = [
                probabilities(each / manifest.calibration.temperature) >= threshold
                for each in (logits, baseline)
            ]
            times = np.array(told["ms"])
            yield dataclasses.replace(
                row,
                load_s=round(float(told["load_s"]), 3),
                p50_ms=round(float(np.percentile(times, 50)), 3),
                p99_ms=round(float(np.percentile(times, 99)), 3),
                peak_mb=round(float(told["peak_mb"]), 1),
                auc=auc_interval(labels, logits),
                difference=auc_difference(labels, baseline, logits),
                equal_decisions=float((decided[0] == decided[1]).mean()),
            )


def _files(precision: str, folder: Path) -> Iterator[tuple[str, Path, BundledFile, str]]:
    """Each file of a bundle in each engine that reads it; none where there is no bundle."""
    if not folder.is_dir():
        return
    manifest = load_bundle(folder).manifest
    for form, engines in _ENGINES.items():
        file = manifest.model_file(form)
        further = _FLOAT_ONLY if (form, precision) == ("onnx", "float32") else ()
        for engine in (*engines, *further) if file is not None else ():
            assert file is not None
            yield precision, folder / file.path, file, engine


def _work(engine: str, model: Path, tensors: Path, found: Path) -> dict[str, Any] | str:
    """What the worker printed; why it could not, where it could not."""
    command = [sys.executable, "-m", "benchmarks.formats.worker", engine]
    done = subprocess.run(
        [*command, str(model), str(tensors), str(found)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return told.partition("Error: ")[2][:200] or told[:200]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _dequantised(path: Path, means: NDArray[np.float64]) -> NDArray[np.float64]:
    from export.c_array import read_facts

    facts = read_facts(path.read_bytes())
    return facts.map_scale * (means - facts.map_zero_point)


def _programs(
    films: Sequence[Path], labels: NDArray[np.int64], runtime: Path | None
) -> tuple[list[ProgramRow], dict[str, Answered], list[float]]:
    rows: list[ProgramRow] = []
    answers: dict[str, Answered] = {}
    ratios: list[float] = []
    for name in ("default", "small"):
        bundle = Path(bundle_folder(name))
        reference: Answered | None = None
        for program in ("cxr-edge", "screen.c", "browser"):
            tqdm.write(f"{program}, {name}")
            row = ProgramRow(program, name)
            try:
                if program == "cxr-edge":
                    found = by_runtime(bundle, films)
                elif program == "screen.c":
                    found = by_c(bundle, films)
                else:
                    found, starts = in_browser(bundle, films, runtime)
                    ratios = starts if name == "small" else ratios
            except (NotHereError, InvalidValueError) as error:
                rows.append(dataclasses.replace(row, note=str(error)))
                continue
            if len(found.answers) != len(films):
                raise CxrEdgeError(f"{program} gave {len(found.answers)} answers, not {len(films)}")
            reference = reference or found
            answers[f"{program}, {name}"] = found
            rows.append(_compared(row, found, reference, labels))
    return rows, answers, ratios


def _compared(
    row: ProgramRow, found: Answered, reference: Answered, labels: NDArray[np.int64]
) -> ProgramRow:
    pairs = list(zip(found.answers, reference.answers, strict=True))
    both = [
        (i, a.probability, b.probability)
        for i, (a, b) in enumerate(pairs)
        if a.probability is not None and b.probability is not None
    ]
    ours = np.array([a for _, a, _ in both])
    theirs = np.array([b for _, _, b in both])
    chosen = labels[[i for i, _, _ in both]]
    return dataclasses.replace(
        row,
        megabytes=round(found.megabytes, 2),
        first_s=round(found.first_s, 3),
        ms_a_film=round(found.seconds / len(pairs) * 1e3, 2),
        peak_mb=None if found.peak_mb is None else round(found.peak_mb, 1),
        equal_statuses=float(np.mean([a.status == b.status for a, b in pairs])),
        equal_decisions=float(np.mean([a.decision == b.decision for a, b in pairs])),
        largest_difference=float(np.abs(ours - theirs).max()),
        auc_difference=None if found is reference else auc_difference(chosen, theirs, ours),
    )


def _write_answers(path: Path, films: Sequence[Labelled], answers: dict[str, Answered]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [f"{what}: {name}" for name in answers for what in ("decision", "probability")]
        writer.writerow(["film", "positive", *names, "largest difference"])
        for i, film in enumerate(films):
            cells: list[object] = []
            by_bundle: dict[str, list[float]] = {}
            for name, found in answers.items():
                one = found.answers[i]
                cells += [one.decision or one.status, one.probability]
                if one.probability is not None:
                    by_bundle.setdefault(name.split(", ")[1], []).append(one.probability)
            spread = max((max(v) - min(v) for v in by_bundle.values()), default=0.0)
            writer.writerow([film.name, int(film.positive), *cells, f"{spread:.6f}"])


def _markdown(result: FormatsResult) -> str:
    lines = [
        f"{result.films} films of `{result.data}`, on {result.machine}. One thread; load is from "
        "the engine's import to its first answer, in a process of its own; AUC against the float "
        ".tflite, paired.",
        "",
        "| model | file | engine | MB | load, s | p50, ms | p99, ms | peak, MB | AUC (95 %) | "
        "less float (95 %) | equal decisions |",
        "|---" * 11 + "|",
    ]
    for row in result.forms:
        cells = [row.bundle, f"{row.precision} .{row.form}", row.engine, f"{row.size_mb:.2f}"]
        if row.note or row.auc is None or row.difference is None:
            lines.append("| " + " | ".join([*cells, f"not here: {row.note}", *[""] * 6]) + " |")
            continue
        cells += [str(row.load_s), str(row.p50_ms), str(row.p99_ms), str(row.peak_mb)]
        cells += [f"{row.auc:.4f}", f"{row.difference:+.4f}", f"{row.equal_decisions:.4f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Whole programs, from the file to the answer, at the default operating point. MB: program, "
        "engine and model (cxr-edge: the model alone); the browser's memory is not measured.",
        "",
        "| program | model | MB | first answer, s | ms a film | peak, MB | equal statuses | equal "
        "decisions | largest difference of probabilities | AUC less cxr-edge's (95 %) |",
        "|---" * 10 + "|",
    ]
    for one in result.programs:
        if one.note:
            cells = [one.program, one.bundle, f"not here: {one.note}", *[""] * 7]
        else:
            cells = [one.program, one.bundle]
            cells += [str(one.megabytes), str(one.first_s), str(one.ms_a_film)]
            cells += ["" if one.peak_mb is None else str(one.peak_mb)]
            cells += [f"{one.equal_statuses:.4f}", f"{one.equal_decisions:.4f}"]
            cells += [f"{one.largest_difference:.6f}"]
            cells += ["" if one.auc_difference is None else f"{one.auc_difference:+.5f}"]
        lines.append("| " + " | ".join(cells) + " |")
    if result.first_in_browser is not None:
        lines += [
            "",
            "The page with `small`, from navigation to its first answer, takes "
            f"{result.first_in_browser:.2f} times as long as onnxruntime-web alone to its first "
            "answer on one tensor (fresh pages in turn, nothing cached).",
        ]
    return "\n".join(lines) + "\n"
