"""The result record: one JSON object per image. `schemas/result-1.schema.json` in types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.parse import from_mapping
from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.quality import Quality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.images.readers.facts import ImageFacts

SCHEMA = "cxr-edge/result/1"
# What `Examination.stages` times. The hash is counted where it is waited for.
STAGES = ("read", "decode", "preprocess", "infer", "post")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@frozen
class ModelIdentity:
    """Which bundle and engine gave the answer; `sha256` is that of the bundle's manifest."""

    name: str
    version: str
    sha256: str
    engine: str


@frozen
class RecordError:
    code: str
    message: str


@frozen
class FindingResult:
    """One finding of a model that tells several, by its own threshold."""

    probability: float  # calibrated
    threshold: float
    decision: str  # present | absent | uncertain


@frozen
class Record:
    """Result of one image. The same bytes, bundle and engine give the same record."""

    source: str
    sha256: str | None  # of the file's bytes; None where they could not be read
    status: str  # ok | rejected | error
    probability: float | None  # calibrated, of pneumonia, or of any finding
    decision: str | None  # normal | uncertain | pneumonia, or abnormal of models of other findings
    operating_point: str
    threshold: float
    quality: Quality
    model: ModelIdentity
    error: RecordError | None = None
    # By label, for more than two labels that exclude each other.
    probabilities: Mapping[str, float] | None = None
    timing_ms: Mapping[str, float] | None = None
    population: str | None = None  # whose threshold decided, where it is not that of all
    findings: Mapping[str, FindingResult] | None = None  # of models that call a film abnormal
    site: str | None = None  # SHA-256 of the site profile in force
    schema: str = SCHEMA

    def to_json(self) -> str:
        """One line of JSON; the last five fields of `Record` only where they have a value."""
        # Written out: this runs for every image, and the general `to_mapping` costs ten times it.
        quality, model, error = self.quality, self.model, self.error
        fields: dict[str, object] = {
            "schema": self.schema,
            "source": self.source,
            "sha256": self.sha256,
            "status": self.status,
            "probability": self.probability,
            "decision": self.decision,
            "operating_point": self.operating_point,
            "threshold": self.threshold,
            "quality": {
                "accepted": quality.accepted,
                "flags": quality.flags,
                "ood_score": quality.ood_score,
            },
            "model": {
                "name": model.name,
                "version": model.version,
                "sha256": model.sha256,
                "engine": model.engine,
            },
            "error": error and {"code": error.code, "message": error.message},
        }
        if self.population is not None:
            fields["population"] = self.population
        if self.site is not None:
            fields["site"] = self.site
        if self.findings is not None:
            fields["findings"] = {
                name: {
                    "probability": one.probability,
                    "threshold": one.threshold,
                    "decision": one.decision,
                }
                for name, one in self.findings.items()
            }
        if self.probabilities is not None:
            fields["probabilities"] = dict(self.probabilities)
        if self.timing_ms is not None:
            fields["timing_ms"] = dict(self.timing_ms)
        return _ENCODER.encode(fields)

    @staticmethod
    def from_json(line: str) -> Record:
        """The inverse of `to_json`.

        Raises:
            InvalidValueError: Unknown or missing keys, or wrong types.
            ValueError: Not JSON.
        """
        return from_mapping(Record, strict_loads(line), "record")


@frozen
class MadeWith:
    """What one result was made with."""

    model_sha256: str
    engine: str
    operating_point: str
    population: str | None
    threshold: float
    site: str | None


@frozen
class Conditions:
    """What all results of one file are made with."""

    model_sha256: str
    engine: str
    operating_point: str
    thresholds: Mapping[str | None, float]  # by population; None: of all
    with_findings: bool = False  # of a model that tells several
    site: str | None = None  # SHA-256 of the site profile in force

    def check(self, result: MadeWith, where: str) -> None:
        """Raises InvalidValueError where a result was made with something else."""
        whose = result.population
        now: Mapping[str, object] = {
            "model_sha256": self.model_sha256,
            "engine": self.engine,
            "operating_point": self.operating_point,
            "population": whose if whose in self.thresholds else next(iter(self.thresholds)),
            "threshold": self.thresholds.get(whose),
            "site": self.site,
        }
        for name, value in now.items():
            then = getattr(result, name)
            if value != then:
                raise InvalidValueError(
                    f"{where} was made with {name} {then}, now it is {value}; name another "
                    "--output, or screen as before"
                )


@frozen
class Examination:
    """A record with what it was made of; the arrays are None where the image gave an error."""

    record: Record
    pixels: NDArray[np.uint8] | None = None  # (height, width, 1), as the model saw them
    evidence_map: NDArray[np.float32] | None = None  # (rows, columns), log odds of disease
    stages: Mapping[str, float] | None = None  # seconds by stage, in order: see STAGES
    evidence_floor: float = 0.0  # log odds that cells of normal images reach too: not shown
    aspect: float = 1.0  # width of the film by its height, before it was prepared
    # By finding, of models that tell several: (rows, columns), log odds of each.
    finding_maps: Mapping[str, NDArray[np.float32]] | None = None
    features: NDArray[np.float32] | None = None  # (channels,) pooled
    logit: float | None = None  # log odds of disease before temperature, of the bundle alone
    facts: ImageFacts | None = None  # what the reader learnt beside the pixels


def milliseconds(stages: Mapping[str, float]) -> dict[str, float]:
    """`timing_ms` of a record, from seconds by stage; reading counts as decoding."""
    return {
        "decode": round((stages["read"] + stages["decode"]) * 1e3, 3),
        "preprocess": round(stages["preprocess"] * 1e3, 3),
        "inference": round(stages["infer"] * 1e3, 3),
    }
