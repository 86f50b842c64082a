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
        # The last one back is the first out: its cache is warm.
        self._idle: list[Engine] = [first]
        self.size = size
        self._missing = size - 1
        self._waiting = 0
        self._returned = threading.Condition()

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """Run the model on an idle engine, or wait for one."""
        try:
            engine = self._idle.pop()  # one step for other threads, so no lock is needed
        except IndexError:
            engine = self._wait()
        try:
            return engine.run(pixels)
        finally:
            self._idle.append(engine)
            # Who waits says so before the last look at `_idle`: one of the two sees the other.
            if self._waiting:
                with self._returned:
                    self._returned.notify()

    def _wait(self) -> Engine:
        """An engine that came back, or one more while there are fewer than `size`."""
        with self._returned:
            self._waiting += 1
            try:
                while True:
                    try:
                        return self._idle.pop()
                    except IndexError:
                        if self._missing > 0:
                            self._missing -= 1
                            break
                        self._returned.wait()
            finally:
                self._waiting -= 1
        engine: Engine = self._module.load(self._model, self._threads)
        return engine
