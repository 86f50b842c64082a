"""What changed between two results of `cxr-edge bench`, beyond the noise?

Each scenario's blocks are ratios to a fixed piece of work timed beside them, so that a machine
that is slower as a whole today does not count. The medians of these are compared on the log scale
with a bootstrap interval over runs of neighbouring blocks (neighbours are alike: moving-block
bootstrap, Künsch, Annals of Statistics 1989). A change is reported where the 99 % interval leaves
out the band of `floor` around no change: smaller ones cannot be told from another day.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.parse import from_mapping, read_document
from edge_runtime.device.bench_result import SCHEMA, BenchResult, metrics_of
from edge_runtime.errors import InvalidValueError

_RESAMPLES = 2000
_NEIGHBOURS = 4
_TAIL = 0.5  # percent on either side


@frozen
class Change:
    """B against A: 1.10 is 10 % slower or larger."""

    metric: str
    ratio: float
    low: float
    high: float
    verdict: str  # no change | worse | better


@frozen
class Comparison:
    changes: tuple[Change, ...]
    differences: tuple[str, ...]  # of what was measured: other engine, image set, machine

    @property
    def changed(self) -> bool:
        return any(change.verdict != "no change" for change in self.changes)


def read_result(path: str | os.PathLike[str]) -> BenchResult:
    """A file of `cxr-edge bench --output`.

    Raises:
        InvalidValueError: Missing, not JSON, or not of this schema.
    """
    document = read_document(path, SCHEMA, "")
    return from_mapping(BenchResult, document, str(path))


def compare(a: BenchResult, b: BenchResult, floor: float = 0.05) -> Comparison:
    """Changes of every metric that both results have.

    Args:
        a: The earlier result.
        b: The later one.
        floor: Relative changes up to this are no change.

    Raises:
        InvalidValueError: They have no metric in common.
    """
    ours, theirs = metrics_of(a), metrics_of(b)
    common = [name for name in ours if name in theirs]
    if not common:
        raise InvalidValueError("the two results have no scenario in common")
    return Comparison(
        tuple(_change(name, ours[name], theirs[name], floor) for name in common),
        tuple(_differences(a, b)),
    )


def _change(name: str, a: Sequence[float], b: Sequence[float], floor: float) -> Change:
    log_ratio = math.log(np.median(b) / np.median(a))
    low = high = log_ratio
    if min(len(a), len(b)) > 1:
        rng = np.random.default_rng(0)
        drawn = np.log(_resampled_medians(b, rng) / _resampled_medians(a, rng))
        low, high = np.percentile(drawn, [_TAIL, 100 - _TAIL])
    edge = math.log1p(floor)
    verdict = "worse" if low > edge else "better" if high < -edge else "no change"
    ratio, lowest, highest = (round(math.exp(v), 4) for v in (log_ratio, low, high))
    return Change(name, ratio, lowest, highest, verdict)


def _resampled_medians(values: Sequence[float], rng: np.random.Generator) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    size = min(_NEIGHBOURS, max(1, len(array) // 4))
    pieces = math.ceil(len(array) / size)
    starts = rng.integers(0, len(array) - size + 1, (_RESAMPLES, pieces))
    index = (starts[:, :, None] + np.arange(size)).reshape(_RESAMPLES, -1)[:, : len(array)]
    return np.asarray(np.median(array[index], axis=1))


def _differences(a: BenchResult, b: BenchResult) -> list[str]:
    pairs = (
        ("machine", a.environment.machine, b.environment.machine),
        ("engine", a.environment.engine, b.environment.engine),
        ("versions", a.environment.versions, b.environment.versions),
        ("model", a.model.sha256, b.model.sha256),
        ("images", a.images, b.images),
    )
    return [name for name, one, other in pairs if one != other]


def table(comparison: Comparison) -> str:
    """The comparison as text for people."""
    lines = [f"{'':26} {'B / A':>7}  99 % interval"]
    for c in comparison.changes:
        lines.append(f"{c.metric:26} {c.ratio:7.3f}  {c.low:.3f} to {c.high:.3f}  {c.verdict}")
    if comparison.differences:
        lines.append(f"not measured alike: {', '.join(comparison.differences)} differ")
    return "\n".join(lines) + "\n"
