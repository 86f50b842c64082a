"""Bundles on disk: written aside, loaded as a device would load them, and only then moved."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import BundledFile, KnownAnswer, Manifest, dump_manifest
from edge_runtime.engines import openvino
from edge_runtime.engines.engine import Engine
from edge_runtime.errors import BundleError, EngineError
from edge_runtime.images.preprocess import InputSpec
from edge_runtime.screener import Screener
from export.model_card import write_model_card
from export.verify.gate import GateError
from export.verify.known_answers import make_known_answers, reference_kernels


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """One model file, loaded."""

    format: str  # tflite | onnx
    precision: str  # float32 | int8
    content: bytes
    engine: Engine
    offset: tuple[float, ...]

    @property
    def file(self) -> BundledFile:
        digest = hashlib.sha256(self.content).hexdigest()
        return BundledFile(
            f"model.{self.format}",
            len(self.content),
            digest,
            self.format,
            self.precision,
            self.offset,
        )


@dataclasses.dataclass(frozen=True)
class Converted(ModelFile):
    """With what it yields on validation."""

    validation: NDArray[np.float64]  # (n, units), offset added
    validation_features: NDArray[np.float32]  # (n, channels)

    @property
    def label(self) -> str:
        return f"{self.precision} {self.format}"


def write_bundles(draft: Manifest, targets: Mapping[Path, Sequence[ModelFile]]) -> Manifest:
    """Write every target, or none: they move to their places after all have been verified.

    Args:
        draft: The manifest without files and known answers.
        targets: Model files by bundle folder; folders that exist are replaced.

    Returns:
        The manifest of the last target.

    Raises:
        GateError: A written bundle does not load, or does not give its known answers.
    """
    parent = next(iter(targets)).parent
    parent.mkdir(parents=True, exist_ok=True)
    manifest = draft
    with tempfile.TemporaryDirectory(dir=parent) as temporary:
        written = {}
        for target, converted in targets.items():
            folder = Path(temporary) / target.name
            manifest = _write(folder, draft, converted)
            _verify(folder)
            written[target] = folder
        for target, folder in written.items():
            if target.exists():
                shutil.rmtree(target)
            folder.rename(target)
    return manifest


def _write(folder: Path, draft: Manifest, converted: Sequence[ModelFile]) -> Manifest:
    folder.mkdir()
    for c in converted:
        (folder / c.file.path).write_bytes(c.content)
    manifest = dataclasses.replace(
        draft,
        files=tuple(c.file for c in converted),
        known_answers=_known_answers(draft.input, converted),
    )
    # The card is made from the manifest and then listed in it.
    card = write_model_card(manifest).encode()
    (folder / "MODEL_CARD.md").write_bytes(card)
    listed = BundledFile("MODEL_CARD.md", len(card), hashlib.sha256(card).hexdigest())
    manifest = dataclasses.replace(manifest, files=(*manifest.files, listed))
    (folder / "manifest.json").write_bytes(dump_manifest(manifest))
    return manifest


def _known_answers(spec: InputSpec, converted: Sequence[ModelFile]) -> tuple[KnownAnswer, ...]:
    engines = {c.engine.family: c.engine for c in converted}
    offsets = {c.engine.family: c.offset for c in converted}
    for c in converted:
        if c.format == "tflite":
            engines["tflite-builtin"] = reference_kernels(c.content)
            offsets["tflite-builtin"] = c.offset
        elif openvino.is_available():
            engines[openvino.FAMILY] = openvino.load(c.content, threads=1)
            offsets[openvino.FAMILY] = c.offset
    return make_known_answers(spec, engines, offsets)


def _verify(folder: Path) -> None:
    """Schema, checksums and known answers, with fresh engines, as on a device."""
    try:
        load_bundle(folder).verify_files()
        engines = ["litert", "onnxruntime", *(["openvino"] if openvino.is_available() else [])]
        for engine in engines:
            screener = Screener.load(folder, engine=engine, check=False)
            for answer in screener.bundle.manifest.known_answers:
                if screener.check_known_answer(answer) is None:
                    raise GateError(f"{engine}: known answer {answer.name!r} has no logits")
    except (BundleError, EngineError) as error:
        raise GateError(f"the written bundle {folder.name}: {error}") from error
