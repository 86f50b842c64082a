"""Schema files and dataclasses name the same fields: none can be forgotten in one of them."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.device.bench_result import BenchResult
from edge_runtime.records.record import Record
from tests.conftest import ROOT

SCHEMAS = ROOT / "edge_runtime" / "schemas"


def unwrapped(hint: Any) -> Any:
    """The type inside `X | None`, `tuple[X, ...]` and `Mapping[str, X]`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        return unwrapped(inner)
    if origin is tuple and arguments[-1] is Ellipsis:
        return unwrapped(arguments[0])
    if origin is not None and issubclass(origin, Mapping):
        return unwrapped(arguments[1])
    return hint


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The object schema behind references, `oneOf` with null, items and additional properties."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(target, root)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            (inner,) = (s for s in schema[key] if s.get("type") != "null")
            return resolved(inner, root)
    if "items" in schema:
        return resolved(schema["items"], root)
    if "properties" not in schema and isinstance(schema.get("additionalProperties"), dict):
        return resolved(schema["additionalProperties"], root)
    return schema


def differences(cls: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    """Fields that only one of the two has, required ones that are optional in the other."""
    schema = resolved(schema, root)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    properties = schema.get("properties", {})
    for name in sorted(set(fields) ^ set(properties)):
        yield f"{at}.{name}: only in the {'dataclass' if name in fields else 'schema'}"
    for name in schema.get("required", ()):
        if name not in fields:
            yield f"{at}.{name}: required, and unknown to the dataclass"
    if schema.get("additionalProperties") is not False:
        yield f"{at}: additionalProperties must be false, as an unknown key is an error"
    hints = typing.get_type_hints(cls)
    for name in sorted(set(fields) & set(properties)):
        inner = unwrapped(hints[name])
        if dataclasses.is_dataclass(inner):
            yield from differences(inner, properties[name], root, f"{at}.{name}")


@pytest.mark.parametrize(
    ("cls", "name"),
    [(Record, "result-1"), (Manifest, "bundle-1"), (BenchResult, "bench-1")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_and_dataclass_name_the_same_fields(cls: type, name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert list(differences(cls, schema, schema, cls.__name__)) == []


def test_a_forgotten_field_is_found_at_any_depth() -> None:
    schema = json.loads((SCHEMAS / "result-1.schema.json").read_text(encoding="utf-8"))
    model = resolved(schema["properties"]["model"], schema)
    del model["properties"]["engine"]
    found = list(differences(Record, schema, schema, "Record"))
    assert "Record.model.engine: only in the dataclass" in found
