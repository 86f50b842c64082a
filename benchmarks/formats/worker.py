"""One file in one engine, in a process of its own: `python -m benchmarks.formats.worker …`.

Reads prepared tensors, writes the mean of each map, prints what it took as JSON: seconds from an
empty process to the first answer, milliseconds of each further one, peak memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.speed.raw import Invoke, ncnn_raw, onnxruntime_raw, openvino_raw, tflite_raw

LOADERS: dict[str, Callable[[Path, int], Invoke]] = {
    "LiteRT": tflite_raw,
    "ONNX Runtime": onnxruntime_raw,
    "OpenVINO": openvino_raw,
    "ncnn": ncnn_raw,
}
_TIMED = 200  # tensors, of which each is timed once


def measure(engine: str, model: Path, tensors: Path, output: Path) -> dict[str, object]:
    """Run all tensors (n, height, width, 1) of a .npy file on one thread."""
    start = time.perf_counter()
    invoke = LOADERS[engine](model, 1)
    pixels = np.load(tensors, mmap_mode="r")
    first = np.ascontiguousarray(pixels[:1])
    invoke(first)
    loaded = time.perf_counter() - start
    means, times = [], []
    for i in range(len(pixels)):
        one = np.ascontiguousarray(pixels[i : i + 1])
        begun = time.perf_counter()
        found = invoke(one)
        times.append((time.perf_counter() - begun) * 1e3)
        means.append(float(np.asarray(found, np.float64).mean()))
    np.save(output, np.array(means))
    return {
        "load_s": loaded,
        "ms": times[-_TIMED:],
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Of this process alone; what `getrusage` says begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    engine_name, *paths = sys.argv[1:]
    print(json.dumps(measure(engine_name, *map(Path, paths))))
