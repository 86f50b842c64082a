"""Models of other labels than pneumonia: each finding with thresholds of its own."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.operating_point import ABNORMAL, PNEUMONIA, OperatingPoint
from edge_runtime.statistics.estimates import Estimate

PRESENT, ABSENT, UNCERTAIN = "present", "absent", "uncertain"
_KINDS_OF_PNEUMONIA = frozenset({"pneumonia", "bacterial", "viral"})


def word_for(labels: Sequence[str]) -> str:
    """What a film is called at or above the threshold: "pneumonia", or "abnormal".

    Args:
        labels: Of the model, normal first.
    """
    return PNEUMONIA if _KINDS_OF_PNEUMONIA.issuperset(labels[1:]) else ABNORMAL


@frozen
class Finding:
    """A label of the model, judged by itself: present or absent, whatever else a film shows."""

    name: str
    temperature: float  # divides its own logit; with softmax that of the whole model is used
    auc: Estimate  # on `split`, films with the finding against all others
    positives: int  # films with it, there
    split: str
    operating_points: tuple[OperatingPoint, ...]  # of the same names as the bundle's

    def point(self, name: str, default: str) -> OperatingPoint:
        """The point of that name; of a threshold that somebody made up, the default one."""
        by_name = {point.name: point for point in self.operating_points}
        return by_name.get(name) or by_name[default]

    def check(self) -> None:
        """Raise InvalidValueError unless its numbers are usable."""
        if not 0.01 <= self.temperature <= 100:
            raise InvalidValueError(
                f"finding {self.name!r}: temperature {self.temperature} is not 0.01 to 100"
            )
        for point in self.operating_points:
            point.check()


def state(point: OperatingPoint, probability: float) -> str:
    """Present, absent or uncertain, for the calibrated probability of one finding."""
    decision = point.decide(probability)
    return {"normal": ABSENT, "uncertain": UNCERTAIN}.get(decision, PRESENT)
