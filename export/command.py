"""Export a finished training run as a model bundle, if it passes the verification gate.

Writes OUTPUT (int8 .tflite and .onnx) and OUTPUT-float (the same in float32), each a whole
bundle. The gate fails the command, and leaves no bundle, when an exported file loses more than
0.005 AUC on validation, agrees with the float model on fewer than 98 % of decisions, or does not
reproduce its known answers.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from edge_runtime.commands.options import whole
from edge_runtime.images.preprocess import DECODE_OVERSAMPLINGS
from train.data.table import add_data_sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = (
        "example: python -m export runs/default --data chest_xray --output bundles/default"
    )
    parser.add_argument("run_folder", metavar="run", type=Path,
                        help="folder written by `python -m train fit`")  # fmt: skip
    add_data_sets(parser)
    parser.add_argument("--output", type=Path, required=True, help="bundle folder to write")
    parser.add_argument(
        "--name", type=_name, help="of the model; by default the recipe's, as `mine-mobilenetv2`"
    )
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument(
        "--representative", type=whole(10, 10_000), default=200, metavar="N", help="images"
    )
    parser.add_argument(
        "--allow-weak",
        action="store_true",
        help="ship a model whose AUC on validation is not above the recipe's least_auc; its card "
        "says so",
    )
    parser.add_argument(
        "--onnx-weights",
        choices=("int8", "uint8", "int7"),
        default="int8",
        help="type of the 8-bit ONNX file's weights: uint8 for programs that load it themselves on "
        "x86 without VNNI; int7 is int8 in reduced range",
    )
    parser.add_argument(
        "--decode-oversampling",
        type=float,
        choices=DECODE_OVERSAMPLINGS,
        metavar="TIMES",
        help="how many times the model's size a JPEG keeps while it is decoded: "
        f"{' or '.join(map(str, DECODE_OVERSAMPLINGS))}; by default as in training",
    )
    parser.add_argument(
        "--no-side",
        dest="side",
        action="store_false",
        help="without the branch from which the quality gate tells a mirrored film",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} must be letters, digits, dots, dashes and underscores, at most 100"
        )
    return text


def run(arguments: argparse.Namespace) -> int:
    # Here, because TensorFlow takes seconds to import and --help should not.
    from export.build import build_bundle

    build_bundle(
        arguments.run_folder,
        arguments.data,
        arguments.output,
        name=arguments.name,
        version=arguments.version,
        representative_count=arguments.representative,
        onnx_weights=arguments.onnx_weights,
        force=arguments.force,
        allow_weak=arguments.allow_weak,
        side=arguments.side,
        decode_oversampling=arguments.decode_oversampling,
    )
    print(arguments.output)
    return 0
