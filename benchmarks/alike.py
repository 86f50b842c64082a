"""When figures and bundles made again are the same, and what of them another processor explains.

Engines and converters use the instructions that a processor has, and sum in another order with
others: activations differ in their last bits, scales of int8 weights in their last digits, and of
some thousand films one or two lie on the other side of a threshold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.basics.versions import installed_versions
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.device.machine import processor_kind

# Another machine's, or follows from it.
_TIMES = frozenset({"ms", "infer_ms", "on_frontier", "engine", "machine", "model"})

# How far figures may be from those of another processor.
_AUC, _THRESHOLD, _FIGURE, _FILMS = 0.002, 0.001, 0.02, 3
_SHARE = 0.05  # three films of sixty
_DECIBEL = 1.0  # of a layer's noise
_SHARES = ("sensitivity", "specificity", "accuracy", "agreement")
# Who made a bundle, which is told by itself.
_MAKERS = frozenset({"export_versions", "export_processor"})
# Ends of keys of files, and of extremes and p-values, which say nothing beside their figures.
_UNLIKE = ("sha256", "_base64", "p_value", "max_probability_difference")
_ABSENT = object()


def compare_figures(kept: Any, found: Any, place: str) -> Iterator[str]:
    """Two results of one command, in the four digits that documents show.

    Where the shipped bundles are of another processor or other converters, what differs by no more
    than these explain is a note.
    """
    lines = list(differing(kept, found, place, digits=4))
    if lines and (why := _shipped_elsewhere()):
        yield f"note: {why}: {len(lines)} figures differ"
        lines = list(_beyond(kept, found, place, _of_result, _TIMES))
    yield from lines


def _shipped_elsewhere() -> str:
    """`_elsewhere` of the first shipped bundle that has a reason."""
    for name in SHIPPED:
        theirs = load_bundle(name).manifest.provenance
        ours = {
            "export_versions": installed_versions(theirs["export_versions"]),
            "export_processor": processor_kind(),
        }
        if why := _elsewhere(theirs, ours):
            return why
    return ""


def compare_bundles(shipped: Path, made: Path) -> Iterator[str]:
    """What of two bundle folders differs; notes where processor or converters are others.

    Of the model card's text that follows from figures nothing is said where these are notes.
    """
    files = sorted(p.name for p in shipped.iterdir())
    unlike = [n for n in files if (shipped / n).read_bytes() != (made / n).read_bytes()]
    theirs, ours = (json.loads((f / "manifest.json").read_bytes()) for f in (shipped, made))
    why = _elsewhere(theirs["provenance"], ours["provenance"])
    for name in unlike:
        if name == "manifest.json" or (why and not name.startswith("model.")):
            continue
        one, two = ((folder / name).read_bytes() for folder in (shipped, made))
        count = sum(a != b for a, b in zip(one, two, strict=False))
        told = f"{name}: {count} of {len(one)} bytes, lengths {len(two)} and {len(one)}"
        yield f"note: {why}: {told}" if why else told
    if not why:
        yield from differing(theirs, ours, "manifest", digits=None)
    elif "manifest.json" in unlike:
        found = [line for line in differing(theirs, ours, "manifest", digits=6)
                 if not line.startswith("manifest.provenance.export_")]  # fmt: skip
        if found:
            yield f"note: {why}: {len(found)} figures of the manifest"
        yield from _beyond(theirs, ours, "manifest", _of_manifest, _MAKERS)


def _elsewhere(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Why bytes need not be the same, or nothing."""
    recorded = theirs["export_versions"]
    others = [
        f"{name} {ours['export_versions'].get(name)} instead of {version}"
        for name, version in recorded.items()
        if ours["export_versions"].get(name) != version
    ]
    here, there = ours.get("export_processor"), theirs.get("export_processor")
    if here != there:
        others.append(f"on a processor of another kind ({here}, {there or 'which is not named'})")
    return ", ".join(others)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _of_manifest(place: str, value: float) -> float:
    if place.startswith("manifest.metrics") and place.endswith("auc.value"):
        return _AUC
    is_threshold = place.endswith(".threshold") or ".uncertain[" in place
    return _THRESHOLD if is_threshold else math.inf


def _of_result(place: str, value: float) -> float:
    if isinstance(value, int):
        return _FILMS
    if place.endswith("_db"):
        return _DECIBEL
    return _SHARE if any(f".{name}" in place for name in _SHARES) else _FIGURE


def _beyond(
    kept: Any,
    found: Any,
    place: str,
    allowed: Callable[[str, float], float],
    other_keys: Collection[str],
) -> Iterator[str]:
    """What differs by more than is allowed at its place; `other_keys` may differ as they like."""
    for at, one, two in _pairs(
        kept, found, place, lambda key: key in other_keys or key.endswith(_UNLIKE)
    ):
        if _is_number(one) and _is_number(two):
            limit = allowed(at, one)
            if not abs(one - two) <= limit:
                yield f"{_told(at, one, two)}, {limit} allowed"
        elif one != two:
            yield _told(at, one, two)


def differing(kept: Any, found: Any, place: str, digits: int | None) -> Iterator[str]:
    """Where two JSON documents differ; numbers to `digits` digits, or exactly."""
    for at, one, two in _pairs(
        kept, found, place, lambda key: digits is not None and key in _TIMES
    ):
        if _shown(one, digits) != _shown(two, digits):
            yield _told(at, one, two)


def _pairs(
    kept: Any, found: Any, place: str, is_left_out: Callable[[str], bool]
) -> Iterator[tuple[str, Any, Any]]:
    """Place and both values of every leaf of two JSON documents; `_ABSENT` where one has none."""
    if isinstance(kept, dict) and isinstance(found, dict):
        for key in sorted(set(kept) | set(found)):
            if not is_left_out(key):
                one, two = kept.get(key, _ABSENT), found.get(key, _ABSENT)
                yield from _pairs(one, two, f"{place}.{key}", is_left_out)
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        for i, (one, two) in enumerate(zip(kept, found, strict=True)):
            yield from _pairs(one, two, f"{place}[{i}]", is_left_out)
    else:
        yield place, kept, found


def _told(place: str, kept: Any, found: Any) -> str:
    if kept is _ABSENT or found is _ABSENT:
        return f"{place}: only {'measured' if kept is _ABSENT else 'kept'}"
    return f"{place}: kept {_short(kept)}, measured {_short(found)}"


def _shown(value: Any, digits: int | None) -> Any:
    number = isinstance(value, float) and digits is not None
    # Without the sign of a zero.
    return f"{round(value, digits or 0) + 0.0:.{digits}f}" if number else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
