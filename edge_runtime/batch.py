"""Many files: reading, decoding and inference overlap on all cores, results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from edge_runtime.inputs import Input
from edge_runtime.screener import Examination, Screener

# Files in flight per worker: enough to hide one slow file, few enough to bound memory.
_WINDOW_PER_WORKER = 3


def examine_many(
    screener: Screener, inputs: Iterable[Input], workers: int, timings: bool = False
) -> Generator[Examination, None, None]:
    """Screen inputs with `workers` threads, in the order of the inputs.

    Pillow's decoders and the engines release the interpreter lock, so threads are enough.
    """

    def examine(item: Input) -> Examination:
        if item.error is not None:
            return Examination(screener.error_record(item.source, None, item.error))
        return screener.examine(item.path, item.source, timings=timings)

    pending: deque[Future[Examination]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="screen") as pool:
        try:
            for item in inputs:
                pending.append(pool.submit(examine, item))
                if len(pending) >= workers * _WINDOW_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
