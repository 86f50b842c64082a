"""What the timing benchmarks share: the files they read and how results are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.inputs import find_inputs
from edge_runtime.statistics.estimates import Estimate
from train.run import folder


def files_of(data: Path) -> list[str]:
    """Every file below `data`, in the order in which it would be screened.

    Raises:
        InvalidValueError: There are none.
    """
    paths = [item.path for item in find_inputs([str(data)]) if item.error is None]
    if not paths:
        raise InvalidValueError(f"no files in {data}")
    return paths


def median_ratio(ratios: ArrayLike) -> Estimate:
    """The median of (n,) ratios with its 95 % percentile bootstrap interval."""
    ratios = np.asarray(ratios, np.float64)
    drawn = np.random.default_rng(0).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return Estimate(float(np.median(ratios)), float(low), float(high))


def write_results(output: Path, name: str, result: object, text: str) -> None:
    """The dataclass `result` as NAME.json and `text` as NAME.md, which is printed too."""
    document = {"schema": f"cxr-edge/{name}/1"} | to_mapping(result)
    folder.write_results(output, name, document, text)
