"""Immutable records: dataclasses whose methods are shared instead of generated.

`dataclasses.dataclass(frozen=True)` writes and compiles source for every class, which takes a third
to two thirds of a millisecond each; for the two dozen classes that screening one image needs that
was a tenth of a cold start. Defaults, `__post_init__`, `dataclasses.replace`, `fields` and `asdict`
work as ever, and type checkers see a frozen dataclass.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(cls: type[T]) -> type[T]:
    """As `dataclasses.dataclass(frozen=True)`, for classes without inheritance."""
    made: Any = cls
    made.__doc__ = cls.__doc__ or cls.__name__  # without one, `dataclass` takes time to write one
    dataclasses.dataclass(init=False, repr=False, eq=False)(made)
    fields = dataclasses.fields(made)
    made._names = tuple(field.name for field in fields)
    made._known = frozenset(made._names)
    made._defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    made._factories = tuple(
        (f.name, f.default_factory) for f in fields if f.default_factory is not dataclasses.MISSING
    )
    made._checked = hasattr(cls, "__post_init__")
    for name, method in _METHODS.items():
        setattr(made, name, method)
    return cls


def _init(self: Any, /, *args: Any, **given: Any) -> None:
    cls = type(self)
    values = self.__dict__
    values.update(cls._defaults)
    if args:
        values.update(zip(cls._names, args, strict=False))
        if len(args) > len(cls._names) or not given.keys().isdisjoint(cls._names[: len(args)]):
            raise TypeError(f"{cls.__name__}: too many values, or one given twice")
    values.update(given)
    for name, factory in cls._factories:
        if name not in values:
            values[name] = factory()
    if values.keys() != cls._known:
        missing = [name for name in cls._names if name not in values]
        unknown = [name for name in values if name not in cls._known]
        raise TypeError(f"{cls.__name__}: missing fields {missing}, unknown fields {unknown}")
    if cls._checked:
        self.__post_init__()


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self._names])


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
    return f"{type(self).__qualname__}({values})"


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(self: Any, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
}
