"""What quantisation does inside: signal-to-quantisation-noise by layer, and what choices cost.

The float and the int8 .tflite are run with every intermediate tensor kept, on the interpreter's
own kernels (XNNPACK keeps none). SQNR in dB = 10 log10(sum x^2 / sum (x - x')^2), x from the float
file and x' dequantised from int8, so a layer's figure holds what came before it too; the step from
one layer to the next is what the layer adds.

`run_choices` converts a run again with other choices and holds each against the float model on the
images that the operating points are chosen on, plain and corrupted; never on test.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.arguments import add_bundles, add_data
from benchmarks.results import files_of, write_results
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.errors import ImageError, InvalidValueError
from edge_runtime.images.file import read_file
from edge_runtime.images.preprocess import prepare

_NOT_LAYERS = {"CAST", "QUANTIZE", "DEQUANTIZE", "DELEGATE"}
_WORST = 8


@dataclasses.dataclass(frozen=True)
class Layer:
    """One operation's output in both files."""

    index: int
    operation: str
    name: str
    sqnr_db: float
    scale: float
    clipped: float  # share of int8 values at the end of their range


@dataclasses.dataclass(frozen=True)
class LayersResult:
    images: int
    layers: tuple[Layer, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks layers --float bundles/default-float "
        "--data chest_xray/val --output docs/results/layers"
    )
    add_bundles(parser)
    add_data(parser, "folder of radiographs")


def run(arguments: argparse.Namespace) -> int:
    run_layers(arguments.bundle, arguments.reference, arguments.data, arguments.output)
    return 0


def run_layers(bundle: Path, reference: Path, data: Path, output: Path, count: int = 32) -> None:
    """Measure, write layers.json, layers.md and layers.svg.

    Raises:
        InvalidValueError: No image, or the two files have not the same operations.
    """
    spec = load_bundle(bundle).manifest.input
    paths = files_of(data)
    pixels = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        try:
            pixels.append(prepare(read_file(path), spec)[np.newaxis])
        except ImageError as error:
            tqdm.write(f"left out: {error}")
    result = measure_layers(
        (reference / "model.tflite").read_bytes(), (bundle / "model.tflite").read_bytes(), pixels
    )
    write_results(output, "layers", result, _markdown(result))
    _draw(result, output / "layers.svg")


def measure_layers(float32: bytes, int8: bytes, pixels: list[NDArray[np.uint8]]) -> LayersResult:
    """SQNR of every operation that the two .tflite files have in common.

    Raises:
        InvalidValueError: They have not the same operations in the same order.
    """
    first, second = _Kept(float32), _Kept(int8)
    ours, theirs = first.layers(), second.layers()
    # The float file normalises by a multiplication and an addition, the int8 file by its input.
    ours = ours[len(ours) - len(theirs) :]
    if [o["op_name"] for o in ours] != [o["op_name"] for o in theirs]:
        raise InvalidValueError("the float and the int8 file have not the same operations")
    signal, noise = np.zeros(len(ours)), np.zeros(len(ours))
    clipped = np.zeros(len(ours))
    for image in tqdm(pixels, "layers", unit="image", disable=None):
        first.run(image)
        second.run(image)
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            exact, (raw, rounded) = first.value(one)[1], second.value(other)
            signal[i] += np.square(exact).sum(dtype=np.float64)
            noise[i] += np.square(exact - rounded).sum(dtype=np.float64)
            if raw.dtype == np.int8:
                # ReLU6 ends at the range's end on purpose; its zero is no loss.
                clipped[i] += (raw == 127).mean() / len(pixels)
    return LayersResult(
        len(pixels),
        tuple(
            Layer(
                i,
                str(other["op_name"]),
                second.name(other),
                round(float(10 * np.log10(signal[i] / max(noise[i], 1e-30))), 2),
                second.scale(other),
                round(float(clipped[i]), 5),
            )
            for i, other in enumerate(theirs)
        ),
    )


class _Kept:
    """An interpreter that keeps every tensor."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping them costs memory
            self._interpreter = Interpreter(
                model_content=model,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        self._interpreter.allocate_tensors()
        self._tensors = {t["index"]: t for t in self._interpreter.get_tensor_details()}

    def layers(self) -> list[dict[str, Any]]:
        operations = self._interpreter._get_ops_details()
        return [o for o in operations if o["op_name"] not in _NOT_LAYERS]

    def run(self, pixels: NDArray[np.uint8]) -> None:
        (source,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(source["index"], pixels)
        self._interpreter.invoke()

    def value(self, operation: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """(as stored, dequantised) output of an operation."""
        detail = self._tensors[operation["outputs"][0]]
        raw = self._interpreter.get_tensor(detail["index"])
        if raw.dtype == np.float32:
            return raw, raw.astype(np.float64)
        scale, zero_point = detail["quantization"]
        return raw, (raw.astype(np.float64) - zero_point) * scale

    def scale(self, operation: dict[str, Any]) -> float:
        return float(self._tensors[operation["outputs"][0]]["quantization"][0])

    def name(self, operation: dict[str, Any]) -> str:
        """The shortest telling part of a converter's name: "block_3_depthwise"."""
        full = str(self._tensors[operation["outputs"][0]]["name"]).split(";")[-1]
        parts = [p for p in full.split("/") if p not in ("batchnorm", "sub1", "add_1", "mul_1")]
        return parts[-1].removesuffix("_1").removesuffix("_BN") if parts else full


def _markdown(result: LayersResult) -> str:
    worst = sorted(result.layers, key=lambda layer: layer.sqnr_db)[:_WORST]
    lines = [
        f"Signal-to-quantisation-noise of {len(result.layers)} operations over {result.images} "
        f"images; the {_WORST} worst. All of them: layers.json, layers.svg.",
        "",
        "| # | operation | layer | SQNR, dB | scale | at the end of the range |",
        "|---|---|---|---|---|---|",
    ]
    for layer in worst:
        lines.append(
            f"| {layer.index} | {layer.operation} | {layer.name} | {layer.sqnr_db:.1f} | "
            f"{layer.scale:.4g} | {layer.clipped:.3%} |"
        )
    return "\n".join([*lines, ""])


def _draw(result: LayersResult, path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "cxr-edge"
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    kinds = sorted({layer.operation for layer in result.layers})
    axes.plot([la.index for la in result.layers], [la.sqnr_db for la in result.layers], "0.8")
    for kind in kinds:
        chosen = [la for la in result.layers if la.operation == kind]
        axes.plot([la.index for la in chosen], [la.sqnr_db for la in chosen], "o", ms=4, label=kind)
    for layer in sorted(result.layers, key=lambda la: la.sqnr_db)[:3]:
        axes.annotate(layer.name, (layer.index, layer.sqnr_db), fontsize=7, xytext=(4, -8),
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="operation, in order", ylabel="SQNR, dB", title="int8 against float32")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=3)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
