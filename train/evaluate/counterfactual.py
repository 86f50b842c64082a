"""How much does a model lean on what is not the disease?

Each image of a set gets the grey levels, the amplitude spectrum or the frame (shoulders, markers,
collimation) of another. Donors of its own class show what the change alone does; donors of the
other class show what the model read there. Equal figures: it read nothing.
Source: in the manner of Xiao et al., Noise or Signal: The Role of Image Backgrounds in Object
Recognition, ICLR 2021 (mixed-same against mixed-rand).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.judge.scores import disease_logit
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_interval
from train.data.swaps import match_histogram, mix_spectrum, swap_frame
from train.run.scores import predict_logits

_SEED = 20260102
_SPECTRUM_SHARE = 0.5  # the whole amplitude of another image is no longer a radiograph

_SWAPS = {
    "grey levels": lambda own, donor, rng: match_histogram(own, donor, 1.0),
    "amplitude spectrum": lambda own, donor, rng: mix_spectrum(own, donor, _SPECTRUM_SHARE),
    "frame": swap_frame,
}


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """AUC after one swap, with donors of the image's own class and of the other."""

    swapped: str
    own_class: Estimate
    other_class: Estimate


def measure_counterfactuals(
    model: Any, pixels: NDArray[np.uint8], positive: NDArray[np.int64], activation: str
) -> tuple[Counterfactual, ...]:
    """One row for each swap.

    Args:
        model: A Keras model from (n, h, w, 1) 0..255 to logits.
        pixels: (n, h, w, 1) uint8; validation images, not test images.
        positive: (n,) of 0 and 1.
        activation: Of the model.
    """
    rng = np.random.default_rng(_SEED)
    by_class = [np.flatnonzero(positive == value) for value in (0, 1)]
    donors = {
        "own": [int(rng.choice(by_class[label])) for label in positive],
        "other": [int(rng.choice(by_class[1 - label])) for label in positive],
    }
    rows = []
    for name, swap in _SWAPS.items():
        aucs = {}
        for which, chosen in donors.items():
            changed = np.stack(
                [
                    swap(pixels[i, :, :, 0], pixels[j, :, :, 0], np.random.default_rng((_SEED, i)))
                    for i, j in enumerate(chosen)
                ]
            )[..., np.newaxis]
            logits = disease_logit(predict_logits(model, changed), activation)
            aucs[which] = auc_interval(positive, logits)
        rows.append(Counterfactual(name, aucs["own"], aucs["other"]))
    return tuple(rows)
