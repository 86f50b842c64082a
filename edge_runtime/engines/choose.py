"""Which engine: the one that was named, the one that was chosen for this machine, or the first."""

from __future__ import annotations

import importlib
from types import ModuleType

from edge_runtime.bundle.folder import Bundle
from edge_runtime.bundle.manifest import BundledFile
from edge_runtime.engines.names import ENGINE_NAMES, REQUIRES
from edge_runtime.engines.preference import in_order
from edge_runtime.errors import EngineError, InvalidValueError


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

    `auto` takes the engine that `doctor --choose` kept, or the first of ENGINE_NAMES, that is
    installed and finds its file in the bundle; a named engine is taken or refused, never replaced.

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
    for candidate in in_order():
        module = engine_module(candidate)
        file = bundle.manifest.model_file(module.FORMAT)
        if file is not None and module.is_available():
            return module, file
    remedies = "; or ".join(REQUIRES[n] for n in ENGINE_NAMES)
    raise EngineError(f"no inference engine is installed: {remedies}")
