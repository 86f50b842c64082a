"""What is proven, and what the guard sees, on drawn sites whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.adapt.film import Fact
from edge_runtime.adapt.guard import CHANCE, CONFOUNDED, INCOMPARABLE, guard
from edge_runtime.adapt.prove import (
    CurvePoint,
    Labelled,
    choose,
    folds_of,
    learning_curve,
    prove,
    twice_as_many,
)
from edge_runtime.adapt.ridge import Basis
from edge_runtime.statistics.adjusted import adjusted_auc, adjusted_auc_difference
from edge_runtime.statistics.metrics import auc

CHANNELS = 60


def site(
    n: int = 200, gain: float = 0.0, confounder: float = 0.0, seed: int = 0, films: int = 1
) -> tuple[Labelled, np.ndarray]:
    """Films whose features hold `gain` of disease and `confounder` of a machine, and the machine.

    The machine follows the label as strongly as the features follow the machine.
    """
    rng = np.random.default_rng(seed)
    positive = np.repeat((rng.random(n // films) < 0.5).astype(np.int64), films)
    machine = positive * confounder + rng.normal(size=len(positive))
    features = rng.normal(size=(len(positive), CHANNELS))
    features[:, :8] *= 3  # what cannot be missed
    features[:, 0] += gain * 3 * positive
    features[:, 1] += 3 * machine * (confounder > 0)
    logits = rng.normal(1.0 * positive, 1.5)
    people = tuple(f"p{i // films}" for i in range(len(positive)))
    return Labelled(logits, features, positive, people, 0.7), machine


def proven(data: Labelled, machine: np.ndarray | None = None, noise: float = 0.0):  # type: ignore[no-untyped-def]
    scores = prove(Basis(data.features), data, repeats=2)
    facts = []
    if machine is not None:
        rng = np.random.default_rng(9)
        facts = [Fact("machine", (machine + noise * rng.normal(size=len(machine)))[:, np.newaxis])]
    return guard(data.positive, data.logits, scores, facts, data.patients), scores


def test_what_features_hold_is_found_and_nothing_else() -> None:
    helped, scores = proven(site(gain=1.2)[0])
    assert helped.refusal is None and helped.gain.low > 0
    assert (
        auc(site(gain=1.2)[0].positive, scores)
        > auc(site(gain=1.2)[0].positive, site(gain=1.2)[0].logits) + 0.03
    )
    believed = [proven(site(seed=s)[0])[0].refusal is None for s in range(20)]
    assert sum(believed) <= 2  # chance, at a level of 2.5 %


def test_what_was_proven_holds_on_films_that_nobody_saw() -> None:
    """Nested cross-validation neither flatters nor slanders: its mean is that of fresh films."""
    inside, outside = [], []
    fresh, _ = site(2000, gain=0.8, seed=999)
    for seed in range(8):
        data, _ = site(gain=0.8, seed=seed)
        basis = Basis(data.features)
        inside.append(auc(data.positive, prove(basis, data, 2)))
        chosen = choose(basis.coordinates(data.features), data, np.arange(len(data)))
        scores = chosen.fit.scores(fresh.logits, basis.coordinates(fresh.features))
        outside.append(auc(fresh.positive, scores))
    assert np.mean(inside) == pytest.approx(np.mean(outside), abs=0.03)


def test_a_machine_that_follows_the_label_is_named() -> None:
    for seed in range(5):
        found, _ = proven(*site(confounder=1.5, seed=seed))
        # Its gain may be nothing at all, where the features are noise beside the machine.
        assert found.refusal in (CONFOUNDED, INCOMPARABLE, CHANCE)
        assert found.strongest == "machine"
        assert found.telling and found.facts[0].auc.value > 0.75


def test_a_machine_measured_badly_is_found_still() -> None:
    """A fact that is only near to what the features hold leaves something over in its strata."""
    refused = [
        proven(*site(confounder=1.5, seed=s), noise=0.3)[0].refusal is not None for s in range(10)
    ]
    assert sum(refused) >= 8


def test_disease_beside_a_weak_machine_is_believed() -> None:
    believed = []
    for seed in range(10):
        data, machine = site(300, gain=1.5, confounder=0.5, seed=seed)
        found, _ = proven(data, machine)
        believed.append(found.refusal is None)
    assert sum(believed) >= 8


def test_facts_that_tell_nothing_are_no_hindrance() -> None:
    data, _ = site(gain=1.2)
    noise = np.random.default_rng(5).normal(size=len(data))
    found, _ = proven(data, noise)
    assert found.refusal is None and not found.telling and found.gain_within is None


def test_flipped_labels_cost_little() -> None:
    """Fifteen in a hundred wrong: a good part of the gain is left, on films labelled rightly."""
    fresh, _ = site(2000, gain=1.2, seed=999)
    rng = np.random.default_rng(3)
    gains = {}
    for share in (0.0, 0.15):
        found = []
        for seed in range(6):
            data, _ = site(gain=1.2, seed=seed)
            wrong = rng.random(len(data)) < share
            flipped = Labelled(
                data.logits,
                data.features,
                np.where(wrong, 1 - data.positive, data.positive),
                data.patients,
                data.slope,
            )
            basis = Basis(data.features)
            fit = choose(basis.coordinates(data.features), flipped, np.arange(len(data))).fit
            scores = fit.scores(fresh.logits, basis.coordinates(fresh.features))
            found.append(auc(fresh.positive, scores) - auc(fresh.positive, fresh.logits))
        gains[share] = float(np.mean(found))
    assert gains[0.15] > 0.3 * gains[0.0] > 0


def test_a_patients_films_share_a_fold() -> None:
    data, _ = site(90, films=3)
    fold = folds_of(data.patients, data.positive, 5, 0)
    for patient in set(data.patients):
        assert len({f for f, p in zip(fold, data.patients, strict=True) if p == patient}) == 1
    for k in range(5):
        assert set(data.positive[fold == k]) == {0, 1}


def test_the_curve_rises_and_looks_ahead() -> None:
    curve = learning_curve(Basis(site(400, gain=1.0)[0].features), site(400, gain=1.0)[0])
    assert [p.films for p in curve] == sorted(p.films for p in curve)
    made = [CurvePoint(n, 0.9 - 1 / np.sqrt(n)) for n in (50, 100, 200)]
    assert twice_as_many(made) == pytest.approx(0.9 - 1 / np.sqrt(400), abs=1e-9)
    assert twice_as_many([CurvePoint(n, 0.9 - n / 1000) for n in (50, 100, 200)]) <= 0.85
    assert twice_as_many(made[:2]) is None


def test_adjusted_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    positive = np.tile([0, 1], 100)
    strata = np.repeat([0, 1], 100)
    a = rng.normal(positive)
    b = a + 0.5 * positive
    people = [str(i) for i in range(200)]
    found = adjusted_auc_difference(positive, a, b, strata, people)
    assert found.difference == pytest.approx(
        adjusted_auc(positive, b, strata) - adjusted_auc(positive, a, strata)
    )
    assert 0 < found.low < found.difference < found.high and found.p_value < 0.001
    same = adjusted_auc_difference(positive, a, a, strata, people)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
