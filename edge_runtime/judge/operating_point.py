"""From a calibrated probability to a decision."""

from __future__ import annotations

from edge_runtime.basics.frozen import frozen
from edge_runtime.statistics.estimates import Estimate


@frozen
class OperatingPoint:
    """A named threshold on the calibrated probability: at or above it, the decision is pneumonia.

    With `uncertain` = (low, high), probabilities in [low, high) are decided "uncertain".
    """

    name: str
    threshold: float
    rule: str
    split: str
    sensitivity: Estimate
    specificity: Estimate
    uncertain: tuple[float, float] | None = None

    def decide(self, probability: float) -> str:
        """Pneumonia, normal or uncertain, for a calibrated probability in [0, 1]."""
        if self.uncertain and self.uncertain[0] <= probability < self.uncertain[1]:
            return "uncertain"
        return "pneumonia" if probability >= self.threshold else "normal"
