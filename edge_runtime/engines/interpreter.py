"""What LiteRT and tflite-runtime share: the TensorFlow Lite interpreter interface."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.engines.engine import RawOutputs
from edge_runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class InterpreterEngine:
    """A TensorFlow Lite interpreter with uint8 input and (map, features) outputs."""

    def __init__(self, name: str, family: str, interpreter: Any) -> None:
        self.name, self.family = name, family
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        (self._input,) = interpreter.get_input_details()
        if self._input["dtype"] is not np.uint8:
            raise EngineError(f"model input is {self._input['dtype']}, expected uint8")
        outputs = interpreter.get_output_details()
        ranks = sorted(len(o["shape"]) for o in outputs)
        if ranks != [2, 4]:
            raise EngineError(f"model outputs have ranks {ranks}, expected a map and a vector")
        # Converters rename outputs, ranks stay: (1, rows, columns, units) and (1, channels).
        features, evidence_map = sorted(outputs, key=lambda o: len(o["shape"]))
        self._features, self._map = _Output(features), _Output(evidence_map)

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        self._interpreter.set_tensor(self._input["index"], pixels[np.newaxis])
        self._interpreter.invoke()
        get_tensor = self._interpreter.get_tensor
        return RawOutputs(
            self._map.dequantise(get_tensor(self._map.index)[0]),
            self._features.dequantise(get_tensor(self._features.index)[0]),
        )


class _Output:
    """An output tensor: float32, or 8 bits with what each of its 256 values means."""

    def __init__(self, detail: dict[str, Any]) -> None:
        self.index: int = detail["index"]
        self._meanings: NDArray[np.float32] | None = None
        if detail["dtype"] is not np.float32:
            if np.dtype(detail["dtype"]).itemsize != 1:
                raise EngineError(f"model output is {detail['dtype']}, expected 8 bits or float32")
            scale, zero_point = detail["quantization"]
            values = np.arange(256, dtype=np.uint8).view(detail["dtype"])
            # Exact before the one rounding of the product: int8 minus the zero point fits 9 bits.
            self._meanings = np.subtract(values, zero_point, dtype=np.float32)
            self._meanings *= np.float32(scale)

    def dequantise(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Looked up: with a cold cache, after inference, that is half the time of arithmetic."""
        if self._meanings is None:
            return np.asarray(values)
        return self._meanings.take(values.view(np.uint8))


def version_of(module: ModuleType, distribution: str) -> str:
    """An engine's version, without importing importlib.metadata where that can be helped.

    That import costs more than loading the model.
    """
    version = getattr(module, "__version__", None)
    if version is None:
        from importlib import metadata

        version = metadata.version(distribution)
    return str(version)
