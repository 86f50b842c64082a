"""LiteRT (package ai-edge-litert): the int8 model on XNNPACK's kernels."""

from __future__ import annotations

import importlib.util

from edge_runtime.engines.interpreter import InterpreterEngine, version_of
from edge_runtime.errors import EngineError

NAME = "litert"
FORMAT = "tflite"
FAMILY = "litert-xnnpack"


def is_available() -> bool:
    return importlib.util.find_spec("ai_edge_litert") is not None


def load(model: bytes, threads: int) -> InterpreterEngine:
    """Load a .tflite file's bytes.

    Raises:
        EngineError: The package does not import here, or refuses the model.
    """
    try:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=model, num_threads=threads)
        version = version_of(ai_edge_litert, "ai-edge-litert")
        return InterpreterEngine(f"{NAME} {version}", FAMILY, interpreter)
    except (ImportError, ValueError, RuntimeError) as error:
        raise EngineError(f"engine {NAME}: {error}") from error
