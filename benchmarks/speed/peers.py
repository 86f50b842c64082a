"""The same model and the same prepared images through every engine, side by side in one run.

Engines take turns block by block. The floor is LiteRT's own `invoke` on the int8 file; "ours" is
`Screener.run` on it, and, with OpenVINO as its engine, on the ONNX file. Every peer's answers are
compared with the float model's first: a fast wrong answer is no peer.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
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
    quantised_by_onnxruntime,
    tflite_raw,
    with_batch,
)
from edge_runtime.basics.processors import default_threads
from edge_runtime.engines.choose import engine_module
from edge_runtime.engines.names import REQUIRES
from edge_runtime.errors import ImageError
from edge_runtime.images.file import read_file
from edge_runtime.images.preprocess import prepare
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate

FLOOR = "LiteRT invoke, int8"
# The same package with two of its engines.
OURS = ("ours, int8 by LiteRT", "ours, int8 by OpenVINO")
_BLOCK = 24  # images
_BATCHES = (2, 4, 8)  # images at once, beside one; _BLOCK is a multiple of each


@dataclasses.dataclass(frozen=True)
class PeerRow:
    """One engine on one file; `note` says why there is no figure, where there is none."""

    name: str
    threads: int
    ms: float | None  # for one image
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
        blocks: Of 24 images for each engine.

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
        peers = _peers(bundle, reference, run, threads, pixels)
        rows += _measure(peers, pixels, threads, blocks)
    result = PeersResult(len(pixels), blocks, tuple(rows))
    write_results(output, "peers", result, _markdown(result))
    _draw(result, output / "peers.svg")
    return result


@dataclasses.dataclass(frozen=True)
class _Peer:
    name: str
    load: Callable[[], Invoke]
    batch: int = 1


def _peers(
    bundle: Path,
    reference: Path,
    run: Path | None,
    threads: int,
    pixels: list[NDArray[np.uint8]],
) -> list[_Peer]:
    def ours(engine: str) -> Invoke:
        if not engine_module(engine).is_available():
            raise NotInstalledError(f"not installed: {REQUIRES[engine]}")
        screener = Screener.load(bundle, engine=engine, threads=threads, force=True)
        return lambda images: screener.run(images[0]).evidence_map

    def keras() -> Invoke:
        if run is None:
            raise NotInstalledError("no run folder given: --run")
        return keras_predict(run)

    tflite, onnx = bundle / "model.tflite", bundle / "model.onnx"
    float_tflite, float_onnx = reference / "model.tflite", reference / "model.onnx"
    peers = [
        _Peer(FLOOR, lambda: tflite_raw(tflite, threads)),
        _Peer(OURS[0], lambda: ours("litert")),
        _Peer(OURS[1], lambda: ours("openvino")),
        _Peer("LiteRT invoke, float32", lambda: tflite_raw(float_tflite, threads)),
        _Peer("ONNX Runtime, int8", lambda: onnxruntime_raw(onnx, threads)),
        _Peer(
            "ONNX Runtime, int8 by its own quantize_static",
            lambda: onnxruntime_raw(quantised_by_onnxruntime(float_onnx, pixels), threads),
        ),
        _Peer("ONNX Runtime, float32", lambda: onnxruntime_raw(float_onnx, threads)),
        _Peer("OpenVINO, int8", lambda: openvino_raw(onnx, threads)),
        _Peer("OpenVINO, float32", lambda: openvino_raw(float_onnx, threads)),
        _Peer("ncnn, float16", lambda: ncnn_raw(float_onnx, threads)),
        _Peer("Keras predict, float32", keras),
    ]
    for batch in _BATCHES:
        peers += [
            _Peer(
                f"{FLOOR}, {batch} at once",
                lambda n=batch: tflite_raw(tflite, threads, batch=n),  # type: ignore[misc]
                batch,
            ),
            _Peer(
                f"ONNX Runtime, int8, {batch} at once",
                lambda n=batch: onnxruntime_raw(with_batch(onnx, n), threads),  # type: ignore[misc]
                batch,
            ),
            _Peer(
                f"OpenVINO, int8, {batch} at once",
                lambda n=batch: openvino_raw(with_batch(onnx, n), threads),  # type: ignore[misc]
                batch,
            ),
        ]
    return peers


def _measure(
    peers: list[_Peer], pixels: list[NDArray[np.uint8]], threads: int, blocks: int
) -> list[PeerRow]:
    ready: dict[_Peer, Invoke] = {}
    notes: dict[_Peer, str] = {}
    for peer in peers:
        try:
            ready[peer] = peer.load()
        except NotInstalledError as error:
            notes[peer] = str(error)
            tqdm.write(f"skipped {peer.name}: {error}")
    exact = next(invoke for peer, invoke in ready.items() if peer.name == "LiteRT invoke, float32")
    expected = [float(np.mean(exact(p))) for p in pixels]
    errors = {
        peer: max(abs(float(np.mean(invoke(p))) - e) for p, e in zip(pixels, expected, strict=True))
        for peer, invoke in ready.items()
        if _gives_logits(peer)
    }
    taken = {
        peer: [
            np.concatenate(pixels[i : i + peer.batch])
            for i in range(0, len(pixels) - peer.batch + 1, peer.batch)
        ][: 3 if peer.name.startswith("Keras") else None]
        for peer in ready
    }
    times: dict[_Peer, list[float]] = {peer: [] for peer in ready}
    for _ in tqdm(range(blocks), f"{threads} threads", disable=None):
        for peer, invoke in ready.items():
            start = time.perf_counter()
            for images in taken[peer]:
                invoke(images)
            seconds = time.perf_counter() - start
            times[peer].append(seconds / (len(taken[peer]) * peer.batch))
    floor = np.array(times[peers[0]])
    rows = []
    for peer in peers:
        if peer not in ready:
            rows.append(PeerRow(peer.name, threads, None, None, None, notes[peer]))
            continue
        ratios = np.array(times[peer]) / floor
        rows.append(
            PeerRow(
                peer.name,
                threads,
                round(statistics.median(times[peer]) * 1e3, 4),
                median_ratio(ratios),
                round(errors[peer], 4) if peer in errors else None,
                "all processors" if peer.name.startswith("Keras") else "",
            )
        )
    return rows


def _gives_logits(peer: _Peer) -> bool:
    """Whether its map is in the float model's units: the shipped int8 files give int8."""
    return "int8" not in peer.name or "quantize_static" in peer.name


def _markdown(result: PeersResult) -> str:
    lines = [
        ahead(result),
        "",
        f"Inference alone on {result.images} prepared images, medians of {result.blocks} blocks in "
        "turn, in ms for one image; ratio to the floor, one image at a time, with its 95 % "
        "bootstrap interval over blocks.",
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


def ahead(result: PeersResult) -> str:
    """Which peers are faster than ours by more than chance: the least flattering first."""
    said = []
    for threads in sorted({row.threads for row in result.rows}):
        rows = [row for row in result.rows if row.threads == threads and row.ratio is not None]
        mine = [row for row in rows if row.name in OURS]
        best = min(mine, key=lambda row: row.ratio.value if row.ratio else math.inf)
        ours = best.ratio
        faster = {
            row.name: row.ratio.value / ours.value
            for row in rows
            if row.ratio is not None and ours is not None and row.ratio.high < ours.low
            and row.name not in (FLOOR, *OURS)
        }  # fmt: skip
        words = [f"{name} ({ratio:.2f} of our time)" for name, ratio in sorted(
            faster.items(), key=lambda item: item[1])]  # fmt: skip
        plural = "thread" if threads == 1 else "threads"
        said.append(f"with {threads} {plural} {', '.join(words) or 'none'} ({best.name})")
    return f"Ahead of ours with its fastest engine: {'; '.join(said)}."


def _draw(result: PeersResult, path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "cxr-edge"
    threads = sorted({row.threads for row in result.rows})
    figure, axes = plt.subplots(
        1, len(threads), figsize=(7 * len(threads), 6), squeeze=False, layout="constrained"
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
