"""What LiteRT and tflite-runtime share: the TensorFlow Lite interpreter interface."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.engines import RawOutputs
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
        self._features, self._map = sorted(outputs, key=lambda o: len(o["shape"]))

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        self._interpreter.set_tensor(self._input["index"], pixels[np.newaxis])
        self._interpreter.invoke()
        return RawOutputs(self._output(self._map), self._output(self._features))

    def _output(self, detail: dict[str, Any]) -> NDArray[np.float32]:
        values: NDArray[Any] = self._interpreter.get_tensor(detail["index"])[0]
        if values.dtype == np.float32:
            return np.asarray(values)
        scale, zero_point = detail["quantization"]
        # Exact before the one rounding of the product: int8 minus the zero point fits 9 bits.
        real: NDArray[np.float32] = np.subtract(values, zero_point, dtype=np.float32)
        real *= np.float32(scale)
        return real


def version_of(module: ModuleType, distribution: str) -> str:
    """An engine's version, without importing importlib.metadata where that can be helped.

    That import costs more than loading the model.
    """
    version = getattr(module, "__version__", None)
    if version is None:
        from importlib import metadata

        version = metadata.version(distribution)
    return str(version)
