"""Several copies of one engine, so that threads run the model at the same time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.engines import Engine, RawOutputs, choose_engine, default_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EnginePool:
    """At most `size` engines over one model file; the second and later load when first needed."""

    def __init__(self, name: str, bundle: Bundle, threads: int | None, size: int) -> None:
        """Choose the engine ("auto" or a name) and load the first copy.

        Raises:
            EngineError: The engine is missing or cannot load the model.
            BundleError: The model file is not what the manifest says.
        """
        self._module, self.file = choose_engine(name, bundle)
        self._model = bundle.read(self.file)
        self._threads = threads or default_threads()
        first: Engine = self._module.load(self._model, self._threads)
        self.name, self.family = first.name, first.family
        self._idle: list[Engine] = [first]  # the last one back is the first out: its cache is warm
        self.size = size
        self._missing = size - 1
        self._returned = threading.Condition()

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """Run the model on an idle engine, or wait for one."""
        engine = self._take()
        try:
            return engine.run(pixels)
        finally:
            with self._returned:
                self._idle.append(engine)
                self._returned.notify()

    def _take(self) -> Engine:
        with self._returned:
            while not self._idle:
                if self._missing > 0:
                    self._missing -= 1
                    break
                self._returned.wait()
            else:
                return self._idle.pop()
        engine: Engine = self._module.load(self._model, self._threads)
        return engine
