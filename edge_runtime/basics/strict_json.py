"""JSON that was written by us, read back as if by anybody: what is not plain JSON is damage.

Python's reader takes a key twice (the last one counts), NaN and Infinity, which are no JSON, and
numbers of any length; and ends in a RecursionError where brackets are deep. Source: RFC 8259.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

_LONGEST_NUMBER = 40  # digits


def strict_loads(text: str | bytes) -> Any:
    """The value of one JSON text.

    Raises:
        ValueError: It is none, or says a key twice, or holds what no number of ours is.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_int=_integer
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)
