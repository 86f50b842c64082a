"""Figures with their intervals, as manifests carry them; `metrics` computes them."""

from __future__ import annotations

from edge_runtime.basics.frozen import frozen


@frozen
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """`f"{estimate:.2f}"` is "0.98 (0.97 to 0.99)"; without a format, four digits."""
        return _with_interval(self.value, self.low, self.high, spec or ".4f")

    def __str__(self) -> str:
        return format(self)


@frozen
class PairedDifference:
    """AUC of b minus AUC of a on the same images, with its 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float

    def __format__(self, spec: str) -> str:
        """As `Estimate`, with signs: "-0.0005 (-0.0014 to +0.0003)"."""
        return _with_interval(self.difference, self.low, self.high, spec or "+.4f")


def _with_interval(value: float, low: float, high: float, spec: str) -> str:
    return f"{value:{spec}} ({low:{spec}} to {high:{spec}})"
