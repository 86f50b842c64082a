"""One row per film: the record's fields as typed columns, and what its file tells of itself.

Of DICOM's header a row holds the view, the modality, the body part, the machine (manufacturer and
model), the age in whole years (90 stands for 90 and more) and the month of the study. Nothing else
is taken, unless it is named.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.readers.facts import ImageFacts
from edge_runtime.records.record import Record

SCHEMA = "cxr-edge/archive/1"
NAMED = "dicom_"  # before the keyword of a column that was asked for
_OLDEST = 90  # years
# By type, in the order of the file.
_COLUMNS: dict[str, str] = {
    "source": "string",
    "shard": "string",
    "run": "string",
    "size": "int64",
    "stamp": "string",
    "sha256": "string",
    "status": "string",
    "probability": "double",
    "decision": "string",
    "operating_point": "string",
    "threshold": "double",
    "population": "string",
    "site": "string",
    "accepted": "bool",
    "flags": "list<string>",
    "ood_score": "double",
    "error_code": "string",
    "error_message": "string",
    "model_name": "string",
    "model_version": "string",
    "model_sha256": "string",
    "engine": "string",
    "findings": "findings",
    "probabilities": "map<string, double>",
    "height": "int32",
    "width": "int32",
    "modality": "string",
    "view": "string",
    "body_part": "string",
    "machine": "string",
    "age_years": "int32",
    "month": "string",
}


def arrow_schema(named: Sequence[str] = ()) -> Any:
    """The `pyarrow.Schema` of a file of rows.

    Args:
        named: DICOM keywords that are columns too.
    """
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "int32": pa.int32(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "list<string>": pa.list_(pa.string()),
        "map<string, double>": pa.map_(pa.string(), pa.float64()),
        "findings": pa.list_(
            pa.struct(
                [
                    ("name", pa.string()),
                    ("probability", pa.float64()),
                    ("threshold", pa.float64()),
                    ("decision", pa.string()),
                ]
            )
        ),
    }
    fields = [pa.field(name, types[kind]) for name, kind in _COLUMNS.items()]
    fields += [pa.field(f"{NAMED}{keyword}", pa.string()) for keyword in named]
    return pa.schema(fields, metadata={"schema": SCHEMA})


def row_of(record: Record, facts: ImageFacts | None = None) -> dict[str, Any]:
    """A record as a row, but for `shard`, `run`, `size` and `stamp`, which its reader knows."""
    quality, model, error = record.quality, record.model, record.error
    row: dict[str, Any] = {
        "source": record.source,
        "sha256": record.sha256,
        "status": record.status,
        "probability": record.probability,
        "decision": record.decision,
        "operating_point": record.operating_point,
        "threshold": record.threshold,
        "population": record.population,
        "site": record.site,
        "accepted": quality.accepted,
        "flags": list(quality.flags),
        "ood_score": quality.ood_score,
        "error_code": error.code if error else None,
        "error_message": error.message if error else None,
        "model_name": model.name,
        "model_version": model.version,
        "model_sha256": model.sha256,
        "engine": model.engine,
    }
    if record.findings is not None:
        row["findings"] = [
            {"name": n, "probability": f.probability, "threshold": f.threshold,
             "decision": f.decision}
            for n, f in record.findings.items()
        ]  # fmt: skip
    if record.probabilities is not None:
        row["probabilities"] = dict(record.probabilities)
    if facts is not None:
        row |= _facts(facts)
    return row


def _facts(facts: ImageFacts) -> dict[str, Any]:
    age = facts.age_years
    day = datetime.date.fromordinal(facts.date) if facts.date else None
    return {
        "height": facts.height,
        "width": facts.width,
        "modality": facts.modality,
        "view": facts.view,
        "body_part": facts.body_part,
        "machine": facts.machine,
        "age_years": None if age is None else min(int(age), _OLDEST),
        "month": None if day is None else f"{day:%Y-%m}",
    }


def check_keywords(keywords: Sequence[str]) -> None:
    """Raise InvalidValueError unless each is the keyword of a DICOM attribute that is text."""
    if not keywords:
        return
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise InvalidValueError(
                f"no DICOM attribute has the keyword {keyword[:60]!r}; PatientID and "
                "InstitutionName, say, are some"
            )
        if {"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"} & {*dictionary_VR(tag).split()}:
            raise InvalidValueError(f"{keyword} is no text, so it can be no column")
    if len(set(keywords)) != len(keywords):
        raise InvalidValueError(f"a column is named twice: {', '.join(keywords)}")
