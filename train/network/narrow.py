"""A narrow MobileNetV2 that begins with the most telling channels of a wide one.

Random weights are a poor start for thousands of images, and pretrained ones come in few widths.
Channels are ranked from the weights alone: how much a channel varies, by its batch normalisation,
times how strongly the next convolution listens to it. What it does not vary in, the next batch
normalisation takes off again, so that counts for nothing. Training has to mend the rest.

Source: ranking filters by their weights, Li et al., Pruning Filters for Efficient ConvNets, ICLR
2017; by the scales of batch normalisation, Liu et al., Network Slimming, ICCV 2017.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.network.build import MAP_LAYER, backbone_of

Indices = NDArray[np.intp]


def narrow(wide: keras.Model, model: keras.Model) -> None:
    """Fill `model` with the channels of `wide` that matter most.

    Args:
        wide: A finished training model (`build_network`).
        model: Another one, with any input size: of the same shapes, which takes over all weights,
            or a narrower one where both have the backbone mobilenetv2 and the map head.

    Raises:
        InvalidValueError: Other backbones or heads, or `model` is the wider one.
    """
    if [v.shape for v in wide.weights] == [v.shape for v in model.weights]:
        model.set_weights(wide.get_weights())
        return
    try:
        source, target = _Backbone(wide), _Backbone(model)
        if source.stages != target.stages:
            raise InvalidValueError("the residual blocks differ")
        kept = source.copy_to(target)
        kernel, bias = wide.get_layer(MAP_LAYER).get_weights()
        model.get_layer(MAP_LAYER).set_weights([kernel[:, :, kept], bias])
    except (KeyError, ValueError, InvalidValueError) as error:  # no such layer, other shapes
        raise InvalidValueError(
            f"{wide.name} cannot be narrowed to {model.name}: both must be mobilenetv2 with the "
            f"map head, and the second not wider ({error})"
        ) from error


class _Backbone:
    """MobileNetV2 by the names of its layers."""

    def __init__(self, model: keras.Model) -> None:
        self._layers = {layer.name: layer for layer in backbone_of(model).layers}
        blocks = ["expanded_conv"]
        while f"block_{len(blocks)}_project" in self._layers:
            blocks.append(f"block_{len(blocks)}")
        # Blocks that add to what they were given write to the same channels: one stage.
        self.stages: list[list[str]] = []
        for block in blocks:
            if self.stages and f"{block}_add" in self._layers:
                self.stages[-1].append(block)
            else:
                self.stages.append([block])

    def copy_to(self, target: _Backbone) -> Indices:
        """Copy the channels that are kept; which of the last layer's are."""
        kept = self._inner("expanded_conv", target, None)
        self._copy("Conv1", target, np.arange(1), kept)
        self._copy_norm("bn_Conv1", target, kept)
        for number, stage in enumerate(self.stages):
            out = _largest(self._stream(number), target.width(f"{stage[0]}_project"))
            for block in stage:
                inner = kept
                if block != "expanded_conv":
                    inner = self._inner(block, target, out)
                    self._copy(f"{block}_expand", target, kept, inner)
                    self._copy_norm(f"{block}_expand_BN", target, inner)
                depthwise = self._kernel(f"{block}_depthwise")[:, :, inner]
                target.layer(f"{block}_depthwise").set_weights([depthwise])
                self._copy_norm(f"{block}_depthwise_BN", target, inner)
                self._copy(f"{block}_project", target, inner, out)
                self._copy_norm(f"{block}_project_BN", target, out)
                kept = out
        everything = np.arange(target.width("Conv_1"))
        if len(everything) != self.width("Conv_1"):
            raise InvalidValueError("the last layers differ in width")
        self._copy("Conv_1", target, kept, everything)
        self._copy_norm("Conv_1_bn", target, everything)
        return everything

    def layer(self, name: str) -> keras.Layer:
        return self._layers[name]

    def width(self, name: str) -> int:
        """Output channels of a convolution."""
        return int(self._kernel(name).shape[-1])

    def _kernel(self, name: str) -> NDArray[np.float32]:
        return np.asarray(self.layer(name).get_weights()[0])

    def _copy(self, name: str, target: _Backbone, source: Indices, out: Indices) -> None:
        target.layer(name).set_weights([self._kernel(name)[:, :, source][..., out]])

    def _copy_norm(self, name: str, target: _Backbone, kept: Indices) -> None:
        target.layer(name).set_weights([values[kept] for values in self.layer(name).get_weights()])

    def _inner(self, block: str, target: _Backbone, out: Indices | None) -> Indices:
        """The channels to keep between a block's two 1x1 convolutions."""
        name = f"{block}_project"
        listening = self._listening(name, f"{name}_BN", out)
        size = target.layer(name).get_weights()[0].shape[2]
        return _largest(self._spread(f"{block}_depthwise_BN") * listening, size)

    def _stream(self, number: int) -> NDArray[np.float64]:
        """How much each channel of a stage matters to the blocks that read it."""
        stage = self.stages[number]
        written = sum(self.layer(f"{b}_project_BN").get_weights()[0] ** 2.0 for b in stage)
        readers = [(f"{b}_expand", f"{b}_expand_BN") for b in stage[1:]]
        if number + 1 < len(self.stages):
            following = self.stages[number + 1][0]
            readers.append((f"{following}_expand", f"{following}_expand_BN"))
        else:
            readers.append(("Conv_1", "Conv_1_bn"))
        listening = sum(self._listening(*reader) ** 2 for reader in readers)
        return np.asarray(np.sqrt(written * listening))

    def _listening(
        self, convolution: str, norm: str, out: Indices | None = None
    ) -> NDArray[np.float64]:
        """(inputs,) length of each input's weights, in units of what the normalisation lets by."""
        gamma, _, _, variance = self.layer(norm).get_weights()
        kernel = self._kernel(convolution)[0, 0] * (gamma / np.sqrt(variance + 1e-3))
        if out is not None:
            kernel = kernel[:, out]
        return np.asarray(np.linalg.norm(kernel.astype(np.float64), axis=1))

    def _spread(self, norm: str) -> NDArray[np.float64]:
        """Standard deviation of each channel behind normalisation and ReLU6, were it Gaussian."""
        gamma, beta = self.layer(norm).get_weights()[:2]
        # The middles of 200 equally likely parts of a normal distribution, by its sample.
        drawn = np.sort(np.random.default_rng(0).standard_normal(20_000)).reshape(200, 100)
        values = np.clip(beta + gamma * drawn.mean(axis=1)[:, np.newaxis], 0, 6)
        return np.asarray(values.std(axis=0))


def _largest(importance: NDArray[np.float64], count: int) -> Indices:
    if count > len(importance):
        raise InvalidValueError(f"{count} channels are wanted of {len(importance)}")
    return np.sort(np.argsort(-importance, kind="stable")[:count])
