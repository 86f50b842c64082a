"""How a run uses the machine; none of it belongs to the recipe.

Keras 3 trains on several devices through `keras.distribution` (JAX) or a TensorFlow strategy.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import keras


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Options of `python -m train fit`."""

    # Arithmetic in "float16" or "bfloat16", weights in float32; "" is float32 throughout.
    mixed_precision: str = ""
    distribute: bool = False  # each batch is shared by all accelerators
    stream: bool = False  # prepared images stay on the disk

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Build, compile and train the model inside this."""
        before = keras.config.dtype_policy()
        if self.mixed_precision:
            keras.config.set_dtype_policy(f"mixed_{self.mixed_precision}")
        try:
            with self._strategy():
                yield
        finally:
            keras.config.set_dtype_policy(before)

    @contextlib.contextmanager
    def _strategy(self) -> Iterator[None]:
        if not self.distribute:
            yield
        elif keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with tf.distribute.MirroredStrategy().scope():
                yield
        else:
            with keras.distribution.DataParallel().scope():
                yield
