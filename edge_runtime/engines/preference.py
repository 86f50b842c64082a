"""The engine that `doctor --choose` found to be the fastest with right answers on this machine.

It stands in a small file, $CXR_EDGE_ENGINE_FILE or cxr-edge/engine.json below $XDG_CONFIG_HOME
(~/.config), which nothing else writes. `auto` takes that engine first; `info` and `doctor` say so.
A file that cannot be read, or that names an engine that is not here, changes nothing.

Source: XDG Base Directory Specification 0.8, for the place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from edge_runtime.basics.files import write_whole
from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.regular_file import TooLargeError, read_regular
from edge_runtime.engines.names import ENGINE_NAMES

SCHEMA = "cxr-edge/engine/1"
_MOST_BYTES = 10_000


@frozen
class Preference:
    engine: str
    milliseconds: Mapping[str, float]  # of one run of the network, by engine
    date: str


def preference_file() -> str:
    """Where it stands, whether it does or not."""
    named = os.environ.get("CXR_EDGE_ENGINE_FILE")
    if named:
        return named
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(config, "cxr-edge", "engine.json")


def read_preference() -> Preference | None:
    """What was chosen; None where nothing was, or where the file is not one of ours."""
    try:
        told = json.loads(read_regular(preference_file(), _MOST_BYTES))
        found = Preference(told["engine"], dict(told["milliseconds"]), str(told["date"]))
        return found if told["schema"] == SCHEMA and found.engine in ENGINE_NAMES else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, TooLargeError):
        return None


def write_preference(preference: Preference) -> str:
    """Keep it, and return the file's path.

    Raises:
        OSError: It cannot be written.
    """
    path = preference_file()
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    document = {
        "schema": SCHEMA,
        "engine": preference.engine,
        "milliseconds": dict(preference.milliseconds),
        "date": preference.date,
    }
    write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
    return path


def in_order() -> tuple[str, ...]:
    """The engines in the order in which `auto` tries them."""
    chosen = read_preference()
    if chosen is None:
        return ENGINE_NAMES
    return (chosen.engine, *(name for name in ENGINE_NAMES if name != chosen.engine))
