"""Run folder -> verified bundle, and the float bundle beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.bundle import load_bundle
from edge_runtime.engines import Engine, litert, onnxruntime
from edge_runtime.errors import InvalidValueError
from edge_runtime.manifest import (
    SCHEMA,
    BundledFile,
    Calibration,
    KnownAnswer,
    Manifest,
    ModelMetrics,
    OperatingPoint,
    Outputs,
    dump_manifest,
)
from edge_runtime.quality import QualityGate
from edge_runtime.scores import disease_logit
from edge_runtime.screener import Screener
from export import gate
from export.calibration import SPLIT, choose_operating_points, fit_temperature
from export.inference_model import add_normalisation, keras_outputs, load_core
from export.known_answers import make_known_answers, reference_kernels
from export.model_card import write_model_card
from export.quality import fit_quality_gate
from export.run_folder import Run, choose_representative, load_pixels, open_run, positives
from export.to_onnx import to_float_onnx, to_int8_onnx
from export.to_tflite import to_float_tflite, to_int8_tflite

INTENDED_USE = (
    "Screening support, research and education: frontal chest radiographs of children of about "
    "one to five years with suspected pneumonia. It is not a diagnosis; a qualified person "
    "decides."
)
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime",
             "ai-edge-litert", "numpy", "pillow")  # fmt: skip
_FORMATS = {"tflite": litert, "onnx": onnxruntime}


@dataclasses.dataclass(frozen=True)
class _Converted:
    """One model file, loaded, with its raw logits on both sets of images."""

    format: str
    precision: str
    content: bytes
    engine: Engine
    offset: tuple[float, ...]
    validation: NDArray[np.float64]  # (n, units), offset added

    @property
    def label(self) -> str:
        return f"{self.precision} {self.format}"


def build_bundle(
    run_folder: Path,
    data: Path | None,
    output: Path,
    *,
    name: str,
    version: str,
    representative_count: int = 200,
    onnx_weights: str = "uint8",
    force: bool = False,
) -> Manifest:
    """Export a finished run to `output` (int8) and `output`-float, if the gate lets it.

    Raises:
        GateError: An int8 or float file does not keep the float model's accuracy. Nothing is
            left at `output`.
        InvalidValueError: Not a finished run, or `output` exists and `force` is not set.
    """
    float_output = output.with_name(output.name + "-float")
    for path in (output, float_output):
        if path.exists() and not force:
            raise InvalidValueError(f"{path} exists; give another --output, or --force")
    run = open_run(run_folder)
    core = load_core(run.folder)
    representative_images = choose_representative(run.splits.train, representative_count)
    representative = load_pixels(representative_images, run.input, data, "representative data")
    validation = load_pixels(run.splits.validation, run.input, data, "validation")
    positive = positives(run.splits.validation)

    tqdm.write("running the float model")
    float_logits, _ = keras_outputs(core, validation)
    float_representative, _ = keras_outputs(core, representative)
    temperature = round(fit_temperature(disease_logit(float_logits), positive), 4)
    points = choose_operating_points(disease_logit(float_logits), positive, temperature)

    tqdm.write("converting")
    whole = add_normalisation(core)
    models = {
        ("tflite", "float32"): to_float_tflite(whole),
        ("onnx", "float32"): to_float_onnx(whole),
        ("tflite", "int8"): to_int8_tflite(core, representative),
        ("onnx", "int8"): to_int8_onnx(core, representative, onnx_weights),
    }
    converted = [
        _load(format_name, precision, model, representative, float_representative, validation)
        for (format_name, precision), model in models.items()
    ]
    metrics = gate.compare(
        positive,
        gate.Scores("float32 keras", "keras", disease_logit(float_logits)),
        [gate.Scores(c.label, c.engine.name, disease_logit(c.validation)) for c in converted],
        temperature,
        points[0].threshold,
        SPLIT,
    )
    for row in metrics:
        loss = f", difference {row.difference.difference:+.4f}" if row.difference else ""
        agree = (
            f", agreement {row.agreement:.4f}, largest probability difference "
            f"{row.max_probability_difference:.4f}"
            if row.agreement is not None
            else ""
        )
        tqdm.write(f"{row.model:16} {row.engine:22} AUC {row.auc}{loss}{agree}")
    gate.check(metrics)

    tqdm.write("fitting the quality gate")
    int8 = next(c for c in converted if c.label == "int8 tflite")
    train = load_pixels(run.splits.train, run.input, data, "train")
    quality = fit_quality_gate(
        train,
        gate.run_features(int8.engine, train, "train: features"),
        gate.run_features(int8.engine, validation, "validation: features"),
    )
    provenance = _provenance(run, [image.path for image in representative_images])
    rows, columns, units = core.output["map"].shape[1:]
    outputs = Outputs(
        (rows, columns, units),
        core.output["features"].shape[1],
        "sigmoid" if units == 1 else "softmax",
    )
    manifest = None
    for precision, target in (("float32", float_output), ("int8", output)):
        chosen = [c for c in converted if c.precision == precision]
        manifest = _write(
            target,
            name,
            version,
            run,
            outputs,
            temperature,
            points,
            chosen,
            metrics,
            quality,
            provenance,
        )
    assert manifest is not None
    return manifest


def _load(
    format_name: str,
    precision: str,
    model: bytes,
    representative: NDArray[np.uint8],
    float_representative: NDArray[np.float64],
    validation: NDArray[np.uint8],
) -> _Converted:
    engine: Engine = _FORMATS[format_name].load(model, 2)
    label = f"{precision} {format_name}"
    shift = gate.run_engine(engine, representative, f"{label}: representative")
    offset = (float_representative - shift).mean(axis=0)
    if precision == "float32":
        offset = np.zeros_like(offset)
    return _Converted(
        format_name,
        precision,
        model,
        engine,
        tuple(round(float(value), 6) for value in offset),
        gate.run_engine(engine, validation, f"{label}: validation") + offset,
    )


def _write(
    target: Path,
    name: str,
    version: str,
    run: Run,
    outputs: Outputs,
    temperature: float,
    points: tuple[OperatingPoint, ...],
    converted: list[_Converted],
    metrics: tuple[ModelMetrics, ...],
    quality: QualityGate,
    provenance: Mapping[str, Any],
) -> Manifest:
    """Write a bundle beside its place, load it as a device would, and only then move it there."""
    with tempfile.TemporaryDirectory(dir=_parent(target)) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        files = []
        for c in converted:
            file = f"model.{c.format}"
            (folder / file).write_bytes(c.content)
            files.append(
                BundledFile(
                    file,
                    len(c.content),
                    hashlib.sha256(c.content).hexdigest(),
                    c.format,
                    c.precision,
                    c.offset,
                )
            )
        manifest = Manifest(
            schema=SCHEMA,
            name=name,
            version=version,
            intended_use=INTENDED_USE,
            labels=run.labels,
            input=run.input,
            outputs=outputs,
            calibration=Calibration(temperature, SPLIT),
            operating_points=points,
            default_operating_point=points[0].name,
            files=tuple(files),
            known_answers=_known_answers(run, converted),
            metrics=metrics,
            provenance=provenance,
            quality=quality,
        )
        # The card is made from the manifest and then listed in it.
        card = write_model_card(manifest).encode()
        (folder / "MODEL_CARD.md").write_bytes(card)
        listed = BundledFile("MODEL_CARD.md", len(card), hashlib.sha256(card).hexdigest())
        manifest = dataclasses.replace(manifest, files=(*manifest.files, listed))
        (folder / "manifest.json").write_bytes(dump_manifest(manifest))
        _verify(folder)
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    return manifest


def _known_answers(run: Run, converted: list[_Converted]) -> tuple[KnownAnswer, ...]:
    engines = {c.engine.family: c.engine for c in converted}
    offsets = {c.engine.family: c.offset for c in converted}
    for c in converted:
        if c.format == "tflite":
            engines["tflite-builtin"] = reference_kernels(c.content)
            offsets["tflite-builtin"] = c.offset
    return make_known_answers(run.input, engines, offsets)


def _verify(folder: Path) -> None:
    """Checksums, schema and known answers, with fresh engines, as on a device."""
    load_bundle(folder).verify_files()
    for engine in ("litert", "onnxruntime"):
        screener = Screener.load(folder, engine=engine, check=False)
        for answer in screener.bundle.manifest.known_answers:
            if screener.check_known_answer(answer) is None:
                raise gate.GateError(f"{engine}: known answer {answer.name!r} has no logits")


def _provenance(run: Run, representative: list[str]) -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    keys = ("recipe", "weights", "data", "source_commit", "outcome")
    return {key: run.description[key] for key in keys} | {
        "training_versions": run.description["versions"],
        "export_versions": versions,
        "representative": representative,
    }


def _parent(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent
