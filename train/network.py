"""Backbone + self-explaining head.

    pixels (n, h, w, 1) 0..255 -> (pixel - 128) / 128 -> backbone -> features (n, rows, columns, c)
    -> 1x1 convolution -> evidence map (n, rows, columns, units) -> mean -> logits (n, units)

A dense unit after global average pooling and a 1x1 convolution before it compute the same logit,
and the convolution's output is the class activation map. Source: Zhou et al., Learning Deep
Features for Discriminative Localization, CVPR 2016; for this head Grad-CAM (Selvaraju et al.,
ICCV 2017) gives the same map.
"""

from __future__ import annotations

import keras
import numpy as np

from edge_runtime.errors import InvalidValueError
from edge_runtime.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT
from train.recipe import Recipe

FEATURES_LAYER = "features"
MAP_LAYER = "evidence_map"


def build_network(recipe: Recipe, weights: str | None) -> keras.Model:
    """The training model: uint8 values as float32 in, logits (n, units) out.

    One unit for two labels (its sigmoid is the probability of labels[1]); a unit each for more.

    Args:
        recipe: Input size, backbone, dropout and labels.
        weights: "imagenet", the path of a weights file without the top, or None for random.
    """
    spec = recipe.input
    units = 1 if len(recipe.network.labels) == 2 else len(recipe.network.labels)
    inputs = keras.Input((spec.height, spec.width, 1), name="image")
    x = keras.layers.Rescaling(
        PIXEL_SCALE, offset=-PIXEL_ZERO_POINT * PIXEL_SCALE, name="normalise"
    )(inputs)
    x = _backbone(recipe, weights)(x)
    x = keras.layers.Identity(name=FEATURES_LAYER)(x)
    # Dropping whole channels here equals dropout on the pooled features.
    x = keras.layers.SpatialDropout2D(recipe.network.dropout, name="dropout")(x)
    x = keras.layers.Conv2D(units, 1, name=MAP_LAYER)(x)
    outputs = keras.layers.GlobalAveragePooling2D(name="logits")(x)
    return keras.Model(inputs, outputs, name=recipe.name.replace("-", "_"))


def _backbone(recipe: Recipe, weights: str | None) -> keras.Model:
    """The named backbone: (n, h, w, 1) normalised -> (n, h/k, w/k, channels)."""
    name = recipe.network.backbone
    if name == "mobilenetv2":
        return _grey_mobilenet_v2(recipe, weights)
    if name == "plain-cnn":
        if weights is not None:
            raise InvalidValueError("plain-cnn has no pretrained weights: --weights none")
        return _plain_cnn(recipe)
    raise InvalidValueError(f"unknown backbone {name!r}; there are mobilenetv2 and plain-cnn")


def _plain_cnn(recipe: Recipe) -> keras.Model:
    """Four blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 maximum."""
    spec = recipe.input
    inputs = keras.Input((spec.height, spec.width, 1))
    x = inputs
    for filters in (16, 32, 64, 128):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=recipe.optimisation.batch_norm_momentum)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    return keras.Model(inputs, x, name="plain_cnn")


def _grey_mobilenet_v2(recipe: Recipe, weights: str | None) -> keras.Model:
    """MobileNetV2 whose first convolution takes one channel.

    The three channels of a grey picture are equal, so the first kernel summed over its input
    channels computes the same function from one of them.
    Source: Sandler et al., MobileNetV2, CVPR 2018.
    """
    spec, alpha = recipe.input, recipe.network.alpha
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
    for layer in grey.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Keras' 0.999 needs thousands of steps to follow; a fine-tuning run has hundreds.
            layer.momentum = recipe.optimisation.batch_norm_momentum
    return grey
