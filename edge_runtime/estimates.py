"""Figures with their intervals, as manifests carry them; `metrics` computes them."""

from __future__ import annotations

from edge_runtime.frozen import frozen


@frozen
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@frozen
class PairedDifference:
    """AUC of b minus AUC of a on the same images, with its 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
