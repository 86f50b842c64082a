"""The convolutional parts: (n, h, w, 1) scaled grey values -> (n, rows, columns, channels).

MobileNetV2's first kernel is folded to one channel. The others see the grey value three times.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable

import keras
import numpy as np

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT
from train.network.efficientnet_lite import efficientnet_lite0
from train.recipe import Recipe

# Source: the constants of Keras' imagenet_utils, mode "caffe": blue, green, red.
_CAFFE_MEANS = (103.939, 116.779, 123.68)
_APPLICATIONS: dict[str, Callable[..., keras.Model]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "efficientnetb0": keras.applications.EfficientNetB0,
    "mobilenetv3-large": keras.applications.MobileNetV3Large,
    "mobilenetv3-small": keras.applications.MobileNetV3Small,
    "resnet50": keras.applications.ResNet50,
    "vgg16": keras.applications.VGG16,
}
_DRAWN = ("plain-cnn", "sequential-cnn")
BACKBONES = ("mobilenetv2", *_APPLICATIONS, *_DRAWN)


def build_backbone(recipe: Recipe, weights: str | None) -> keras.Model:
    """The recipe's backbone, with batch normalisation at the recipe's momentum.

    Args:
        recipe: Names the backbone, its width and the input size.
        weights: "imagenet", the path of a weights file without the top, or None for random.

    Raises:
        InvalidValueError: Unknown backbone or scaling, or weights for one that has none.
    """
    name = recipe.network.backbone
    if name in _DRAWN:
        if weights is not None:
            raise InvalidValueError(f"{name} has no pretrained weights: --weights none")
        model = _plain_cnn(recipe) if name == "plain-cnn" else _sequential_cnn(recipe)
    elif name == "mobilenetv2":
        model = _grey_mobilenet_v2(recipe, weights)
    elif name in _APPLICATIONS:
        model = _three_equal_channels(recipe, weights)
    elif ":" in name:
        model = _of_ones_own(recipe, weights)
    else:
        raise InvalidValueError(
            f"unknown backbone {name!r}; there are {', '.join(BACKBONES)}, or MODULE:FUNCTION of "
            "your own"
        )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Keras' 0.99 to 0.999 needs thousands of steps to follow; fine-tuning has hundreds.
            layer.momentum = recipe.optimisation.batch_norm_momentum
    return model


def scale_input(x: keras.KerasTensor, scaling: str) -> keras.KerasTensor:
    """Normalised values (pixel - 128) / 128 in the scaling that a backbone was trained with.

    Raises:
        InvalidValueError: Unknown scaling.
    """
    if scaling in ("symmetric", "caffe"):
        return x  # caffe's means differ by channel: see _three_equal_channels
    if scaling == "unit":
        return keras.layers.Rescaling(
            1 / (255 * PIXEL_SCALE), offset=PIXEL_ZERO_POINT / 255, name="scale"
        )(x)
    if scaling == "bytes":
        return keras.layers.Rescaling(1 / PIXEL_SCALE, offset=PIXEL_ZERO_POINT, name="scale")(x)
    raise InvalidValueError(
        f"network.scaling must be symmetric, unit, bytes or caffe, got {scaling!r}"
    )


def _three_equal_channels(recipe: Recipe, weights: str | None) -> keras.Model:
    spec, network = recipe.input, recipe.network
    options: dict[str, object] = {}
    if network.backbone.startswith("mobilenetv3"):
        options = {"alpha": network.alpha, "include_preprocessing": False}
    build = _APPLICATIONS[network.backbone]
    inputs = keras.Input((spec.height, spec.width, 1))
    if network.scaling == "caffe":
        channels = [
            keras.layers.Rescaling(1 / PIXEL_SCALE, offset=PIXEL_ZERO_POINT - mean)(inputs)
            for mean in _CAFFE_MEANS
        ]
    else:
        channels = [inputs] * 3
    colour = keras.layers.Concatenate()(channels)
    model = build(input_tensor=colour, include_top=False, weights=None, **options)
    if weights is not None:
        shape = (spec.height, spec.width, 3)
        pretrained = build(input_shape=shape, include_top=False, weights=weights, **options)
        model.set_weights(pretrained.get_weights())
    # Keras makes a list of the one input; ours is a tensor.
    return keras.Model(inputs, model.output, name=network.backbone.replace("-", "_"))


def _of_ones_own(recipe: Recipe, weights: str | None) -> keras.Model:
    """MODULE:FUNCTION, called as `function(input_shape=(height, width, 1), weights=weights)`.

    It has to give a Keras model of one input of that shape, in the recipe's scaling, and of one
    output (rows, columns, channels), made of layers that Keras knows or that are registered with
    it: export loads it again. All of that is looked at here, before training.

    Raises:
        InvalidValueError: It cannot be imported, or gives something else.
    """
    name, shape = recipe.network.backbone, (recipe.input.height, recipe.input.width, 1)
    module, _, function = name.partition(":")
    try:
        build = operator.attrgetter(function)(importlib.import_module(module))
        model = build(input_shape=shape, weights=weights)
    except Exception as error:  # somebody's own code
        raise InvalidValueError(f"backbone {name}: {type(error).__name__}: {error}") from error
    if not isinstance(model, keras.Model):
        raise InvalidValueError(f"backbone {name} gave a {type(model).__name__}, no Keras model")
    inputs, outputs = model.inputs, model.outputs
    if [tuple(i.shape[1:]) for i in inputs] != [shape]:
        raise InvalidValueError(
            f"backbone {name} takes {[tuple(i.shape[1:]) for i in inputs]}, not one input {shape}"
        )
    if len(outputs) != 1 or len(outputs[0].shape) != 4 or None in outputs[0].shape[1:]:
        raise InvalidValueError(
            f"backbone {name} gives {[tuple(o.shape) for o in outputs]}, not one map of (rows, "
            "columns, channels): leave pooling and the top out"
        )
    try:
        keras.Model.from_config(model.get_config())
    except Exception as error:
        raise InvalidValueError(
            f"backbone {name} cannot be loaded again once it is saved ({error}): register its own "
            "layers with keras.saving.register_keras_serializable"
        ) from error
    return model


def _plain_cnn(recipe: Recipe) -> keras.Model:
    """Four blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 maximum."""
    inputs = keras.Input((recipe.input.height, recipe.input.width, 1))
    x = inputs
    for filters in (16, 32, 64, 128):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    return keras.Model(inputs, x, name="plain_cnn")


def _sequential_cnn(recipe: Recipe) -> keras.Model:
    """Three blocks of 3x3 convolution, ReLU and 2x2 maximum: the tutorial's network."""
    inputs = keras.Input((recipe.input.height, recipe.input.width, 1))
    x = inputs
    for filters in (32, 64, 128):
        x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    return keras.Model(inputs, x, name="sequential_cnn")


def _grey_mobilenet_v2(recipe: Recipe, weights: str | None) -> keras.Model:
    """MobileNetV2 whose first convolution takes one channel.

    The three channels of a grey picture are equal, so the first kernel summed over its input
    channels computes the same function from one of them.
    Source: Sandler et al., MobileNetV2, CVPR 2018.
    """
    spec, alpha = recipe.input, recipe.network.alpha
    if recipe.network.scaling == "caffe":
        raise InvalidValueError("mobilenetv2 takes no caffe scaling")
    grey = keras.applications.MobileNetV2(
        input_shape=(spec.height, spec.width, 1), alpha=alpha, include_top=False, weights=None
    )
    if weights is not None:
        colour = keras.applications.MobileNetV2(
            input_shape=(spec.height, spec.width, 3),
            alpha=alpha,
            include_top=False,
            weights=weights,
        )
        values = colour.get_weights()
        values[0] = np.sum(values[0], axis=2, keepdims=True)
        grey.set_weights(values)
    return grey
