"""Without batch normalisation a network computes the same, and goes back into its own layers."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from train.network.build import backbone_of, build_network
from train.network.fold import fold, unfold
from train.recipe import load_recipe

keras = pytest.importorskip("keras")

CHANGES = ["input.height=64", "input.width=64", "network.alpha=0.35"]


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (3, 64, 64, 1)).astype(np.float32)


def with_statistics() -> keras.Model:
    """A network whose normalisations are not the identity; one channel of each is switched off."""
    keras.utils.set_random_seed(1)
    model = build_network(load_recipe("default", CHANGES), None)
    rng = np.random.default_rng(1)
    for layer in backbone_of(model).layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (
                rng.uniform(low, high, layer.gamma.shape)
                for low, high in ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.3, 2))
            )
            gamma[0] = 0.0
            layer.set_weights([gamma, beta, mean, variance])
    return model


def test_folded_and_unfolded_are_the_same_function() -> None:
    model = with_statistics()
    expected = np.asarray(model(drawn(0)))
    folded = fold(model)
    kinds = {type(layer) for layer in backbone_of(folded).layers}
    assert keras.layers.BatchNormalization not in kinds
    np.testing.assert_allclose(np.asarray(folded(drawn(0))), expected, atol=1e-4)
    unfold(folded, model)
    np.testing.assert_allclose(np.asarray(model(drawn(0))), expected, atol=1e-4)


def test_what_is_learned_goes_back_also_into_channels_that_were_off() -> None:
    model = with_statistics()
    statistics = {
        layer.name: layer.get_weights()[2:]
        for layer in backbone_of(model).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    folded = fold(model)
    rng = np.random.default_rng(2)
    folded.set_weights([w + rng.normal(0, 0.02, w.shape) for w in folded.get_weights()])
    learned = np.asarray(folded(drawn(0)))
    assert np.abs(learned - np.asarray(model(drawn(0)))).max() > 0.01
    unfold(folded, model)
    np.testing.assert_allclose(np.asarray(model(drawn(0))), learned, atol=1e-3)
    for name, kept in statistics.items():
        found = backbone_of(model).get_layer(name).get_weights()[2:]
        np.testing.assert_array_equal(found, kept)


def test_what_is_learned_goes_into_another_model_of_the_same_shapes() -> None:
    """Layers that Keras names itself have another name in every model."""
    changes = [*CHANGES, "network.backbone=plain-cnn"]
    begun, other = (build_network(load_recipe("default", changes), None) for _ in range(2))
    folded = fold(begun)
    folded.set_weights([w + 0.01 for w in folded.get_weights()])
    other.set_weights(begun.get_weights())
    unfold(folded, other)
    expected = np.asarray(folded(drawn(0)))
    np.testing.assert_allclose(np.asarray(other(drawn(0))), expected, atol=1e-3)


@pytest.mark.parametrize("backbone", ["plain-cnn", "sequential-cnn"])
def test_networks_that_cannot_be_folded_are_refused(backbone: str) -> None:
    changes = [*CHANGES, f"network.backbone={backbone}"]
    model = build_network(load_recipe("default", changes), None)
    if backbone == "plain-cnn":  # its normalisations do follow convolutions
        assert fold(model).count_params() < model.count_params()
        return
    with pytest.raises(InvalidValueError, match="has none to fold"):
        fold(model)
