"""Turn untrusted JSON or TOML mappings into frozen dataclasses, and back.

Unknown keys, missing keys and wrong types are errors that name the key and the value, so that a
misspelt setting can never be ignored silently.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from edge_runtime.errors import InvalidValueError

T = TypeVar("T")

_LARGEST_INT = 2**63
_HINTS: dict[type, dict[str, Any]] = {}  # resolving annotations is most of the work of parsing


def from_mapping(cls: type[T], mapping: object, where: str) -> T:
    """Build the dataclass `cls` from `mapping`.

    Args:
        cls: A dataclass whose fields are str, int, float, bool, None-unions, nested dataclasses,
            `tuple[X, ...]`, `Mapping[str, X]` or `Any`.
        mapping: What a JSON or TOML parser returned.
        where: Name of the document and place, for messages ("manifest.json: input").

    Raises:
        InvalidValueError: Unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise InvalidValueError(f"{where}: expected an object, got {_show(mapping)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = _HINTS.get(cls)
    if hints is None:
        # As `typing.get_type_hints` does, which takes three times as long: our own annotations,
        # in our own module.
        names = vars(sys.modules[cls.__module__])
        hints = _HINTS[cls] = {
            name: eval(f.type, names) if isinstance(f.type, str) else f.type
            for name, f in fields.items()
        }
    for key in mapping:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise InvalidValueError(f"{where}: unknown key {key!r}; known keys are {known}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InvalidValueError(f"{where}: missing key {name!r}")
    with at(where):  # what a check of its own refuses
        return cls(**values)


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """An InvalidValueError raised inside says where it was."""
    try:
        yield
    except InvalidValueError as error:
        raise InvalidValueError(f"{where}: {error}") from error


def read_document(path: str | os.PathLike[str], schema: str, what: str) -> dict[str, Any]:
    """A JSON file whose `schema` is this one.

    Args:
        path: Of the file.
        schema: What its "schema" has to be.
        what: Stands before the path in messages, "site profile ".

    Raises:
        InvalidValueError: Missing, not JSON, or of another schema.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{what}{path}: {error}") from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise InvalidValueError(f"{what}{path}: schema is {found!r}, expected {schema!r}")
    return dict(document)


def to_mapping(value: object) -> Any:
    """The inverse of `from_mapping`: dataclasses and tuples become plain dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_mapping(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_mapping(item) for item in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (option,) = (o for o in options if o is not type(None))
        return _convert(option, value, where)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise InvalidValueError(f"{where}: expected a list, got {_show(value)}")
        arguments = typing.get_args(hint)
        # Long lists of numbers are most of a manifest: no place is made up for each of them.
        if arguments == (float, ...) and all(type(item) is float for item in value):
            if not all(map(math.isfinite, value)):
                raise InvalidValueError(f"{where}: every number must be finite")
            return tuple(value)
        if arguments[-1] is Ellipsis:
            item_hints = [arguments[0]] * len(value)
        elif len(arguments) == len(value):
            item_hints = list(arguments)
        else:
            raise InvalidValueError(f"{where}: expected {len(arguments)} items, got {_show(value)}")
        return tuple(
            _convert(item_hint, item, f"{where}[{i}]")
            for i, (item_hint, item) in enumerate(zip(item_hints, value, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise InvalidValueError(f"{where}: expected an object, got {_show(value)}")
        item_hint = typing.get_args(hint)[1]
        return {key: _convert(item_hint, item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, where)
    if hint is int and isinstance(value, int) and abs(value) > _LARGEST_INT:
        raise InvalidValueError(f"{where}: {_show(value)} is out of range")
    # bool is a subclass of int: `epochs = true` must not pass for 1.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InvalidValueError(f"{where}: expected {hint.__name__}, got {_show(value)}")
    return value


def _finite(value: int | float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidValueError(f"{where}: must be a finite number, got {_show(value)}")
    return number


def _show(value: object) -> str:
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return "an integer of many digits"  # writing out thousands of them is refused by Python
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"
