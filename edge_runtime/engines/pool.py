"""Several copies of one engine, so that threads run the model at the same time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.processors import default_threads
from edge_runtime.bundle.folder import Bundle
from edge_runtime.engines.choose import choose_engine
from edge_runtime.engines.engine import Engine, RawOutputs

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
        self.size = size
        self._room = threading.Semaphore(size)
        # The last one back is the first out: its cache is warm.
        self._idle: list[Engine] = [first]

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """Run the model on an idle engine, on one more while there is room, or wait for one.

        Raises:
            Exception: Of the engine's own classes, where it cannot be loaded or fails; the next
                call finds as much room as before.
        """
        with self._room:
            try:
                engine = self._idle.pop()  # one step for other threads, so no lock is needed
            except IndexError:
                engine = self._module.load(self._model, self._threads)
            try:
                return engine.run(pixels)
            finally:
                self._idle.append(engine)
