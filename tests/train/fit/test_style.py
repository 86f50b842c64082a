"""Statistics of early features exchanged between films, in training alone."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras")

import keras

from edge_runtime.errors import InvalidValueError
from train.fit.evidence import with_map
from train.fit.style import MixStyle, style_layers, with_style
from train.network.build import build_network
from train.network.fold import fold
from train.recipe import load_recipe


def test_films_exchange_mean_and_spread_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    films = rng.normal(size=(6, 5, 7, 3)).astype(np.float32)
    films = films * rng.uniform(0.5, 3, (6, 1, 1, 3)) + rng.normal(size=(6, 1, 1, 3))
    layer = MixStyle(1.0, seed=3)
    assert np.array_equal(layer(films), films.astype(np.float32)), "not in inference"
    mixed = np.array(layer(films, training=True))

    def normal(x: np.ndarray) -> np.ndarray:
        return (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)

    assert np.allclose(normal(mixed), normal(films), atol=1e-3), "what lies where stays"
    means, new = films.mean((1, 2)), mixed.mean((1, 2))
    assert np.abs(new - means).max() > 0.1
    low, high = means.min(axis=0), means.max(axis=0)
    assert (new >= low - 1e-4).all() and (new <= high + 1e-4).all(), "between those of two films"
    rare = np.array(MixStyle(0.3, seed=3)(np.repeat(films, 40, axis=0), training=True))
    changed = np.abs(rare - np.repeat(films, 40, axis=0)).max((1, 2, 3)) > 1e-3
    assert 0.1 < changed.mean() < 0.35, "a chance of 0.3, some of which draw themselves"


def test_what_is_trained_is_the_same_network() -> None:
    recipe = load_recipe("hospitals-apart", ["input.height=64", "input.width=64"])
    for model in (build_network(recipe, None), fold(build_network(recipe, None))):
        styled = with_style(model, 0.5)
        assert [layer.name for layer in style_layers(styled)] == [
            "style_block_2_add", "style_block_4_add",
        ]  # fmt: skip
        pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
        assert np.array_equal(model(pixels), styled(pixels))
        assert set(with_map(styled, True)(pixels)) == {"logits", "map", "side"}
        styled.set_weights([w + 0.01 for w in styled.get_weights()])
        model.set_weights(styled.get_weights())
        assert np.array_equal(model(pixels), styled(pixels))
    inputs = keras.Input((8, 8, 1))
    other = keras.Model(inputs, keras.layers.Flatten()(inputs))
    with pytest.raises(InvalidValueError, match="feature_style"):
        with_style(other, 0.5)
