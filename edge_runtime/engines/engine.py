"""What an engine is, and what it gives.

An engine module has NAME, FORMAT (which model file it reads), FAMILY (engines of a family share
known answers), `is_available()` and `load(model, threads)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge_runtime.basics.frozen import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray


@frozen
class RawOutputs:
    """What a model yields for one image, dequantised."""

    evidence_map: NDArray[np.float32]  # (rows, columns, units); its mean is the raw logit
    features: NDArray[np.float32]  # (channels,) pooled features


class Engine(Protocol):
    """A loaded model. Not safe to use from several threads at once; `Screener` takes care."""

    name: str  # with its version, "litert 2.3.0"
    family: str

    def run(self, pixels: NDArray[np.uint8]) -> RawOutputs:
        """(height, width, 1) uint8 -> outputs that the caller owns."""
        ...
