"""Films of one batch exchange the statistics of their early features, while training alone.

What a hospital's machine and export make of a film (contrast, sharpness, noise) shows in the mean
and the spread of early channels; what lies where does not. A network that met each film with the
statistics of another cannot read the hospital from them.

Source: Zhou et al., Domain Generalization with MixStyle, ICLR 2021.
"""

from __future__ import annotations

from typing import Any

import keras

from edge_runtime.errors import InvalidValueError

# The first additions of MobileNetV2: early enough for texture.
_AFTER = ("block_2_add", "block_4_add")
_CONCENTRATION = 0.1  # of the share that is exchanged: near nothing or near all
_EPSILON = 1e-6


@keras.saving.register_keras_serializable("cxr-edge")
class MixStyle(keras.layers.Layer):
    """(n, rows, columns, channels) to the same, each film with a chance of another's statistics."""

    def __init__(self, chance: float, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.chance = chance
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return inputs
        films = keras.ops.cast(inputs, "float32")
        count, seed = keras.ops.shape(films)[0], self.seed_generator
        mean = keras.ops.mean(films, axis=(1, 2), keepdims=True)
        spread = keras.ops.sqrt(keras.ops.var(films, axis=(1, 2), keepdims=True) + _EPSILON)
        mean, spread = keras.ops.stop_gradient(mean), keras.ops.stop_gradient(spread)
        other = keras.random.shuffle(keras.ops.arange(count), seed=seed)
        share = keras.random.beta((count, 1, 1, 1), _CONCENTRATION, _CONCENTRATION, seed=seed)
        is_mixed = keras.random.uniform((count, 1, 1, 1), seed=seed) < self.chance
        share = keras.ops.where(is_mixed, share, 1.0)  # of a film's own
        new_mean = share * mean + (1 - share) * keras.ops.take(mean, other, axis=0)
        new_spread = share * spread + (1 - share) * keras.ops.take(spread, other, axis=0)
        mixed = (films - mean) / spread * new_spread + new_mean
        return keras.ops.cast(mixed, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "chance": self.chance}


def with_style(model: keras.Model, chance: float) -> keras.Model:
    """A network with the same weights and `MixStyle` between its early layers, to be trained.

    Its `get_weights` are in the order of the model's own: what it learns is copied back.

    Args:
        model: A MobileNetV2 of `network.build`, or that with its batch norm folded in.
        chance: Of a film to get another's statistics, at each place.

    Raises:
        InvalidValueError: A network of another kind, which has no such places.
    """
    styled = _cloned(model, chance)
    if not style_layers(styled):
        raise InvalidValueError(
            f"augmentation.feature_style needs a MobileNetV2; {model.name} has no layer "
            f"{_AFTER[0]}; set it to 0"
        )
    styled.set_weights(model.get_weights())
    return styled


def _cloned(model: keras.Model, chance: float) -> keras.Model:
    def call(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model):  # the backbone
            return _cloned(layer, chance)(*inputs, **options)
        outputs = layer(*inputs, **options)
        if layer.name in _AFTER:
            return MixStyle(chance, name=f"style_{layer.name}")(outputs)
        return outputs

    return keras.models.clone_model(model, call_function=call)


def style_layers(model: keras.Model) -> list[MixStyle]:
    """Those of a network and its backbone, in their order."""
    found = [layer for layer in model._flatten_layers() if isinstance(layer, MixStyle)]
    return sorted(found, key=lambda layer: layer.name)
