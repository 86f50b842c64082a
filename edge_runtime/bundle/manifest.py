"""manifest.json of a model bundle as frozen dataclasses; `schemas/bundle-1.schema.json` in types.

Loading never evaluates, unpickles or follows anything a manifest says: it is numbers and names.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.parse import at, from_mapping, to_mapping
from edge_runtime.errors import BundleError, InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from edge_runtime.judge.finding import Finding
from edge_runtime.judge.operating_point import ABNORMAL, PNEUMONIA, OperatingPoint
from edge_runtime.judge.population import ANY, AUTO, Population
from edge_runtime.judge.quality import QualityGate
from edge_runtime.judge.reference import Reference
from edge_runtime.statistics.estimates import Estimate, PairedDifference

SCHEMA = "cxr-edge/bundle/1"
FORMATS = ("tflite", "onnx")
ACTIVATIONS = ("sigmoid", "softmax")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_FILE_BYTES = 200_000_000
_HIGHEST_FLOOR = 100


@frozen
class BundledFile:
    """A file of the bundle. Model files name their format; documents have format null."""

    path: str
    size_bytes: int
    sha256: str
    format: str | None = None  # tflite | onnx
    precision: str | None = None  # int8 | float32
    # Added to the raw logits: the mean shift that quantisation causes, measured on the
    # representative data and taken back. Source: bias correction, Nagel et al., ICCV 2019.
    logit_offset: tuple[float, ...] = ()


@frozen
class Outputs:
    """The two tensors a model yields, without the batch axis.

    The mean of the evidence map over its positions is the raw logit (one per unit). With
    activation "sigmoid" each unit is that of one label after the first, and judges it for itself;
    with "softmax" there is a unit per label, and labels exclude each other. `scores.disease_logit`
    makes one score of them.
    """

    map_shape: tuple[int, int, int]  # (rows, columns, units)
    features: int  # length of the pooled feature vector
    activation: str


@frozen
class Calibration:
    """The temperature divides the log odds of any disease: `scores.disease_probability`."""

    temperature: float
    split: str


@frozen
class KnownAnswer:
    """A synthetic image, the hash of its prepared tensor, and the logits it must give.

    Engines of one family agree to `tolerance`; families differ by design, hence one entry each.
    """

    name: str
    image_base64: str
    tensor_sha256: str
    logits: Mapping[str, tuple[float, ...]]  # engine family -> corrected logits
    tolerance: Mapping[str, float]  # engine family -> largest allowed difference

    @property
    def image(self) -> bytes:
        return base64.b64decode(self.image_base64, validate=True)


@frozen
class ModelMetrics:
    """What one model file measured on one split, beside the float model on the same images.

    Of any disease, or of one finding against all other films.
    """

    model: str
    engine: str
    split: str
    images: int
    auc: Estimate
    difference: PairedDifference | None  # to the float model
    agreement: float | None  # share of equal decisions at the default operating point
    max_probability_difference: float | None
    finding: str | None = None


@frozen
class Answers:
    """What a point with a grey band, which has three answers, gave films of either kind."""

    ill_pneumonia: Estimate  # share of the ill that is called pneumonia; the rest is missed
    ill_uncertain: Estimate
    normal_normal: Estimate
    normal_uncertain: Estimate


@frozen
class Expected:
    """What an operating point did on films that chose nothing, and so may be expected to do.

    Sensitivity and specificity are those at the threshold, whatever lies in a grey band;
    `not_ruled_out` is the share of the ill that is called pneumonia or uncertain.
    """

    films: str  # whose: "" for the test split, else the names of the sources
    split: str  # test | held out
    operating_point: str
    normal: int  # films
    pneumonia: int
    sensitivity: Estimate
    specificity: Estimate
    not_ruled_out: Estimate | None = None  # for points with a grey band
    population: str | None = None  # whose point it is; null of the points of all
    answers: Answers | None = None  # of points with a grey band

    def flattery(self) -> float:
        """The sum of what it gets right of either kind: 2 is a flawless point."""
        right = self.sensitivity, self.specificity
        if self.answers is not None:
            right = self.answers.ill_pneumonia, self.answers.normal_normal
        return sum(share.value for share in right)


@frozen
class Manifest:
    """All of manifest.json."""

    schema: str
    name: str
    version: str
    intended_use: str
    labels: tuple[str, ...]
    input: InputSpec
    outputs: Outputs
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    default_operating_point: str
    files: tuple[BundledFile, ...]
    known_answers: tuple[KnownAnswer, ...]
    metrics: tuple[ModelMetrics, ...]
    provenance: Mapping[str, Any]
    quality: QualityGate | None = None  # null where none was fitted: nothing is refused
    reference: Reference | None = None  # what `audit drift` compares with
    # Log odds that the hottest cell of nine in ten normal validation images stays below: overlays
    # show what is above.
    evidence_floor: float = 0.0
    expected: tuple[Expected, ...] = ()  # what people are told of the operating points
    translations: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of intended_use
    populations: tuple[Population, ...] = ()  # () where one set of points serves all
    positive: str = PNEUMONIA  # what a film is called that is not normal: pneumonia | abnormal
    findings: tuple[Finding, ...] = ()  # labels after the first, where `positive` is "abnormal"

    @property
    def tells_one_score(self) -> bool:
        """Whether a film gets one probability and no findings beside it."""
        return not self.findings and len(self.labels) == 2

    def operating_point(
        self, name: str | None = None, population: str | None = None
    ) -> OperatingPoint:
        """The named operating point, or the default one, of all films or of a population's.

        Raises:
            InvalidValueError: No such name, or no such population; the message lists those there
                are.
        """
        wanted = name or self.default_operating_point
        points = self.operating_points
        if population is not None:
            points = self.population(population).operating_points
        for point in points:
            if point.name == wanted:
                return point
        names = ", ".join(point.name for point in self.operating_points)
        raise InvalidValueError(f"no operating point {wanted!r} in this bundle; it has {names}")

    def population(self, name: str) -> Population:
        """The population of that name.

        Raises:
            InvalidValueError: There is none; the message lists those there are.
        """
        for population in self.populations:
            if population.name == name:
                return population
        names = ", ".join([AUTO, ANY, *(each.name for each in self.populations)])
        raise InvalidValueError(f"no population {name!r} in this bundle; it has {names}")

    def expectations(self, point: str, population: str | None = None) -> list[Expected]:
        """What is known of an operating point, the least flattering first."""
        return sorted(
            (
                known
                for known in self.expected
                if (known.operating_point, known.population) == (point, population)
            ),
            key=Expected.flattery,
        )

    def model_file(self, format_name: str) -> BundledFile | None:
        """The model file of a format, or None where the bundle has none."""
        return next((f for f in self.files if f.format == format_name), None)


def parse_manifest(text: bytes) -> Manifest:
    """manifest.json -> Manifest.

    Raises:
        BundleError: Not JSON, another schema, an unknown or missing key, a wrong type, or values
            that contradict each other or point outside the bundle.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"manifest.json is not valid JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"manifest.json: schema is {schema!r}, this version reads {SCHEMA!r}; "
            "install the cxr-edge version that the bundle was made for"
        )
    try:
        manifest = from_mapping(Manifest, document, "manifest.json")
        _check(manifest)
    except InvalidValueError as error:
        raise BundleError(str(error)) from error
    return manifest


def dump_manifest(manifest: Manifest) -> bytes:
    """The inverse of `parse_manifest`, with stable formatting."""
    document: dict[str, Any] = to_mapping(manifest)
    if not manifest.findings:  # nothing is said of them in a bundle that has none
        del document["findings"], document["positive"]
        for row in document["metrics"]:
            del row["finding"]
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _check(manifest: Manifest) -> None:
    _check_outputs(manifest)
    names = [file.path for file in manifest.files]
    if len(set(names)) != len(names):
        raise InvalidValueError(f"manifest.json: files are listed twice: {names}")
    units = manifest.outputs.map_shape[2]
    for file in manifest.files:
        where = f"manifest.json: file {file.path!r}"
        if not _PLAIN_NAME.fullmatch(file.path):
            raise InvalidValueError(f"{where}: must be a plain name inside the bundle")
        if not _SHA256.fullmatch(file.sha256):
            raise InvalidValueError(f"{where}: sha256 is not 64 hexadecimal digits")
        if not 0 < file.size_bytes <= _MAX_FILE_BYTES:
            raise InvalidValueError(
                f"{where}: size_bytes {file.size_bytes} is not 1 to {_MAX_FILE_BYTES}"
            )
        if file.format not in (None, *FORMATS):
            raise InvalidValueError(f"{where}: format {file.format!r} is none of {FORMATS}")
        if file.format and len(file.logit_offset) != units:
            raise InvalidValueError(f"{where}: logit_offset needs {units} values")
    if not 0.01 <= manifest.calibration.temperature <= 100:
        raise InvalidValueError(
            f"manifest.json: temperature {manifest.calibration.temperature} is not 0.01 to 100"
        )
    for point in manifest.operating_points:
        with at("manifest.json"):
            point.check()
    manifest.operating_point()
    whose = [population.name for population in manifest.populations]
    if len(set(whose)) != len(whose):
        raise InvalidValueError(f"manifest.json: populations are listed twice: {whose}")
    for population in manifest.populations:
        with at("manifest.json"):
            population.check()
            _check_same_points(manifest, population)
    _check_findings(manifest)
    if not 0 <= manifest.evidence_floor <= _HIGHEST_FLOOR:
        raise InvalidValueError(
            f"manifest.json: evidence_floor {manifest.evidence_floor} is not 0 to {_HIGHEST_FLOOR}"
        )
    if manifest.quality is not None:
        with at("manifest.json: quality"):
            manifest.quality.check(manifest.outputs.features)
    if manifest.reference is not None:
        with at("manifest.json: reference"):
            manifest.reference.check()
    for answer in manifest.known_answers:
        try:
            size = len(answer.image)
        except (binascii.Error, ValueError) as error:
            raise InvalidValueError(
                f"manifest.json: known answer {answer.name!r}: image is not base64"
            ) from error
        if size > 1_000_000 or set(answer.logits) != set(answer.tolerance):
            raise InvalidValueError(
                f"manifest.json: known answer {answer.name!r}: image over 1 MB, or families of "
                "logits and tolerance differ"
            )


def _check_same_points(manifest: Manifest, population: Population) -> None:
    names, others = (
        [point.name for point in points]
        for points in (manifest.operating_points, population.operating_points)
    )
    if names != others:
        raise InvalidValueError(
            f"population {population.name!r} has the operating points {others}, the bundle {names}"
        )


def _check_findings(manifest: Manifest) -> None:
    if manifest.positive not in (PNEUMONIA, ABNORMAL):
        raise InvalidValueError(
            f"manifest.json: positive {manifest.positive!r} is neither {PNEUMONIA} nor {ABNORMAL}"
        )
    wanted = list(manifest.labels[1:]) if manifest.positive == ABNORMAL else []
    if [finding.name for finding in manifest.findings] != wanted:
        raise InvalidValueError(
            f"manifest.json: findings {[f.name for f in manifest.findings]}, and with labels "
            f"{manifest.labels} and positive {manifest.positive!r} they are {wanted}"
        )
    names = [point.name for point in manifest.operating_points]
    for finding in manifest.findings:
        with at("manifest.json"):
            finding.check()
        if [point.name for point in finding.operating_points] != names:
            raise InvalidValueError(
                f"manifest.json: finding {finding.name!r} lacks operating points of {names}"
            )


def _check_outputs(manifest: Manifest) -> None:
    outputs, labels = manifest.outputs, manifest.labels
    units = {"sigmoid": len(labels) - 1, "softmax": len(labels)}.get(outputs.activation)
    if units is None or len(labels) < 2 or outputs.map_shape[2] != units:
        raise InvalidValueError(
            f"manifest.json: activation {outputs.activation!r} (of {ACTIVATIONS}), labels "
            f"{labels} and map_shape {outputs.map_shape} do not fit together"
        )
    if not (all(1 <= side <= 64 for side in outputs.map_shape) and 1 <= outputs.features <= 65536):
        raise InvalidValueError(
            f"manifest.json: outputs {outputs.map_shape}, {outputs.features} are out of range"
        )
    numbers = [o for file in manifest.files for o in file.logit_offset]
    if not all(math.isfinite(number) for number in numbers):
        raise InvalidValueError("manifest.json: logit_offset must be finite")
