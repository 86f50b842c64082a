"""Several copies of one engine, so that threads run the model at the same time."""

from __future__ import annotations

import queue
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
        self._idle: queue.LifoQueue[Engine] = queue.LifoQueue()
        self._idle.put(first)
        self._missing = size - 1
        self._lock = threading.Lock()

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """Run the model on an idle engine, or wait for one."""
        engine = self._take()
        try:
            return engine.run(pixels)
        finally:
            self._idle.put(engine)

    def _take(self) -> Engine:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            with self._lock:
                load = self._missing > 0
                self._missing -= load
            if load:
                engine: Engine = self._module.load(self._model, self._threads)
                return engine
            return self._idle.get()
