"""The result record: one JSON object per image. `schemas/result-1.schema.json` in types."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from edge_runtime.parse import from_mapping, to_mapping

SCHEMA = "cxr-edge/result/1"


@dataclasses.dataclass(frozen=True)
class Quality:
    """May the model judge this image? Flags name what speaks against it."""

    accepted: bool = True
    flags: tuple[str, ...] = ()
    ood_score: float | None = None


@dataclasses.dataclass(frozen=True)
class ModelIdentity:
    """Which bundle and engine gave the answer; `sha256` is that of the bundle's manifest."""

    name: str
    version: str
    sha256: str
    engine: str


@dataclasses.dataclass(frozen=True)
class RecordError:
    code: str
    message: str


@dataclasses.dataclass(frozen=True)
class Record:
    """Result of one image. The same bytes, bundle and engine give the same record."""

    source: str
    sha256: str | None  # of the file's bytes; None where they could not be read
    status: str  # ok | rejected | error
    probability: float | None  # calibrated, of pneumonia
    decision: str | None  # pneumonia | normal | uncertain
    operating_point: str
    threshold: float
    quality: Quality
    model: ModelIdentity
    error: RecordError | None = None
    probabilities: Mapping[str, float] | None = None  # by label, for more than two labels
    timing_ms: Mapping[str, float] | None = None
    schema: str = SCHEMA

    def to_json(self) -> str:
        """One line of JSON. `probabilities` and `timing_ms` appear only where they have a value."""
        mapping = to_mapping(self)
        ordered = {"schema": mapping.pop("schema")} | mapping
        for optional in ("probabilities", "timing_ms"):
            if ordered[optional] is None:
                del ordered[optional]
        return json.dumps(ordered, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(line: str) -> Record:
        """The inverse of `to_json`.

        Raises:
            InvalidValueError: Unknown or missing keys, or wrong types.
            ValueError: Not JSON.
        """
        return from_mapping(Record, json.loads(line), "record")
