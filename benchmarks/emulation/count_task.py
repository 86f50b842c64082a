"""Runs on the emulated board: one drawn radiograph through every stage, between marks.

python count_task.py ENGINE IMAGE BUNDLE count|time signed|unsigned. `count` makes the marks that
count.c counts between; `time` prints the nanoseconds of each stage, the median of thirty.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import edge_runtime.engines.onnxruntime as onnx_engine
from edge_runtime import Screener
from edge_runtime.images.preprocess import decode, resize

_FIRST_MARK = 0x00C0FFEE  # as in count.c
engine, image, bundle, how, weights = sys.argv[1:]
# One processor: work that runs beside other work would be counted and take no time.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def mark(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.getpgid(_FIRST_MARK + number)


if weights == "unsigned":
    # setattr: to a type checker the function is no variable.
    setattr(onnx_engine, "onnxruntime_saturates", lambda _: True)  # noqa: B010
screener = Screener.load(bundle, engine=engine, threads=1, force=True)
spec = screener.bundle.manifest.input
data = Path(image).read_bytes()
grey = decode(data, spec)[0]
pixels = resize(grey, spec)
screener.screen(data)
mark(0)  # the start: imports, loading, a known answer, the first film
parts: tuple[Callable[[], object], ...] = (
    lambda: decode(data, spec),
    lambda: resize(grey, spec),
    lambda: screener.run(pixels),
    lambda: screener.screen(data).to_json(),
)
for part in parts * 2:
    part()
gc.collect()
gc.disable()
if how == "count":
    for number, part in enumerate(parts, start=1):
        mark(32)
        part()
        mark(number)
    print(json.dumps({"engine": screener.engine_name}))
else:
    taken: list[list[int]] = [[] for _ in parts]
    for _ in range(30):
        for part, times in zip(parts, taken, strict=True):
            begin = time.perf_counter_ns()
            part()
            times.append(time.perf_counter_ns() - begin)
    print(json.dumps({"ns": [statistics.median(times) for times in taken]}))
