"""The loops that people write: file after file through Pillow, then another engine.

Each gives images per second on the same files. A peer that is not installed is None.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.engines.openvino import import_openvino
from edge_runtime.images.preprocess import InputSpec

_WARM_UP = 3


def keras_loop(paths: Sequence[str], spec: InputSpec) -> float | None:
    """Pillow to RGB, Keras `predict`, one image at a time.

    A MobileNetV2 of three channels at the same size with random weights: the same work as with
    trained ones.
    """
    if importlib.util.find_spec("tensorflow") is None:
        return None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    model = keras.applications.MobileNetV2(
        input_shape=(spec.height, spec.width, 3),
        weights=None,
        classes=1,
        classifier_activation=None,
    )

    def screen(path: str) -> None:
        image = Image.open(path).convert("RGB").resize((spec.width, spec.height))
        batch = np.asarray(image, dtype=np.float32)[np.newaxis] / 127.5 - 1
        model.predict(batch, verbose=0)

    return _rate(screen, paths)


def openvino_loop(paths: Sequence[str], spec: InputSpec, onnx: Path) -> float | None:
    """Pillow to greyscale, the bundle's int8 ONNX file in OpenVINO on all processors."""
    if importlib.util.find_spec("openvino") is None or not onnx.is_file():
        return None
    model = import_openvino().Core().compile_model(str(onnx), "CPU")

    def screen(path: str) -> None:
        image = Image.open(path).convert("L").resize((spec.width, spec.height))
        pixels: NDArray[np.uint8] = np.asarray(image)[np.newaxis, :, :, np.newaxis]
        model(pixels)

    return _rate(screen, paths)


def _rate(screen: Callable[[str], None], paths: Sequence[str]) -> float:
    for path in paths[:_WARM_UP]:
        screen(path)
    start = time.perf_counter()
    for path in paths:
        screen(path)
    return len(paths) / (time.perf_counter() - start)
