"""Inference engines: one module each with the same names, chosen by `choose_engine`.

An engine module has NAME, FORMAT (which model file it reads), FAMILY (engines of a family share
known answers), `is_available()` and `load(model, threads)`.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.engine_names import ENGINE_NAMES, REQUIRES
from edge_runtime.errors import EngineError, InvalidValueError
from edge_runtime.frozen import frozen
from edge_runtime.manifest import BundledFile

if TYPE_CHECKING:
    from numpy.typing import NDArray


@frozen
class RawOutputs:
    """What a model yields for one image, dequantised."""

    evidence_map: NDArray[np.float32]  # (rows, columns, units); its mean is the raw logit
    features: NDArray[np.float32]  # (channels,) pooled features


class Engine(Protocol):
    """A loaded model. Not safe to use from several threads at once; `Screener` takes care."""

    name: str  # with its version, "litert 2.3.0"
    family: str

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """(height, width, 1) uint8 -> outputs that the caller owns."""
        ...


def engine_module(name: str) -> ModuleType:
    """The module behind an engine's name.

    Raises:
        InvalidValueError: No engine of that name.
    """
    if name not in ENGINE_NAMES:
        raise InvalidValueError(f"no engine {name!r}; there are auto, {', '.join(ENGINE_NAMES)}")
    return importlib.import_module(f"edge_runtime.engines.{name.replace('-', '_')}")


def choose_engine(name: str, bundle: Bundle) -> tuple[ModuleType, BundledFile]:
    """The engine module and the model file it will read.

    `auto` takes the first of ENGINE_NAMES that is installed and finds its file in the bundle; a
    named engine is taken or refused, never replaced.

    Raises:
        EngineError: The named engine, or every engine, is missing; or has no file in the bundle.
    """
    if name != "auto":
        module = engine_module(name)
        if not module.is_available():
            raise EngineError(f"engine {name} is not installed: {REQUIRES[name]}")
        file = bundle.manifest.model_file(module.FORMAT)
        if file is None:
            raise EngineError(
                f"engine {name} reads {module.FORMAT} files and {bundle.folder} has none"
            )
        return module, file
    for candidate in ENGINE_NAMES:
        module = engine_module(candidate)
        file = bundle.manifest.model_file(module.FORMAT)
        if file is not None and module.is_available():
            return module, file
    remedies = "; or ".join(REQUIRES[n] for n in ENGINE_NAMES)
    raise EngineError(f"no inference engine is installed: {remedies}")


def default_threads() -> int:
    """Processors this process may run on, at most 4: a small network gains nothing beyond."""
    try:
        return min(4, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        return min(4, os.cpu_count() or 1)
