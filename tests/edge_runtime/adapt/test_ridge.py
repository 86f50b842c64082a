"""The fits, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.adapt.ridge import STRENGTHS, Basis, balance, fit_ridge, fit_scale, log_loss

linear_model = pytest.importorskip("sklearn.linear_model")
optimize = pytest.importorskip("scipy.optimize")


def drawn(n: int = 240, channels: int = 50, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    positive = (rng.random(n) < 0.4).astype(np.int64)
    features = rng.gamma(2.0, size=(n, channels))
    features[:, 3] += positive
    logits = rng.normal(1.5 * positive, 2.0)
    return logits, features, positive


def test_slope_and_bias_are_those_of_a_general_optimiser() -> None:
    logits, _, positive = drawn()
    fit = fit_scale(logits, positive, 0.6)
    unit = 1 / logits.std()

    def loss(beta: np.ndarray) -> float:
        losses = log_loss(beta[0] * logits + beta[1], positive).sum()
        return float(losses + 2.0 / unit**2 * (beta[0] - 0.6) ** 2 / 2)

    found = optimize.minimize(loss, [0.6, 0.0], method="BFGS").x
    assert (fit.slope, fit.bias) == pytest.approx(found, abs=1e-4)


def test_weights_are_those_of_scikit_learn() -> None:
    logits, features, positive = drawn()
    x = Basis(features, 20).coordinates(features)
    lengths = []
    for strength, fit in zip(
        sorted(STRENGTHS, reverse=True), fit_ridge(logits, x, positive, 0.5), strict=True
    ):
        # scikit-learn knows no offset: without a slope there is none.
        zero = fit_ridge(np.zeros(len(logits)), x, positive, 0.5, [strength])[0]
        model = linear_model.LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000)
        model.fit(x, positive, sample_weight=balance(positive))
        assert np.array(zero.weights) == pytest.approx(model.coef_[0], abs=1e-4)
        assert zero.bias == pytest.approx(model.intercept_[0], abs=1e-4)
        lengths.append(float(np.linalg.norm(fit.weights)))
    assert lengths == sorted(lengths)  # the less it is shrunk, the longer


def test_weights_of_features_say_what_coordinates_say() -> None:
    logits, features, positive = drawn()
    for count in (len(features), 30):  # more films than channels, and fewer
        basis = Basis(features[:count], 10)
        fit = fit_ridge(logits[:count], basis.coordinates(features[:count]), positive[:count], 0.5)[
            -1
        ]
        weights, moved = basis.weights(fit)
        scores = fit.slope * logits + fit.bias + moved + features @ weights
        assert scores == pytest.approx(fit.scores(logits, basis.coordinates(features)))


def test_a_basis_does_not_depend_on_the_library() -> None:
    """The same directions, whatever the order of the films and the sign of an eigenvector."""
    _, features, _ = drawn()
    one, other = Basis(features, 8), Basis(features[::-1], 8)
    assert one.axes == pytest.approx(other.axes, abs=1e-8)
    dead = np.column_stack([features, np.zeros(len(features)), np.full(len(features), 7.0)])
    assert np.isfinite(Basis(dead).coordinates(dead)).all()


def test_perfectly_separable_films_stay_finite() -> None:
    positive = np.repeat([0, 1], 40)
    logits = np.where(positive == 1, 9.0, -9.0)
    features = np.column_stack([positive * 5.0, np.ones(80), np.arange(80.0)])
    basis = Basis(features)
    for fit in [
        fit_scale(logits, positive, 0.7),
        *fit_ridge(logits, basis.coordinates(features), positive, 0.7),
    ]:
        assert np.isfinite([fit.slope, fit.bias, *fit.weights]).all()
    backwards = fit_scale(-logits, positive, 0.7)
    assert backwards.slope == 0  # never turns a score round
