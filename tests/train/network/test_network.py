"""The one-channel fold and the head that explains itself, as equalities."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from train.fit.optimise import compile_phase
from train.network.backbones import BACKBONES, scale_input
from train.network.build import backbone_of, build_network
from train.network.grad_cam import evidence_maps
from train.recipe import Network, Optimisation, Recipe, load_recipe

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
        RECIPE,
        network=Network(alpha=0.35, labels=("normal", "bacterial", "viral"), activation="softmax"),
    )
    assert build_network(recipe, None).output_shape == (None, 3)


def test_findings_that_may_come_together_have_a_unit_each_but_for_normal() -> None:
    network = Network(alpha=0.35, labels=("normal", "opacity", "effusion", "tuberculosis"))
    assert network.positive == "abnormal"
    assert build_network(dataclasses.replace(RECIPE, network=network), None).output_shape == (
        None,
        3,
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_takes_grey_pixels_and_survives_saving(name: str, tmp_path: Path) -> None:
    scaling = "caffe" if name in ("resnet50", "vgg16") else "unit"
    network = Network(name, scaling=scaling, head="dense", hidden=(4,), activation="softmax")
    model = build_network(
        dataclasses.replace(RECIPE, input=InputSpec(64, 64), network=network), None
    )
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 1)).astype(np.float32)
    expected = np.asarray(model(pixels))
    assert expected.shape == (2, 2) and np.isfinite(expected).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(np.asarray(again(pixels)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("symmetric", [-1.0, 0.0, 127 / 128]),
        ("unit", [0.0, 128 / 255, 1.0]),
        ("bytes", [0, 128, 255]),
    ],
)
def test_scalings(scaling: str, expected: list[float]) -> None:
    values = keras.ops.convert_to_tensor([[-1.0, 0.0, 127 / 128]])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, scale_input(inputs, scaling))
    np.testing.assert_allclose(np.asarray(model(values))[0], expected, atol=1e-4)


def test_caffe_scaling_is_what_keras_does_for_resnet50() -> None:
    network = Network("resnet50", scaling="caffe")
    recipe = dataclasses.replace(RECIPE, input=InputSpec(64, 64), network=network)
    backbone = backbone_of(build_network(recipe, None))
    colour = keras.applications.ResNet50(input_shape=(64, 64, 3), include_top=False, weights=None)
    colour.set_weights(backbone.get_weights())
    grey = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 1)).astype(np.float32)
    prepared = keras.applications.resnet.preprocess_input(np.repeat(grey, 3, axis=3))
    expected = np.asarray(colour(prepared, training=False))
    found = np.asarray(backbone((grey - 128) / 128, training=False))
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, atol=1e-3 * float(np.abs(expected).max()))


def test_what_learns_in_each_phase() -> None:
    plan = Optimisation(trainable_layers=10, freeze_batch_norm=True)
    recipe = dataclasses.replace(RECIPE, optimisation=plan)
    model = build_network(recipe, None)
    compile_phase(model, recipe, "head")
    assert len(model.trainable_variables) == 2
    compile_phase(model, recipe, "all")
    learning = [layer for layer in backbone_of(model).layers if layer.trainable]
    assert 0 < len(learning) <= 10
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in learning)
    assert set(learning) <= set(backbone_of(model).layers[-10:])


def test_wrong_settings_are_named() -> None:
    for change, said in (
        ({"backbone": "nonesuch"}, "nonesuch"),
        ({"scaling": "nonesuch"}, "nonesuch"),
        ({"head": "nonesuch"}, "nonesuch"),
        ({"head": "map", "hidden": (8,)}, "hidden"),
        ({"scaling": "caffe"}, "caffe"),
    ):
        network = dataclasses.replace(RECIPE.network, **change)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match=said):
            build_network(dataclasses.replace(RECIPE, network=network), None)


def test_grad_cam_of_a_linear_head_sums_to_its_logit() -> None:
    network = Network("plain-cnn", head="dense", dropout=0.0)
    dense = dataclasses.replace(RECIPE, network=network)
    model = build_network(dense, None)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 96, 96, 1)).astype(np.uint8)
    maps = evidence_maps(model, pixels, "sigmoid")
    bias = float(np.asarray(model.get_layer("logits").bias)[0])
    logits = np.asarray(model(pixels.astype(np.float32)))[:, 0]
    assert maps.shape == (2, 6, 6) and np.abs(maps).max() > 1e-4
    np.testing.assert_allclose(
        maps.mean(axis=(1, 2)) + bias, logits, atol=2e-2 * np.abs(logits).max()
    )


_OWN = """
import keras

def right(input_shape, weights):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, x)

def pooled(input_shape, weights):
    model = right(input_shape, weights)
    return keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(model.output))

def colour(input_shape, weights):
    return right((*input_shape[:2], 3), weights)

def number(input_shape, weights):
    return 3

def broken(input_shape, weights):
    raise RuntimeError("no such file")

class Mine(keras.layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
    def call(self, x):
        return x * self.factor

def strange(input_shape, weights):
    model = right(input_shape, weights)
    return keras.Model(model.input, Mine(2)(model.output))
"""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("pooled", "not one map"),
        ("colour", "not one input"),
        ("number", "gave a int"),
        ("broken", "RuntimeError: no such file"),
        ("nonesuch", "nonesuch"),
        ("strange", "cannot be loaded again"),
    ],
)
def test_a_backbone_of_ones_own_is_looked_at_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, said: str
) -> None:
    (tmp_path / "backbones_of_mine.py").write_text(_OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = load_recipe("smoke", ["network.backbone=backbones_of_mine:right"])
    model = build_network(recipe, None)
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")
    wrong = load_recipe("smoke", [f"network.backbone=backbones_of_mine:{function}"])
    with pytest.raises(InvalidValueError, match=said):
        build_network(wrong, None)
    with pytest.raises(InvalidValueError, match="No module named"):
        build_network(load_recipe("smoke", ["network.backbone=none_of_mine:right"]), None)
