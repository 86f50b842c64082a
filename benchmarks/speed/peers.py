"""The same model and the same prepared images through every engine, side by side in one run.

Engines take turns block by block. The floor is LiteRT's own `invoke` on the int8 file; "ours" is
`Screener.run` on it. Every peer's answers are compared with the float model's first: a fast wrong
answer is no peer.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_bundles, add_data, add_repetitions
from benchmarks.results import files_of, median_ratio, write_results
from benchmarks.speed.raw import (
    Invoke,
    NotInstalledError,
    keras_predict,
    ncnn_raw,
    onnxruntime_raw,
    openvino_raw,
    tflite_raw,
)
from edge_runtime.basics.processors import default_threads
from edge_runtime.errors import ImageError
from edge_runtime.images.file import read_file
from edge_runtime.images.preprocess import prepare
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate

FLOOR = "LiteRT invoke, int8"
_BLOCK = 20  # images


@dataclasses.dataclass(frozen=True)
class PeerRow:
    """One engine on one file; `note` says why there is no figure, where there is none."""

    name: str
    threads: int
    ms: float | None
    ratio: Estimate | None  # of its time to the floor's with the same threads
    largest_logit_difference: float | None  # to the float .tflite
    note: str


@dataclasses.dataclass(frozen=True)
class PeersResult:
    images: int
    blocks: int
    rows: tuple[PeerRow, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Keras, LiteRT, ONNX Runtime, OpenVINO and ncnn, float and int8; what is not "
        "installed is skipped by name."
    )
    parser.epilog = (
        "example: python -m benchmarks peers --float bundles/default-float "
        "--run runs/default --data chest_xray/test --output build/peers"
    )
    add_bundles(parser)
    parser.add_argument("--run", type=Path, dest="run_folder", help="run folder, for Keras")
    add_data(parser, "folder of radiographs")
    add_repetitions(parser, 12)


def run(arguments: argparse.Namespace) -> int:
    run_peers(
        arguments.bundle,
        arguments.reference,
        arguments.run_folder,
        arguments.data,
        arguments.output,
        arguments.repetitions,
    )
    return 0


def run_peers(
    bundle: Path, reference: Path, run: Path | None, data: Path, output: Path, blocks: int = 12
) -> PeersResult:
    """Measure, write peers.json, peers.md and peers.svg.

    Args:
        bundle: int8 bundle.
        reference: Its float bundle.
        run: The run folder, for Keras; without it Keras is left out.
        data: Images.
        output: Folder for the results.
        blocks: Of 20 images for each engine.

    Raises:
        InvalidValueError: There are no files in `data`.
    """
    spec = Screener.load(bundle).bundle.manifest.input
    pixels: list[NDArray[np.uint8]] = []
    for path in files_of(data):
        try:
            pixels.append(prepare(read_file(path), spec)[np.newaxis])
        except ImageError as error:
            tqdm.write(f"left out: {error}")
        if len(pixels) == _BLOCK:
            break
    rows: list[PeerRow] = []
    for threads in sorted({1, default_threads()}):
        rows += _measure(_peers(bundle, reference, run, threads), pixels, threads, blocks)
    result = PeersResult(len(pixels), blocks, tuple(rows))
    write_results(output, "peers", result, _markdown(result))
    _draw(result, output / "peers.svg")
    return result


def _peers(
    bundle: Path, reference: Path, run: Path | None, threads: int
) -> dict[str, Callable[[], Invoke]]:
    def ours() -> Invoke:
        screener = Screener.load(bundle, engine="litert", threads=threads, force=True)
        return lambda pixels: screener.run(pixels[0]).evidence_map

    def keras() -> Invoke:
        if run is None:
            raise NotInstalledError("no run folder given: --run")
        return keras_predict(run)

    int8, float32 = bundle, reference
    return {
        FLOOR: lambda: tflite_raw(int8 / "model.tflite", threads),
        "ours, int8 TFLite": ours,
        "LiteRT invoke, float32": lambda: tflite_raw(float32 / "model.tflite", threads),
        "ONNX Runtime, int8": lambda: onnxruntime_raw(int8 / "model.onnx", threads),
        "ONNX Runtime, float32": lambda: onnxruntime_raw(float32 / "model.onnx", threads),
        "OpenVINO, int8": lambda: openvino_raw(int8 / "model.onnx", threads),
        "OpenVINO, float32": lambda: openvino_raw(float32 / "model.onnx", threads),
        "ncnn, float16": lambda: ncnn_raw(float32 / "model.onnx", threads),
        "Keras predict, float32": keras,
    }


def _measure(
    peers: dict[str, Callable[[], Invoke]],
    pixels: list[NDArray[np.uint8]],
    threads: int,
    blocks: int,
) -> list[PeerRow]:
    ready: dict[str, Invoke] = {}
    notes: dict[str, str] = {}
    for name, load in peers.items():
        try:
            ready[name] = load()
        except NotInstalledError as error:
            notes[name] = str(error)
            tqdm.write(f"skipped {name}: {error}")
    expected = [float(np.mean(ready["LiteRT invoke, float32"](p))) for p in pixels]
    errors = {
        name: max(abs(float(np.mean(invoke(p))) - e) for p, e in zip(pixels, expected, strict=True))
        for name, invoke in ready.items()
        if "int8" not in name
    }
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in tqdm(range(blocks), f"{threads} threads", disable=None):
        for name, invoke in ready.items():
            share = pixels[:3] if name.startswith("Keras") else pixels
            start = time.perf_counter()
            for image in share:
                invoke(image)
            times[name].append((time.perf_counter() - start) / len(share))
    floor = np.array(times[FLOOR])
    rows = []
    for name in peers:
        if name not in ready:
            rows.append(PeerRow(name, threads, None, None, None, notes[name]))
            continue
        ratios = np.array(times[name]) / floor
        rows.append(
            PeerRow(
                name,
                threads,
                round(statistics.median(times[name]) * 1e3, 4),
                median_ratio(ratios),
                round(errors[name], 4) if name in errors else None,
                "all processors" if name.startswith("Keras") else "",
            )
        )
    return rows


def _markdown(result: PeersResult) -> str:
    lines = [
        f"Inference alone on {result.images} prepared images, medians of {result.blocks} blocks in "
        "turn; ratio to the floor with its 95 % bootstrap interval over blocks.",
        "",
        f"| engine | threads | ms | time / {FLOOR} | largest logit difference to float | |",
        "|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        cells = [row.name, str(row.threads), "", "", "", row.note]
        if row.ms is not None and row.ratio is not None:
            cells[2:4] = [f"{row.ms:.2f}", f"{row.ratio:.2f}"]
        if row.largest_logit_difference is not None:
            cells[4] = f"{row.largest_logit_difference:.3f}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _draw(result: PeersResult, path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "cxr-edge"
    threads = sorted({row.threads for row in result.rows})
    figure, axes = plt.subplots(
        1, len(threads), figsize=(5.5 * len(threads), 4), squeeze=False, layout="constrained"
    )
    for axis, count in zip(axes[0], threads, strict=True):
        rows = [r for r in result.rows if r.threads == count and r.ratio is not None][::-1]
        values = [r.ratio.value for r in rows if r.ratio]
        colours = ["tab:blue" if r.name.startswith("ours") else "0.6" for r in rows]
        bars = axis.barh([r.name for r in rows], values, color=colours)
        axis.bar_label(bars, [f"{v:.2f}" for v in values], padding=3)
        axis.axvline(1, color="tab:red", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_xlim(min(values) * 0.8, max(values) * 2)
        axis.set(title=f"{count} thread{'s' * (count > 1)}", xlabel="time / LiteRT int8 invoke")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
