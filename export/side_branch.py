"""A branch that knows left from right, for the quality gate; fitted on the finished network.

A network that learns from mirrored films, so that disease is found on either side, forgets the
side: no classifier behind its pooled features can tell a mirrored film. To teach the features the
side costs ranking at hospitals that the network has not seen (docs/decisions/0038). So the network
stays as it is, and a small branch of its own looks at the last map of stride 16, which still knows
where things are:

    block 12 (h/16, w/16, c) -> 1x1, 24 -> 3x3 stride 2, 24 -> all of it, 8 units -> ReLU

The units are scaled to the range of the pooled features and stand behind them in the output
"features", where the gate's classifier finds them. A quarter of a percent of the
network's arithmetic.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from export.convert.inference_model import normalise

Pixels = NDArray[np.uint8]

UNITS = 8
FEWEST_FILMS = 500  # fewer do not teach it
_SOURCE = "block_12_add"  # of MobileNetV2
_CHANNELS = 24
_MOST_FILMS = 4000
_VERSIONS = 2  # of each film: as it is, and moved
_DEGREES, _SHIFT, _ZOOM = 8.0, 0.05, 0.1  # largest
_AT_ONCE = 16
_EPOCHS, _BATCH, _RATE, _DECAY = 10, 128, 2e-3, 2e-3
_DROPPED_CHANNELS, _DROPPED, _DROPPED_UNITS = 0.1, 0.3, 0.2
_SMOOTHING = 0.02  # some films are mirrored in the public data themselves
_SEED = 20261126


def can_have_side(core: keras.Model) -> bool:
    """Whether the network has the map that the branch looks at."""
    return _backbone(core) is not None


def with_side(core: keras.Model, films: Pixels) -> keras.Model:
    """`core` with UNITS more features, from which a linear classifier tells a mirrored film.

    Args:
        core: Of `load_core`, for which `can_have_side`.
        films: (n, h, w, 1) of training, whole and the right way round but for a few.

    Raises:
        InvalidValueError: Fewer films than FEWEST_FILMS.
    """
    if len(films) < FEWEST_FILMS:
        raise InvalidValueError(f"{len(films)} films are too few to tell left from right")
    keras.utils.set_random_seed(_SEED)
    two = _with_source(core)
    chosen = np.linspace(0, len(films) - 1, min(_MOST_FILMS, len(films))).astype(int)
    maps, mirrored, pooled = _seen(two, films[chosen])
    branch = _fit(maps, mirrored)
    _scale(branch, maps, float(pooled.max()))
    return _joined(two, branch)


def _backbone(core: keras.Model) -> keras.Model | None:
    for layer in core.layers:
        if isinstance(layer, keras.Model) and any(one.name == _SOURCE for one in layer.layers):
            return layer
    return None


def _with_source(core: keras.Model) -> keras.Model:
    """`core` with the branch's map as a third output, and the same weights."""
    backbone = _backbone(core)
    assert backbone is not None
    last = backbone.outputs[0]
    source = backbone.get_layer(_SOURCE).output
    both = keras.Model(backbone.inputs, [last, source], name=backbone.name)
    inputs = keras.Input(core.input_shape[1:], batch_size=1, name="image")
    x, seen = inputs, None
    for layer in core.layers[1:]:
        if layer is backbone:
            x, seen = both(x)
        elif layer.name == "map":
            continue
        elif layer.name == "evidence_map":
            evidence = keras.layers.Identity(name="map")(layer(x))
        elif layer.name == "pooled":
            pooled = layer(x)
        else:
            x = layer(x)
    outputs = {"map": evidence, "features": pooled, "source": seen}
    return keras.Model(inputs, outputs, name=core.name)


def _seen(
    core: keras.Model, films: Pixels
) -> tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.float32]]:
    """Maps of films and of their mirror images, which are mirrored, and pooled features."""
    rng = np.random.default_rng(_SEED)
    maps, pooled, mirrored = [], [], []
    batches = range(0, len(films), _AT_ONCE)
    compiled = tf.function(lambda pixels: core(pixels, training=False), reduce_retracing=True)
    for version in range(_VERSIONS):
        for start in tqdm(batches, f"left and right {version + 1}/{_VERSIONS}", disable=None):
            part = films[start : start + _AT_ONCE]
            if version:
                part = np.stack([_moved(film, rng) for film in part])
            for is_mirrored in (False, True):
                shown = part[:, :, ::-1] if is_mirrored else part
                outputs = compiled(normalise(np.ascontiguousarray(shown)))
                # Half precision: all of it stays in memory.
                maps.append(keras.ops.convert_to_numpy(outputs["source"]).astype(np.float16))
                pooled.append(keras.ops.convert_to_numpy(outputs["features"]).max(axis=1))
                mirrored.append(np.full(len(part), is_mirrored, np.float32))
    return np.concatenate(maps), np.concatenate(mirrored), np.concatenate(pooled)


def _moved(film: Pixels, rng: np.random.Generator) -> Pixels:
    """A little turned, shifted and zoomed, as another film of the same patient might be."""
    height, width = film.shape[:2]
    angle = np.deg2rad(rng.uniform(-_DEGREES, _DEGREES))
    zoom = 1 + rng.uniform(-_ZOOM, _ZOOM)
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    cx, cy = width / 2, height / 2
    dx, dy = rng.uniform(-_SHIFT, _SHIFT, 2) * (width, height)
    moved = Image.fromarray(film[:, :, 0]).transform(
        (width, height),
        Image.Transform.AFFINE,
        (cos, sin, cx - cos * cx - sin * cy + dx, -sin, cos, cy + sin * cx - cos * cy + dy),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(moved, np.uint8)[:, :, np.newaxis]


def _fit(maps: NDArray[np.float16], mirrored: NDArray[np.float32]) -> keras.Sequential:
    """Layers from the map to the units, one 1 x 1 cell of them."""
    layers = keras.layers
    shape = maps.shape[1:]
    some = maps[:: max(1, len(maps) // 2000)].astype(np.float32)
    mean, spread = some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2))
    spread = np.maximum(spread, max(float(spread.mean()) / 100, 1e-12))  # dead channels have none
    after = tuple(-(-side // 2) for side in shape[:2])
    units = layers.Conv2D(UNITS, after, activation="relu", name="side_units")
    first = layers.Conv2D(_CHANNELS, 1, activation="relu", name="side_channels")
    second = layers.Conv2D(
        _CHANNELS, 3, strides=2, padding="same", activation="relu", name="side_places"
    )
    trained = keras.Sequential(
        [
            keras.Input(shape),
            layers.Normalization(mean=mean, variance=spread**2),
            layers.SpatialDropout2D(_DROPPED_CHANNELS),
            first,
            second,
            layers.Dropout(_DROPPED),
            units,
            layers.Flatten(),
            layers.Dropout(_DROPPED_UNITS),
            layers.Dense(1),
        ]
    )
    steps = _EPOCHS * -(-len(maps) // _BATCH)
    trained.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(_RATE, steps), weight_decay=_DECAY
        ),
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=_SMOOTHING),
    )
    rng = np.random.default_rng(_SEED)
    for _ in tqdm(range(_EPOCHS), "left and right: fitting", disable=None):
        # By hand: `fit` would copy all of the maps, in full precision.
        order = rng.permutation(len(maps))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            trained.train_on_batch(maps[chosen].astype(np.float32), mirrored[chosen, np.newaxis])
    # The standardisation goes into the first convolution: what is exported has three layers.
    kernel, bias = first.get_weights()
    kernel = kernel / spread[:, np.newaxis]
    first.set_weights([kernel, bias - (kernel * mean[:, np.newaxis]).sum(axis=(0, 1, 2))])
    return keras.Sequential([keras.Input(shape), first, second, units], name="side")


def _scale(branch: keras.Sequential, maps: NDArray[np.float16], most: float) -> None:
    """Bring each unit's largest value to half of the pooled features' largest.

    They share a tensor, and so a quantisation scale: neither must cost the other its steps.
    """
    found = np.concatenate(
        [
            keras.ops.convert_to_numpy(branch(maps[i : i + _BATCH].astype(np.float32)))
            for i in range(0, len(maps), _BATCH)
        ]
    )
    largest = found.max(axis=(0, 1, 2))
    factor = np.where(largest > 0, most / 2 / np.maximum(largest, 1e-6), 1.0)
    kernel, bias = branch.get_layer("side_units").get_weights()
    branch.get_layer("side_units").set_weights([kernel * factor, bias * factor])


def _joined(core: keras.Model, branch: keras.Sequential) -> keras.Model:
    """One network: the units behind the pooled features."""
    x = core.output["source"]
    for layer in branch.layers:
        x = layer(x)
    units = keras.layers.GlobalAveragePooling2D(name="side")(x)
    features = keras.layers.Concatenate(name="pooled_and_side")([core.output["features"], units])
    return keras.Model(core.input, {"map": core.output["map"], "features": features}, name="core")
