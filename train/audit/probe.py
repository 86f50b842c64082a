"""What a model's features tell of normal films that is no medicine: their source, their facts.

A linear model on the pooled features says which source a normal film comes from, and how large,
sharp or bright its file is, on patients that it was not fitted on. What it can tell, the model's
head can use. Balanced accuracy, so that chance is one over the number of sources.

Source: linear probes, Alain and Bengio, Understanding intermediate layers using linear classifier
probes, 2016; balanced accuracy, Brodersen et al., ICPR 2010.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data.dataset import Sample
from train.data.source import Source
from train.network.build import FEATURES_LAYER
from train.run.finished import open_run

_FOLDS = 5
_RIDGE = 100.0
FEWEST = 20  # normal films of a source
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Probe:
    """One model's features."""

    run: str
    films: int
    sources: tuple[str, ...]
    balanced_accuracy: float  # of telling the source
    chance: float
    facts: dict[str, float]  # share of each fact's variance that is told, 0 at least


def probe_features(
    features: NDArray[np.float32],
    sources: Sequence[str],
    facts: Mapping[str, NDArray[np.float64]],
    patients: Sequence[str],
    run: str = "",
) -> Probe:
    """Probe (n, channels) features of normal films.

    Args:
        features: Pooled features.
        sources: (n).
        facts: Name -> (n,) values.
        patients: (n); nobody is judged by a probe that saw another film of theirs.
        run: What to call it.
    """
    fold = np.array([zlib.crc32(p.encode("utf-8", "replace")) % _FOLDS for p in patients])
    names = sorted(set(sources))
    belongs = np.array([[s == name for name in names] for s in sources], np.float64)
    # Every source weighs the same, whatever its size.
    weight = 1 / (belongs.sum(axis=0) @ belongs.T)
    told = _out_of_fold(features, belongs, fold, weight / weight.mean())
    hits = belongs[np.arange(len(belongs)), told.argmax(axis=1)]
    accuracy = float(np.mean([hits[belongs[:, k] == 1].mean() for k in range(len(names))]))
    shares = {}
    for name, values in facts.items():
        spread = float(values.std())
        if spread:
            standard = (values - values.mean()) / spread
            error = standard - _out_of_fold(features, standard[:, None], fold)[:, 0]
            shares[name] = round(max(0.0, 1 - float((error**2).mean())), 4)
    return Probe(run, len(belongs), tuple(names), round(accuracy, 4), 1 / len(names), shares)


def features_of(run: Path, source: Source, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """(n, channels) pooled features of a finished run's model.

    Raises:
        InvalidValueError: Not a finished run.
    """
    import keras  # takes seconds

    finished = open_run(run)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    inner = keras.Model(model.input, model.get_layer(FEATURES_LAYER).output)
    pixels = source.pixels(samples, finished.input, "probe")
    parts = [
        np.asarray(inner(pixels[i : i + _CHUNK].astype(np.float32), training=False)).mean((1, 2))
        for i in range(0, len(pixels), _CHUNK)
    ]
    return np.concatenate(parts)


def _out_of_fold(
    features: NDArray[np.float32],
    target: NDArray[np.float64],
    fold: NDArray[np.int64],
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """(n, k) ridge regression's word on each film, from the other folds' films."""
    x = features.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    x = np.column_stack([x, np.ones(len(x))])
    weight = np.ones(len(x)) if weight is None else weight
    found = np.zeros(target.shape)
    for k in range(_FOLDS):
        train, test = fold != k, fold == k
        weighted = x[train] * weight[train, None]
        penalty = _RIDGE * np.eye(x.shape[1])
        penalty[-1, -1] = 0
        beta = np.linalg.solve(x[train].T @ weighted + penalty, weighted.T @ target[train])
        found[test] = x[test] @ beta
    return found
