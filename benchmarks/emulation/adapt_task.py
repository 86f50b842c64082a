"""Runs on the emulated board: the fit of `cxr-edge adapt`, on features that are given.

python adapt_task.py ENGINE FILE.npz prints one JSON object. The file holds logits (n,), features
(n, channels), positive (n,) and patients (n,).
"""

from __future__ import annotations

import json
import platform
import sys

import numpy as np

from edge_runtime.adapt.prove import Labelled, choose, prove
from edge_runtime.adapt.ridge import Basis

with np.load(sys.argv[2]) as held:
    data = Labelled(
        held["logits"],
        held["features"],
        held["positive"],
        tuple(held["patients"].tolist()),
        1 / 1.5,
    )
basis = Basis(data.features)
chosen = choose(basis.coordinates(data.features), data, np.arange(len(data)))
weights, moved = basis.weights(chosen.fit) if chosen.fit.weights else (np.zeros(0), 0.0)
print(
    json.dumps(
        {
            "machine": platform.machine(),
            "slope": chosen.fit.slope,
            "bias": chosen.fit.bias + moved,
            "strength": chosen.strength,
            "weights": weights.tolist(),
            "scores": prove(basis, data, repeats=1).tolist(),
        }
    )
)
