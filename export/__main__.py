"""Export a finished training run as a model bundle, if it passes the verification gate.

Writes OUTPUT (int8 .tflite and .onnx) and OUTPUT-float (the same in float32), each a whole
bundle. The gate fails the command, and leaves no bundle, when an exported file loses more than
0.005 AUC on validation, agrees with the float model on fewer than 98 % of decisions, or does not
reproduce its known answers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import CxrEdgeError


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["c-array"]:
        return _c_array(given[1:])
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m export runs/default --data chest_xray --output bundles/default",
    )
    parser.add_argument("run", type=Path, help="folder written by `python -m train fit`")
    parser.add_argument("--data", type=Path, help="folder with train/, val/ and test/")
    parser.add_argument("--output", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--name", default="pneumonia-mobilenetv2")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--representative", type=int, default=200, metavar="N", help="images")
    parser.add_argument(
        "--onnx-weights",
        choices=("uint8", "int7"),
        default="uint8",
        help="type of the int8 ONNX file's weights; int7 is int8 in reduced range",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    arguments = parser.parse_args(given)
    # Here, because TensorFlow takes seconds to import and --help should not.
    from export.build import build_bundle
    from export.gate import GateError

    try:
        build_bundle(
            arguments.run,
            arguments.data,
            arguments.output,
            name=arguments.name,
            version=arguments.version,
            representative_count=arguments.representative,
            onnx_weights=arguments.onnx_weights,
            force=arguments.force,
        )
    except GateError as error:
        print(f"the verification gate refused the export: {error}", file=sys.stderr)
        return 1
    except CxrEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(arguments.output)
    return 0


def _c_array(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export c-array",
        description="Write a bundle's .tflite as C source: the array, a header with all that a "
        "program must know, known answers, and the operators that a target must have.",
        epilog="example: python -m export c-array edge_runtime/models/default --output build/c",
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    arguments = parser.parse_args(argv)
    from export.c_array import write_c_array

    try:
        facts = write_c_array(arguments.bundle, arguments.output)
    except CxrEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, count in facts.operators:
        print(f"{name:24} {count}")
    print(f"activations alive at once: {facts.arena_bytes / 1e6:.2f} MB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
