from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from edge_runtime.basics.frozen import frozen


@frozen
class Point:
    x: int
    y: int = 2
    tags: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("negative")


@dataclasses.dataclass(frozen=True)
class Generated:
    x: int
    y: int = 2
    tags: list[str] = dataclasses.field(default_factory=list)


@frozen
class Pair:
    x: int
    y: int = 0


def test_it_behaves_like_a_frozen_dataclass() -> None:
    for values, named in (
        ((1,), {}),
        ((1, 3), {}),
        ((), {"x": 1, "tags": ["a"]}),
        ((1,), {"y": 4}),
    ):
        mine, theirs = Point(*values, **named), Generated(*values, **named)
        assert repr(mine) == repr(theirs).replace("Generated", "Point")
        assert dataclasses.asdict(mine) == dataclasses.asdict(theirs)
        assert [f.name for f in dataclasses.fields(mine)] == ["x", "y", "tags"]
        assert dataclasses.replace(mine, y=9).y == 9
        assert (
            mine
            == Point(*values, **named)
            == copy.deepcopy(mine)
            == pickle.loads(pickle.dumps(mine))
        )
        assert mine != theirs
    assert Point(1).tags is not Point(1).tags
    assert hash(Pair(1)) == hash(Pair(1, 0)) and len({Pair(1), Pair(1, 0), Pair(2)}) == 2
    match Pair(5, 6):
        case Pair(a, b):
            assert (a, b) == (5, 6)


def test_it_cannot_be_changed() -> None:
    point = Pair(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert point == Pair(1)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, 2, [], 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1, "z": 2})],
)
def test_wrong_fields_are_refused(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*values, **named)  # type: ignore[arg-type]


def test_its_own_check_runs() -> None:
    with pytest.raises(ValueError, match="negative"):
        dataclasses.replace(Point(1), x=-1)
