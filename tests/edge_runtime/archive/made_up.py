"""Rows as a run would write them, made up: for reports of any size."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def made_up_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of two hospitals; the films of one machine score higher."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        is_old = bool(rng.random() < 0.3)
        logit = rng.normal(0.8 if is_old else 0.0, 1.5)
        probability = float(1 / (1 + np.exp(-logit)))
        flagged, month = bool(rng.random() < 0.02), int(rng.integers(1, 13))
        decision = "pneumonia" if probability > 0.6 else "normal"
        rows.append(
            {
                "origin": "kigali" if rng.random() < 0.5 else "huye",
                "source": f"s3://films/{number:07}.dcm",
                "run": "20260101T000000-0000",
                "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
                "status": "ok",
                "probability": probability,
                "decision": "uncertain" if 0.5 < probability <= 0.6 else decision,
                "flags": ["out_of_distribution"] if flagged else [],
                "accepted": True,
                "machine": "ACME <b>OLD</b>" if is_old else "ACME NEW",
                "view": "AP" if rng.random() < 0.5 else "PA",
                "age_years": int(rng.integers(0, 90)),
                "month": f"2025-{month:02}",
            }
        )
    return rows
