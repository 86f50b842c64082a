"""Manifests, site profiles and audit logs in which anything may stand anywhere."""

from __future__ import annotations

import atexit
import copy
import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import dump_manifest, parse_manifest
from edge_runtime.bundle.site_profile import load_profile
from edge_runtime.errors import CxrEdgeError
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import AuditLog, read_log
from edge_runtime.records.record import Record
from tests.fuzz.files import damage

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 1e308, -1e308, 5e-324, 2**31, 2**63, 10**39, "", "x",
    "../../etc/passwd", "\0", "\u202e", "A" * 1000, [], {}, [[]], [0, 1], {"a": 1}, "NaN", "0.5",
)  # fmt: skip
_RAW = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"1" + b"0" * 400, b"[" * 3000,
        b'{"a":' * 2000, b'"\\ud800"', b"01", b"+1", b"/**/", b"\xff")  # fmt: skip


def manifest_case(rng: np.random.Generator) -> str:
    """A manifest is what it says, or refused."""
    return _tried(lambda: parse_manifest(_changed(_manifest(), rng)))


def profile_case(rng: np.random.Generator) -> str:
    """So is a site profile."""
    path = _folder() / "site.json"
    path.write_bytes(_changed(_profile(), rng))
    return _tried(lambda: load_profile(path))


def record_case(rng: np.random.Generator) -> str:
    """So is a record that is read back to go on from it."""
    text = _changed(json.loads(_record()), rng).decode("utf-8", "replace")
    try:
        return _tried(lambda: Record.from_json(text))
    except ValueError:
        return "ValueError"


def audit_case(rng: np.random.Generator) -> str:
    """A log is whole, or it is said where it is not; what can be read of it is."""
    lines = list(_log())
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        match rng.integers(0, 4):
            case 0:
                lines[at] = _changed(json.loads(_log()[at % len(_log())]), rng)
            case 1:
                lines[at] = damage(lines[at], list(_log()), rng)
            case 2:
                del lines[at]
                lines = lines or [b""]
            case 3:
                lines.insert(at, lines[int(rng.integers(len(lines)))])
    content = b"\n".join(lines) + b"\n"
    folder = _folder() / "audit"
    (folder / "audit-000001.jsonl").write_bytes(content)

    def verify() -> None:
        _, problems = verify_log(str(folder))
        assert problems or _meaning(lines) == _meaning(_log()), "a changed log is called whole"
        list(read_log(str(folder)))

    return _tried(verify)


def _meaning(lines: Sequence[bytes]) -> list[str]:
    """What is said, whatever the spaces: what the chain is over."""
    return [json.dumps(json.loads(line), sort_keys=True) for line in lines if line.strip()]


def _tried(work: Any) -> str:
    try:
        work()
    except CxrEdgeError as error:
        assert str(error), "an error without a reason"
        return type(error).__name__
    return "ok"


def _changed(document: Any, rng: np.random.Generator) -> bytes:
    """The document with one to three strange things in it, as JSON or nearly so."""
    document = copy.deepcopy(document)
    marks = {}
    for number in range(int(rng.integers(1, 4))):
        place, key = _anywhere(document, rng)
        match rng.integers(0, 6):
            case 0 | 1:
                place[key] = _VALUES[int(rng.integers(len(_VALUES)))]
            case 2:
                del place[key]
            case 3 if isinstance(place, dict):
                place[f"{key}x"] = place.pop(key)
            case 4:
                place[key] = [place[key]]
            case _:
                mark = f"mark-{number}"
                place[key] = mark
                marks[json.dumps(mark).encode()] = _RAW[int(rng.integers(len(_RAW)))]
        if not document:
            break
    text = json.dumps(document).encode()
    for mark, raw in marks.items():
        text = text.replace(mark, raw)
    if rng.random() < 0.05:
        text = damage(text, [text], rng)
    return text


def _anywhere(document: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """(container, key) of some value, at any depth."""
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(rng.integers(len(keys)))]
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
            return place, key
        place = inner


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    atexit.register(shutil.rmtree, folder, True)
    return folder


@cache
def _manifest() -> Any:
    """The smallest bundle's, without what makes it long."""
    document = json.loads(dump_manifest(load_bundle("tiny").manifest))
    document["provenance"] = {}
    document["known_answers"] = document["known_answers"][:1]
    return document


@cache
def _profile() -> Any:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    row = {
        "sensitivity": estimate, "specificity": estimate, "ppv": estimate, "npv": estimate,
    }  # fmt: skip
    import dataclasses

    from edge_runtime.bundle import site_profile

    for field in dataclasses.fields(site_profile.ThresholdRow):
        kind = str(field.type)
        row[field.name] = {"float": 0.5, "int": 5}.get(kind, estimate)  # type: ignore[assignment]
    row = {f.name: row[f.name] for f in dataclasses.fields(site_profile.ThresholdRow)}
    return {
        "schema": site_profile.SCHEMA, "name": "site", "bundle_sha256": "0" * 64, "model": "m",
        "engine": "e", "engine_family": "litert", "images": 10, "positives": 5, "refused": 0,
        "prevalence": 0.1, "temperature": 1.0, "temperature_refitted": False, "auc": estimate,
        "chosen": row, "strata": [], "reference": _manifest()["reference"],
        "operating_point": {
            "name": "site", "threshold": 0.5, "rule": "r", "split": "site",
            "sensitivity": estimate, "specificity": estimate, "uncertain": None,
        },
    }  # fmt: skip


@cache
def _record() -> str:
    from edge_runtime import Screener

    return Screener.load("tiny", force=True).screen(b"").to_json()


@cache
def _log() -> tuple[bytes, ...]:
    folder = _folder() / "audit"
    log = AuditLog(str(folder))
    for _ in range(4):
        log.record(Record.from_json(_record()))
    log.close()
    return tuple((folder / "audit-000001.jsonl").read_bytes().splitlines())
