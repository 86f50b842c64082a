"""A bundle written again: the same model files, byte for byte, with known answers made anew.

That is how an engine that was written after a bundle gets known answers in it, and how another rule
for decoding JPEG gets in: the rule stands in the manifest alone (docs/decisions/0039), so that
nothing has to be converted, and what was measured on films that are never decoded at a reduced
scale stays true. The result is loaded and verified as after an export.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import BundledFile, Manifest
from edge_runtime.bundle.shipped import bundle_folder
from edge_runtime.engines import litert, onnxruntime
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import DECODE_OVERSAMPLINGS
from export.write import ModelFile, write_bundles

_LOADERS: dict[str, Any] = {"tflite": litert, "onnx": onnxruntime}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = (
        "example: python -m export again default --decode-oversampling 1.25 --version 5.2.0 "
        "--output bundles/default"
    )
    parser.add_argument("bundle", type=lambda text: Path(bundle_folder(text)))
    parser.add_argument(
        "--decode-oversampling",
        type=float,
        choices=DECODE_OVERSAMPLINGS,
        metavar="TIMES",
        help="how many times the model's size a JPEG keeps while it is decoded: "
        f"{' or '.join(map(str, DECODE_OVERSAMPLINGS))}; by default as in the bundle",
    )
    parser.add_argument("--version", required=True, help="of the new bundle")
    parser.add_argument("--output", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")


def run(arguments: argparse.Namespace) -> int:
    write_again(
        arguments.bundle,
        arguments.output,
        arguments.decode_oversampling,
        arguments.version,
        arguments.force,
    )
    print(arguments.output)
    return 0


def write_again(
    folder: Path,
    output: Path,
    decode_oversampling: float | None,
    version: str,
    force: bool = False,
) -> Manifest:
    """Write the bundle in `folder` to `output`.

    Args:
        folder: The old one.
        output: The new one.
        decode_oversampling: Of its manifest; None: as it was.
        version: Of its manifest.
        force: Replace what is at `output`.

    Raises:
        BundleError: `folder` is no whole bundle.
        InvalidValueError: `output` exists and `force` is not set.
        GateError: What was written does not give its known answers.
    """
    if output.exists() and not force:
        raise InvalidValueError(f"{output} exists; give another --output, or --force")
    bundle = load_bundle(folder)
    bundle.verify_files()
    old = bundle.manifest
    spec = old.input
    if decode_oversampling is not None:
        spec = dataclasses.replace(spec, decode_oversampling=decode_oversampling)
    draft = dataclasses.replace(
        old,
        version=version,
        input=spec,
        files=(),
        known_answers=(),
    )
    files = [
        _open(folder / file.path, file)
        for file in old.files
        if file.format is not None  # the card, which has none, is made anew
    ]
    return write_bundles(draft, {output: files})


def _open(path: Path, file: BundledFile) -> ModelFile:
    content = path.read_bytes()
    assert file.format is not None and file.precision is not None
    engine = _LOADERS[file.format].load(content, 1)
    return ModelFile(file.format, file.precision, content, engine, file.logit_offset)
