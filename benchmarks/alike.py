"""When figures and bundles made again are the same, and what of them another processor explains.

Engines and converters use the instructions that a processor has, and sum in another order with
others: activations differ in their last bits, scales of int8 weights in their last digits, and of
some thousand films one or two lie on the other side of a threshold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
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
# Of a bundle's files, and of extremes and p-values, which say nothing beside their figures.
_UNLIKE = ("sha256", "_base64", "p_value", "max_probability_difference")


def compare_figures(kept: Any, found: Any, place: str) -> Iterator[str]:
    """Two results of one command, in the four digits that documents show.

    Where the shipped bundles are of another processor or other converters, what differs by no more
    than these explain is a note.
    """
    lines = list(differing(kept, found, place, digits=4))
    if lines and (why := _shipped_elsewhere()):
        yield f"note: {why}: {len(lines)} figures differ"
        lines = list(_beyond(kept, found, place, _of_result))
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
        yield from _beyond(theirs, ours, "manifest", _of_manifest)


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
    theirs: Any, ours: Any, place: str, allowed: Callable[[str, float], float]
) -> Iterator[str]:
    """What differs by more than is allowed at its place."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(set(theirs) | set(ours)):
            at = f"{place}.{key}"
            if key in _TIMES | {"export_versions", "export_processor"} or key.endswith(_UNLIKE):
                continue
            if (key in theirs) != (key in ours):
                yield f"{at}: only {'kept' if key in theirs else 'made'}"
            else:
                yield from _beyond(theirs[key], ours[key], at, allowed)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            yield from _beyond(a, b, f"{place}[{i}]", allowed)
    elif _is_number(theirs) and _is_number(ours):
        limit = allowed(place, theirs)
        if not abs(theirs - ours) <= limit:
            yield f"{place}: kept {theirs}, made {ours}, {limit} allowed"
    elif theirs != ours:
        yield f"{place}: kept {_short(theirs)}, made {_short(ours)}"


def differing(kept: Any, found: Any, place: str, digits: int | None) -> Iterator[str]:
    """Where two JSON documents differ; numbers to `digits` digits, or exactly."""
    if isinstance(kept, dict) and isinstance(found, dict):
        for key in sorted(set(kept) | set(found)):
            if digits is not None and key in _TIMES:
                continue
            if (key in kept) != (key in found):
                yield f"{place}.{key}: only {'kept' if key in kept else 'measured'}"
            else:
                yield from differing(kept[key], found[key], f"{place}.{key}", digits)
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        for i, (a, b) in enumerate(zip(kept, found, strict=True)):
            yield from differing(a, b, f"{place}[{i}]", digits)
    elif _shown(kept, digits) != _shown(found, digits):
        yield f"{place}: kept {_short(kept)}, measured {_short(found)}"


def _shown(value: Any, digits: int | None) -> Any:
    number = isinstance(value, float) and digits is not None
    # Without the sign of a zero.
    return f"{round(value, digits or 0) + 0.0:.{digits}f}" if number else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
