"""The verification gate: no bundle leaves export unless it keeps what the float model knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.bundle.manifest import ModelMetrics
from edge_runtime.engines.engine import Engine
from edge_runtime.statistics.estimates import Estimate
from edge_runtime.statistics.metrics import auc_difference, auc_interval
from edge_runtime.statistics.odds import probabilities

MAX_AUC_LOSS = 0.005
MIN_AGREEMENT = 0.98
_MAY_DIFFER = 2  # films, however few there are: one of forty is no finding


class GateError(Exception):
    """An exported file failed; the message lists every failure."""


@dataclasses.dataclass(frozen=True)
class ModelLogits:
    """Logits of disease (n,), before temperature, of one model over the validation images."""

    model: str
    engine: str
    logits: NDArray[np.float64]


def run_engine(
    engine: Engine, pixels: NDArray[np.uint8], description: str
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Raw logits (n, units), the mean of each image's map, and pooled features (n, channels)."""
    logits, features = [], []
    for image in tqdm(pixels, description, unit="image", leave=False, disable=None):
        outputs = engine.run(image)
        logits.append(outputs.evidence_map.mean(axis=(0, 1), dtype=np.float64))
        features.append(outputs.features)
    return np.array(logits), np.array(features)


def compare(
    positive: NDArray[np.int64],
    reference: ModelLogits,
    candidates: Sequence[ModelLogits],
    temperature: float,
    threshold: float,
    split: str,
) -> tuple[ModelMetrics, ...]:
    """Metrics of the float model, then of every candidate beside it on the same images."""
    reference_probability = probabilities(reference.logits / temperature)
    rows = [
        ModelMetrics(
            model=reference.model,
            engine=reference.engine,
            split=split,
            images=len(positive),
            auc=auc_interval(positive, reference.logits),
            difference=None,
            agreement=None,
            max_probability_difference=None,
        )
    ]
    for scores in candidates:
        probability = probabilities(scores.logits / temperature)
        agree = (probability >= threshold) == (reference_probability >= threshold)
        rows.append(
            ModelMetrics(
                model=scores.model,
                engine=scores.engine,
                split=split,
                images=len(positive),
                auc=auc_interval(positive, scores.logits),
                difference=auc_difference(positive, reference.logits, scores.logits),
                agreement=float(agree.mean()),
                max_probability_difference=float(np.abs(probability - reference_probability).max()),
            )
        )
    return tuple(rows)


def check(metrics: Sequence[ModelMetrics]) -> None:
    """Hold every exported file against the limits.

    Raises:
        GateError: A file's AUC falls by more than MAX_AUC_LOSS, or its decisions agree with the
            float model's on less than MIN_AGREEMENT of the images (and differ on more than two).
    """
    failures = []
    for row in metrics:
        model = row.model + (f", {row.finding}" if row.finding else "")
        if row.difference is not None and row.difference.difference < -MAX_AUC_LOSS:
            failures.append(
                f"{model}: AUC falls by {-row.difference.difference:.4f} against float, "
                f"more than {MAX_AUC_LOSS}"
            )
        agreement = 1.0 if row.agreement is None else row.agreement
        differing = round((1 - agreement) * row.images)
        if agreement < MIN_AGREEMENT and differing > _MAY_DIFFER:
            failures.append(
                f"{model}: decisions agree with float on {agreement:.4f} of the images, "
                f"fewer than {MIN_AGREEMENT}"
            )
    if failures:
        raise GateError("; ".join(failures))


def check_worth(auc: Estimate, least: float, allow_weak: bool) -> bool:
    """Whether a model is too weak to ship: its AUC may be as low as the floor, or not above it.

    Args:
        auc: Of the float model on validation.
        least: The recipe's floor for the lower 95 % limit.
        allow_weak: Ship it all the same.

    Raises:
        GateError: It is, and `allow_weak` is not set.
    """
    is_weak = not auc.low > least
    if is_weak and not allow_weak:
        raise GateError(
            f"its AUC on validation is {auc}, whose lower limit is not above {least:g} (the "
            "recipe's least_auc): it may know nothing. --allow-weak ships it, and the card says so"
        )
    return is_weak
