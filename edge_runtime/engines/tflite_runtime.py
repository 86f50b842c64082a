"""tflite-runtime: LiteRT's predecessor, for older and 32-bit boards. Needs numpy below 2."""

from __future__ import annotations

import importlib.util

import numpy as np

from edge_runtime.engines.interpreter import InterpreterEngine, version_of
from edge_runtime.engines.names import REQUIRES
from edge_runtime.errors import EngineError

NAME = "tflite-runtime"
FORMAT = "tflite"
FAMILY = "tflite-builtin"


def is_available() -> bool:
    return importlib.util.find_spec("tflite_runtime") is not None


def load(model: bytes, threads: int) -> InterpreterEngine:
    """Load a .tflite file's bytes.

    Raises:
        EngineError: numpy 2 is installed, the package does not import, or it refuses the model.
    """
    if int(np.__version__.split(".")[0]) >= 2:
        # Importing it would fail deep inside with `_ARRAY_API not found`.
        raise EngineError(
            f"engine {NAME} was built for numpy 1 and numpy {np.__version__} is installed: "
            f"{REQUIRES[NAME]}"
        )
    try:
        import tflite_runtime
        from tflite_runtime.interpreter import Interpreter

        interpreter = Interpreter(model_content=model, num_threads=threads)
        version = version_of(tflite_runtime, "tflite-runtime")
        return InterpreterEngine(f"{NAME} {version}", FAMILY, interpreter)
    except (ImportError, ValueError, RuntimeError) as error:
        raise EngineError(f"engine {NAME}: {error}") from error
