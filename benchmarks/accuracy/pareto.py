"""The frontier: AUC against latency and size, over width, resolution and precision; one plot."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_data
from benchmarks.labelled import read_labelled
from benchmarks.results import write_results
from edge_runtime.images.file import read_file
from edge_runtime.images.preprocess import prepare
from edge_runtime.judge.scores import disease_logit
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval

_ROUNDS = 15
_IMAGES = 20


@dataclasses.dataclass(frozen=True)
class Point:
    """One .tflite file on LiteRT, one thread."""

    bundle: str
    width: float
    resolution: int
    precision: str
    size_bytes: int
    infer_ms: float
    auc: Estimate
    on_frontier: bool  # no other is at least as good in AUC and faster


@dataclasses.dataclass(frozen=True)
class ParetoResult:
    data: str
    images: int
    points: tuple[Point, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks pareto bundles/tiny bundles/small bundles/default "
        "--data chest_xray/test --output docs/results/pareto"
    )
    parser.add_argument(
        "bundles", nargs="+", type=Path, help="int8 bundles, each with its -float beside it"
    )
    add_data(parser, "labelled folder")


def run(arguments: argparse.Namespace) -> int:
    run_pareto(arguments.bundles, arguments.data, arguments.output)
    return 0


def run_pareto(bundles: list[Path], data: Path, output: Path) -> ParetoResult:
    """Measure, write pareto.json, pareto.md and pareto.svg.

    Raises:
        BundleError: A bundle, or its float one, cannot be opened.
    """
    images = read_labelled(data)
    labels = np.array([image.positive for image in images], dtype=np.int64)
    contents = [read_file(image.path) for image in images]
    screeners: list[tuple[str, Screener]] = []
    for folder in bundles:
        for path in (folder, folder.with_name(folder.name + "-float")):
            screener = Screener.load(path, engine="litert", threads=1, force=True)
            screeners.append((folder.name, screener))
    prepared: list[list[NDArray[np.uint8]]] = []
    aucs = []
    for name, screener in tqdm(screeners, "AUC", disable=None):
        spec = screener.bundle.manifest.input
        pixels = [prepare(content, spec) for content in tqdm(contents, name, leave=False)]
        logits = np.stack([screener.logits(screener.run(p)) for p in pixels])
        aucs.append(
            auc_interval(labels, disease_logit(logits, screener.bundle.manifest.outputs.activation))
        )
        prepared.append(pixels[:_IMAGES])
    times: list[list[float]] = [[] for _ in screeners]
    for _ in tqdm(range(_ROUNDS), "latency", disable=None):
        for (_, screener), pixels, found in zip(screeners, prepared, times, strict=True):
            start = time.perf_counter()
            for image in pixels:
                screener.run(image)
            found.append((time.perf_counter() - start) / len(pixels))
    milliseconds = [round(statistics.median(t) * 1e3, 4) for t in times]
    points = tuple(
        _point(name, screener, milliseconds, aucs, i)
        for i, (name, screener) in enumerate(screeners)
    )
    result = ParetoResult(data.name, len(images), points)
    write_results(output, "pareto", result, _markdown(result))
    _draw(result, output / "pareto.svg")
    return result


def _point(
    name: str, screener: Screener, milliseconds: list[float], aucs: list[Estimate], i: int
) -> Point:
    manifest = screener.bundle.manifest
    file = manifest.model_file("tflite")
    assert file is not None and file.precision is not None
    recipe = manifest.provenance["recipe"]
    beaten = any(
        aucs[k].value >= aucs[i].value and milliseconds[k] < milliseconds[i]
        for k in range(len(aucs))
    )
    return Point(
        bundle=name,
        width=float(recipe["network"]["alpha"]),
        resolution=manifest.input.height,
        precision=file.precision,
        size_bytes=file.size_bytes,
        infer_ms=milliseconds[i],
        auc=aucs[i],
        on_frontier=not beaten,
    )


def _markdown(result: ParetoResult) -> str:
    lines = [
        f"{result.images} images of `{result.data}`, LiteRT, one thread, inference alone, engines "
        "in turn.",
        "",
        "| bundle | width | resolution | precision | size, MB | ms | AUC (95 %) | frontier |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for p in sorted(result.points, key=lambda p: p.infer_ms):
        lines.append(
            f"| {p.bundle} | {p.width:g} | {p.resolution} | {p.precision} | "
            f"{p.size_bytes / 1e6:.2f} | {p.infer_ms:.2f} | {p.auc} | "
            f"{'yes' if p.on_frontier else ''} |"
        )
    return "\n".join([*lines, ""])


def _draw(result: ParetoResult, path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "cxr-edge"
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    largest = max(p.size_bytes for p in result.points)
    for precision, colour in (("int8", "tab:blue"), ("float32", "tab:orange")):
        points = [p for p in result.points if p.precision == precision]
        axes.errorbar(
            [p.infer_ms for p in points],
            [p.auc.value for p in points],
            yerr=[
                [p.auc.value - p.auc.low for p in points],
                [p.auc.high - p.auc.value for p in points],
            ],
            fmt="none",
            ecolor=colour,
            alpha=0.3,
        )
        axes.scatter(
            [p.infer_ms for p in points],
            [p.auc.value for p in points],
            s=[30 + 300 * p.size_bytes / largest for p in points],
            color=colour,
            alpha=0.7,
            label=f"{precision} (area: size of the file)",
        )
    floats = {p.bundle: p for p in result.points if p.precision == "float32"}
    for p in (p for p in result.points if p.precision == "int8"):
        # One label for both files of a bundle, and a line between them.
        other = floats[p.bundle]
        axes.plot(
            [p.infer_ms, other.infer_ms],
            [p.auc.value, other.auc.value],
            color="grey",
            alpha=0.5,
            linewidth=0.8,
            zorder=0,
        )
        axes.annotate(
            f"{p.bundle}\n{p.width:g} × {p.resolution} px",
            (p.infer_ms, p.auc.low),
            fontsize=6,
            ha="center",
            va="top",
            xytext=(0, -3),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(
        xlabel="inference, ms (one thread); each label below its int8 file, its float one to the "
        "right",
        ylabel=f"AUC on {result.data}",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
