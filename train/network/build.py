"""Backbone + head.

    pixels (n, h, w, 1) 0..255 -> (pixel - 128) / 128 -> backbone -> features (n, rows, columns, c)

and then the head that explains itself, which is the one that can be exported:

    features -> 1x1 convolution -> map (n, rows, columns, units) -> mean -> logits (n, units)

A dense unit after global average pooling and a 1x1 convolution before it compute the same logit,
and the convolution's output is the class activation map. Source: Zhou et al., Learning Deep
Features for Discriminative Localization, CVPR 2016; for this head Grad-CAM (Selvaraju et al.,
ICCV 2017) gives the same map.
"""

from __future__ import annotations

import keras

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT
from train.network.backbones import build_backbone, scale_input
from train.recipe import Network, Recipe

FEATURES_LAYER = "features"
MAP_LAYER = "evidence_map"


def build_network(recipe: Recipe, weights: str | None) -> keras.Model:
    """The training model: uint8 values as float32 in, logits (n, units) out.

    One unit for two labels (its sigmoid is the probability of labels[1]); a unit each for more,
    or where the recipe asks for softmax.

    Args:
        recipe: Input size, backbone, head and labels.
        weights: "imagenet", the path of a weights file without the top, or None for random.

    Raises:
        InvalidValueError: Unknown backbone, scaling or head, or settings that exclude each other.
    """
    network = recipe.network
    inputs = keras.Input((recipe.input.height, recipe.input.width, 1), name="image")
    x = keras.layers.Rescaling(
        PIXEL_SCALE, offset=-PIXEL_ZERO_POINT * PIXEL_SCALE, name="normalise"
    )(inputs)
    x = scale_input(x, network.scaling)
    x = build_backbone(recipe, weights)(x)
    x = keras.layers.Identity(name=FEATURES_LAYER)(x)
    outputs = _map_head(x, network) if network.head == "map" else _dense_head(x, network)
    return keras.Model(inputs, outputs, name=recipe.name.replace("-", "_"))


def build_or_say(recipe: Recipe, weights: str | None) -> keras.Model:
    """`build_network`; whatever is wrong with the weights is an error that says so.

    Raises:
        InvalidValueError: As `build_network`, weights that cannot be had, or those of another
            network.
    """
    backbone = recipe.network.backbone
    try:
        return build_network(recipe, weights)
    except InvalidValueError:
        raise
    except Exception as error:  # Keras and h5py raise whatever they like
        if weights == "imagenet":
            raise InvalidValueError(
                f"ImageNet weights of {backbone} cannot be downloaded: {error}; "
                "give a file (--weights FILE, see `train weights`) or random ones (--weights none)"
            ) from error
        if weights is not None:
            raise InvalidValueError(
                f"{weights} holds no weights of {backbone} at this width "
                f"without its top: {str(error).splitlines()[0]}"
            ) from error
        raise InvalidValueError(f"recipe {recipe.name} cannot be built: {error}") from error


def _map_head(x: keras.KerasTensor, network: Network) -> keras.KerasTensor:
    if network.hidden:
        raise InvalidValueError('network.hidden needs network.head = "dense" or "flatten"')
    # Dropping whole channels here equals dropout on the pooled features.
    x = keras.layers.SpatialDropout2D(network.dropout, name="dropout")(x)
    x = keras.layers.Conv2D(network.units, 1, kernel_regularizer=_l2(network), name=MAP_LAYER)(x)
    return keras.layers.GlobalAveragePooling2D(name="logits", dtype="float32")(x)


def _dense_head(x: keras.KerasTensor, network: Network) -> keras.KerasTensor:
    if network.head == "dense":
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    elif network.head == "flatten":
        x = keras.layers.Flatten(name="flat")(x)
    else:
        raise InvalidValueError(f"network.head must be map, dense or flatten, got {network.head!r}")
    for i, size in enumerate(network.hidden):
        x = keras.layers.Dense(
            size, activation="relu", kernel_regularizer=_l2(network), name=f"dense{i + 1}"
        )(x)
    x = keras.layers.Dropout(network.dropout, name="dropout")(x)
    return keras.layers.Dense(
        network.units, kernel_regularizer=_l2(network), name="logits", dtype="float32"
    )(x)


def _l2(network: Network) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(network.l2) if network.l2 else None


def backbone_of(model: keras.Model) -> keras.Model:
    """The backbone inside a model of `build_network`."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))
