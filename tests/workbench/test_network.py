"""The one-channel fold and the head that explains itself, as equalities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.preprocess import InputSpec
from train.network import build_network
from train.recipe import Network, Recipe

keras = pytest.importorskip("keras")

RECIPE = Recipe("test", "test", input=InputSpec(96, 96), network=Network(alpha=0.35, dropout=0.0))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random three-channel weights, as an ImageNet file would hold trained ones."""
    keras.utils.set_random_seed(3)
    model = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None
    )
    file = tmp_path_factory.mktemp("weights") / "w.weights.h5"
    model.save_weights(file)
    return file


def test_one_channel_computes_what_three_equal_channels_compute(weights_file: Path) -> None:
    model = build_network(RECIPE, str(weights_file))
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    colour = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=str(weights_file)
    )
    grey = np.random.default_rng(0).uniform(-1, 1, (4, 96, 96, 1)).astype(np.float32)
    expected = np.asarray(colour(np.repeat(grey, 3, axis=3), training=False))
    assert expected.std() > 0
    np.testing.assert_allclose(np.asarray(backbone(grey, training=False)), expected, atol=1e-4)


def test_the_head_equals_a_dense_unit_on_pooled_features(weights_file: Path) -> None:
    model = build_network(RECIPE, str(weights_file))
    features = keras.Model(model.input, model.get_layer("features").output)
    kernel, bias = (np.asarray(w) for w in model.get_layer("evidence_map").weights)
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 96, 96, 1)).astype(np.float32)
    pooled = np.asarray(features(pixels)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(model(pixels)), pooled @ kernel[0, 0] + bias, atol=1e-4)


def test_normalisation_is_the_scale_and_zero_point() -> None:
    model = build_network(RECIPE, None)
    layer = keras.Model(model.input, model.get_layer("normalise").output)
    values = np.array([0, 128, 255], np.float32).reshape(1, 3, 1, 1)
    pixels = np.zeros((1, 96, 96, 1), np.float32)
    pixels[:, :3, :1] = values
    found = np.asarray(layer(pixels))[0, :3, 0, 0]
    np.testing.assert_array_equal(found, [-1.0, 0.0, 127 / 128])


def test_three_labels_have_a_unit_each() -> None:
    recipe = dataclasses.replace(
        RECIPE, network=Network(alpha=0.35, labels=("normal", "bacterial", "viral"))
    )
    assert build_network(recipe, None).output_shape == (None, 3)
