"""From a model's logits to one score; the one definition for training, export and devices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def disease_logit(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds of any pneumonia.

    Args:
        logits: (n, units): one unit for two labels, else a softmax unit per label, normal first.

    Returns:
        (n,) log(p / (1 - p)), where 1 - p is the probability of normal.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    return np.asarray(np.logaddexp.reduce(logits[:, 1:], axis=1) - logits[:, 0])
