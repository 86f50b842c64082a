"""Engines by their own interfaces, with nothing of ours around them: the floor and the peers.

Each function returns a callable: (n, height, width, 1) uint8 -> the evidence maps as the engine
gives them; n is 1, or what the function was asked for. What is not installed raises
`NotInstalledError`, which names the package.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.engines.choose import engine_module
from edge_runtime.engines.openvino import import_openvino
from edge_runtime.errors import CxrEdgeError

Invoke = Callable[[NDArray[np.uint8]], Any]


class NotInstalledError(CxrEdgeError):
    """A peer that is optional and not here."""


def _require(module: str, package: str) -> None:
    if util.find_spec(module) is None:
        raise NotInstalledError(f"not installed: pip install {package}")


def raw_invoke(bundle: Path, engine: str, threads: int) -> Invoke:
    """The bundle's file for one of our engines, called directly."""
    file = load_bundle(bundle).manifest.model_file(engine_module(engine).FORMAT)
    if file is None:
        raise NotInstalledError(f"{bundle} has no file for {engine}")
    path = Path(bundle) / file.path
    if engine == "onnxruntime":
        return onnxruntime_raw(path, threads)
    if engine == "openvino":
        return openvino_raw(path, threads)
    return tflite_raw(path, threads, engine)


def tflite_raw(path: Path, threads: int, engine: str = "litert", batch: int = 1) -> Invoke:
    if engine == "litert":
        _require("ai_edge_litert", "ai-edge-litert")
        from ai_edge_litert.interpreter import Interpreter
    else:
        _require("tflite_runtime", "tflite-runtime")
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    (source,) = interpreter.get_input_details()
    if batch > 1:
        interpreter.resize_tensor_input(source["index"], [batch, *source["shape"][1:]])
    interpreter.allocate_tensors()
    target = next(d for d in interpreter.get_output_details() if len(d["shape"]) == 4)

    def invoke(pixels: NDArray[np.uint8]) -> Any:
        interpreter.set_tensor(source["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return invoke


def onnxruntime_raw(model: Path | bytes, threads: int) -> Invoke:
    _require("onnxruntime", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise the threads of this session slow down whatever is measured after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else model,
        sess_options=options,
        providers=["CPUExecutionProvider"],
    )
    return lambda pixels: session.run(["map"], {"image": pixels})[0]


def with_batch(path: Path, batch: int) -> bytes:
    """An .onnx file that takes so many images at once, where the exported ones take one."""
    _require("onnx", "onnx")
    import onnx

    proto = onnx.load(str(path))
    graph = proto.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in shapes:
            shape = onnx.numpy_helper.to_array(tensor).copy()
            shape[0] = batch
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    del graph.value_info[:]
    return bytes(proto.SerializeToString())


def quantised_by_onnxruntime(path: Path, pixels: Sequence[NDArray[np.uint8]]) -> bytes:
    """A float .onnx file through `quantize_static` with its defaults, as its guide has it.

    Args:
        path: Float file that takes pixels.
        pixels: (1, height, width, 1) each, for the ranges.
    """
    _require("onnx", "onnx")
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images = iter(pixels)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image}

    with tempfile.TemporaryDirectory() as folder:
        prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(target), Reader())
        return target.read_bytes()


def openvino_raw(model: Path | bytes, threads: int) -> Invoke:
    _require("openvino", "openvino")
    core = import_openvino().Core()
    settings = {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY"}
    given = str(model) if isinstance(model, Path) else core.read_model(model)
    request = core.compile_model(given, "CPU", settings).create_infer_request()

    def invoke(pixels: NDArray[np.uint8]) -> Any:
        request.infer({"image": pixels})
        return request.get_tensor("map").data

    return invoke


def keras_predict(run: Path) -> Invoke:
    """The trained Keras model through `predict`, as most scripts do; it uses all processors."""
    _require("keras", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    model = keras.models.load_model(run / "model.keras", compile=False)
    return lambda pixels: model.predict(pixels.astype(np.float32), verbose=0)


def ncnn_raw(path: Path, threads: int) -> Invoke:
    """The float .onnx through pnnx into ncnn.

    pnnx knows neither the padding layers nor the conversion to float of our graph: ONNX Runtime
    merges the first into the convolutions, the second is taken out, as ncnn is fed floats.
    ncnn stores numbers as 16-bit floats where the processor can; that is its default.
    """
    for module, package in (
        ("ncnn", "ncnn"),
        ("pnnx", "--no-deps pnnx"),
        ("onnxruntime", "onnxruntime"),
    ):
        _require(module, package)
    import ncnn
    import onnxruntime

    specification = util.find_spec("pnnx")
    assert specification is not None and specification.origin is not None
    converter = Path(specification.origin).parent / "pnnx"
    net = ncnn.Net()
    net.opt.num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = f"{folder}/m.onnx"
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        shape = session.get_inputs()[0].shape
        names = [output.name for output in session.get_outputs()]
        text = ",".join(map(str, shape))
        command = [str(converter), "m.onnx", f"inputshape=[{text}]u8"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        parameters = Path(folder) / "m.ncnn.param"
        if not parameters.exists():
            raise NotInstalledError(f"pnnx could not convert it: {done.stderr.strip()[-200:]}")
        graph = parameters.read_text(encoding="utf-8")
        parameters.write_text(graph.replace("Tensor.to ", "Noop      "), encoding="utf-8")
        net.load_param(str(parameters))
        net.load_model(f"{folder}/m.ncnn.bin")
    output = f"out{names.index('map')}"

    def invoke(pixels: NDArray[np.uint8]) -> Any:
        extractor = net.create_extractor()
        # The matrix does not keep the array it is made of alive: the name does, until the copy.
        values = pixels[0].astype(np.float32)
        extractor.input("in0", ncnn.Mat(values).clone())
        return np.array(extractor.extract(output)[1])

    return invoke
