"""Whom a film shows, by age: populations that one threshold does not serve have their own."""

from __future__ import annotations

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.operating_point import OperatingPoint

AUTO = "auto"  # by the age that the file states
ANY = "any"  # the points chosen on the films of all
NAMES = ("children", "adults")  # that a record can name
ADULT = 18.0  # years


@frozen
class Population:
    """Operating points chosen on the validation films of one population alone."""

    name: str  # one of NAMES
    age_years: tuple[float, float]  # from the first, up to but not including the second
    operating_points: tuple[OperatingPoint, ...]

    def covers(self, age: float) -> bool:
        """Whether it is of people of this age, in years."""
        return self.age_years[0] <= age < self.age_years[1]

    def check(self) -> None:
        """Raise InvalidValueError unless name, ages and points are usable."""
        low, high = self.age_years
        if self.name not in NAMES:
            raise InvalidValueError(f"population {self.name!r} is none of {', '.join(NAMES)}")
        if not 0 <= low < high:
            raise InvalidValueError(f"population {self.name!r}: ages {low} to {high} are none")
        for point in self.operating_points:
            point.check()
