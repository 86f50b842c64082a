"""From a calibrated probability to a decision."""

from __future__ import annotations

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.statistics.estimates import Estimate

PNEUMONIA, ABNORMAL = "pneumonia", "abnormal"  # what a film is called from the threshold on
OF_BUNDLES = ("screening", "balanced", "triage")  # names that export gives


@frozen
class OperatingPoint:
    """A named threshold on the calibrated probability: at or above it, the decision is positive.

    With `uncertain` = (low, high), probabilities in [low, high) are decided "uncertain".
    """

    name: str
    threshold: float
    rule: str
    split: str
    sensitivity: Estimate
    specificity: Estimate
    uncertain: tuple[float, float] | None = None

    def check(self) -> None:
        """Raise InvalidValueError unless threshold and band are probabilities that fit together."""
        band = self.uncertain or (0.0, 1.0)
        if not (0 < self.threshold < 1 and 0 <= band[0] <= self.threshold <= band[1] <= 1):
            raise InvalidValueError(
                f"operating point {self.name!r}: threshold {self.threshold} must lie in (0, 1) and "
                f"inside its uncertain band {self.uncertain}, which must lie in [0, 1]"
            )

    def decide(self, probability: float, positive: str = PNEUMONIA) -> str:
        """Normal, uncertain, or the word for what is not normal, of a probability in [0, 1]."""
        if self.uncertain and self.uncertain[0] <= probability < self.uncertain[1]:
            return "uncertain"
        return positive if probability >= self.threshold else "normal"
