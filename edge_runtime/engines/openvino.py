"""OpenVINO on its CPU plugin: the fastest on many x86-64 processors, and the slowest to start.

`import openvino` tells Google Analytics of it, by the package openvino_telemetry that comes along,
unless it was opted out of. Here it is imported as where that package is not installed: nothing is
sent, and nothing is written into the home folder.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.engines.engine import RawOutputs
from edge_runtime.engines.saturation import openvino_saturates
from edge_runtime.engines.signed_weights import has_signed_weights, with_unsigned_weights
from edge_runtime.errors import EngineError

NAME = "openvino"
FORMAT = "onnx"
FAMILY = "openvino"

_TELEMETRY = "openvino_telemetry"


def is_available() -> bool:
    return importlib.util.find_spec("openvino") is not None


def load(model: bytes, threads: int, profile: bool = False) -> OpenvinoEngine:
    """Load an .onnx file's bytes.

    Args:
        model: The file's content.
        threads: Per inference.
        profile: Measure every operator of every run, for `operators`.

    Raises:
        EngineError: The package does not import here, or refuses the model.
    """
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise EngineError(f"engine {NAME}: {error}") from error
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Otherwise 16 bits where the processor has them: other scores on another box.
        "INFERENCE_PRECISION_HINT": "f32",
        # Several engines, or several processes, would be pinned to the same processors.
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": profile,
    }
    try:
        compiled = _compiled(model, settings)
        version = openvino.get_version().partition("-")[0]
        return OpenvinoEngine(f"{NAME} {version}", compiled.create_infer_request())
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"engine {NAME}: {error}") from error


def import_openvino() -> Any:
    """The package, without a word to anybody.

    Raises:
        ImportError: It is not installed, or does not import here.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:  # somebody else's decision
        import openvino

        return openvino
    # What is None there cannot be imported, and OpenVINO falls back on a stub of its own.
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[_TELEMETRY]
    return openvino


# What was compiled last, and from what.
_last: tuple[bytes, dict[str, Any], Any] | None = None


def _compiled(model: bytes, settings: dict[str, Any]) -> Any:
    """A compiled model of its own; a copy of the last one, in a third of the time, where it fits.

    A pool loads the same file once for every thread.
    """
    global _last  # noqa: PLW0603
    core, last = _core(), _last
    if last is not None and last[0] == model and last[1] == settings:
        copied = last[2].export_model()
        content = copied if isinstance(copied, io.BytesIO) else io.BytesIO(copied)
        content.seek(0)
        return core.import_model(content, "CPU", settings)
    unsigned = has_signed_weights(model) and _saturates()
    source = core.read_model(with_unsigned_weights(model) if unsigned else model)
    compiled = core.compile_model(source, "CPU", settings)
    _last = model, settings, compiled
    return compiled


@lru_cache(maxsize=1)
def _core() -> Any:
    """One for all engines of a process: it holds the plugin."""
    return import_openvino().Core()


@lru_cache(maxsize=1)
def _saturates() -> bool:
    return openvino_saturates(_core())


class OpenvinoEngine:
    """An inference request with input "image" and outputs "map" and "features"."""

    family = FAMILY

    def __init__(self, name: str, request: Any) -> None:
        self.name = name
        self._request = request
        # Looked up once: by name at every run takes a fifth as long as the network of `tiny`.
        self._image, self._map, self._features = map(
            request.get_tensor, ("image", "map", "features")
        )

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        self._image.data[0] = pixels
        self._request.infer()
        # Copies: the next run writes into the same memory.
        return RawOutputs(self._map.data[0].copy(), self._features.data[0].copy())

    def operators(self) -> list[tuple[str, str, float]]:
        """Node, kind and milliseconds of what the last run did, if it was loaded with `profile`."""
        return [
            (told.node_name, told.node_type, told.real_time.total_seconds() * 1e3)
            for told in self._request.get_profiling_info()
            if told.status == told.Status.EXECUTED
        ]
