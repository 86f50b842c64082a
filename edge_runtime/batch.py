"""Many files: reading, decoding and inference overlap on all cores, results come in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from edge_runtime.inputs import Input
from edge_runtime.screener import Examination, Screener

if TYPE_CHECKING:
    from concurrent.futures import Future

# Files in flight per worker: enough to hide one slow file, few enough to bound memory.
_WINDOW_PER_WORKER = 3


def examine_many(
    screener: Screener, inputs: Iterable[Input], workers: int, timings: bool = False
) -> Generator[Examination, None, None]:
    """Screen inputs on `workers` processors, in the order of the inputs.

    Pillow's decoders and the engines release the interpreter lock, so threads are enough.
    """

    def examine(item: Input) -> Examination:
        if item.error is not None:
            return Examination(screener.error_record(item.source, None, item.error))
        return screener.examine(item.path, item.source, timings=timings)

    items = iter(inputs)
    first = list(itertools.islice(items, 2))
    if len(first) < 2:  # one file needs no threads, nor the time to import them
        yield from map(examine, first)
        return
    from concurrent.futures import ThreadPoolExecutor

    pending: deque[Future[Examination]] = deque()
    # One thread more than processors: while one waits for the disk, another decodes.
    workers += 1
    with ThreadPoolExecutor(workers, thread_name_prefix="screen") as pool:
        try:
            for item in itertools.chain(first, items):
                pending.append(pool.submit(examine, item))
                if len(pending) >= workers * _WINDOW_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
