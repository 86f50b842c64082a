"""How well features that are no medicine tell the classes apart.

Whatever a file's size, shape or border can do alone, a network can learn as well, and will fail
with where these differ. Source: Geirhos et al., Shortcut Learning in Deep Neural Networks, Nature
Machine Intelligence 2:665 (2020).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edge_runtime.statistics.adjusted import cross_validated_scores
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc, auc_interval
from train.data.facts import THUMBNAIL


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """The AUC of one feature alone. `direction` is +1 where larger values mean pneumonia."""

    name: str
    auc: Estimate
    direction: int


def measure_shortcuts(
    positive: NDArray[np.int64],
    features: dict[str, NDArray[np.float64]],
    thumbnails: NDArray[np.float32],
    patients: list[str],
) -> list[Shortcut]:
    """AUCs, highest first. The features' are taken in whichever direction is above one half.

    Args:
        positive: (n,) of 0 normal and 1 pneumonia.
        features: Name -> (n,) values.
        thumbnails: (n, 256).
        patients: (n) identifiers: a linear model on thumbnails is scored on patients that it did
            not see.
    """
    found = []
    for name, values in features.items():
        if np.ptp(values) == 0:
            continue  # the same for all: tells nothing
        direction = 1 if auc(positive, values) >= 0.5 else -1
        found.append(Shortcut(name, auc_interval(positive, direction * values), direction))
    scores = cross_validated_scores(positive, thumbnails.astype(np.float64), patients)
    if scores is not None:
        name = f"{THUMBNAIL} x {THUMBNAIL} thumbnail, linear"
        found.append(Shortcut(name, auc_interval(positive, scores), 1))
    return sorted(found, key=lambda s: -s.auc.value)
