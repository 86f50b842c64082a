"""ONNX Runtime on its CPU provider."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.engines.engine import RawOutputs
from edge_runtime.engines.saturation import onnxruntime_saturates
from edge_runtime.engines.signed_weights import has_signed_weights, with_unsigned_weights
from edge_runtime.errors import EngineError

NAME = "onnxruntime"
FORMAT = "onnx"
FAMILY = "onnxruntime"


def is_available() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None


def load(model: bytes, threads: int, profile: str | None = None) -> OnnxRuntimeEngine:
    """Load an .onnx file's bytes.

    Args:
        model: The file's content.
        threads: Per inference.
        profile: Where the profiler's file begins ("/tmp/p"); None: no profiler.

    Raises:
        EngineError: The package does not import here, or refuses the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"engine {NAME}: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads would spin on after a run and take a processor from hashing and decoding.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        if has_signed_weights(model) and onnxruntime_saturates(onnxruntime):
            model = with_unsigned_weights(model)
        session = onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exception classes share no base but Exception
        raise EngineError(f"engine {NAME}: {error}") from error
    return OnnxRuntimeEngine(f"{NAME} {onnxruntime.__version__}", session)


class OnnxRuntimeEngine:
    """An ONNX Runtime session with input "image" and outputs "map" and "features"."""

    family = FAMILY

    def __init__(self, name: str, session: Any) -> None:
        self.name = name
        self._session = session

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        evidence_map, features = self._session.run(
            ["map", "features"], {"image": pixels[np.newaxis]}
        )
        return RawOutputs(evidence_map[0], features[0])

    def end_profiling(self) -> str:
        """The path of the profile, if it was loaded with one."""
        return str(self._session.end_profiling())
