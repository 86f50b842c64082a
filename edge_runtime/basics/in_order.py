"""Work on many things at once, results in the order of the things."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

# In flight per worker: enough to hide a slow one, few enough to bound memory.
_WINDOW_PER_WORKER = 3


def map_in_order(
    work: Callable[[T], R], items: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """`map(work, items)` on threads, for work that releases the interpreter lock.

    Args:
        work: Called once for each item; what it raises is raised here.
        items: Taken lazily: never more than a few ahead of the results.
        workers: Processors to use.
    """
    rest = iter(items)
    first = list(itertools.islice(rest, 2))
    if len(first) < 2:  # one needs no threads, nor the time to import them
        yield from map(work, first)
        return
    from concurrent.futures import ThreadPoolExecutor

    pending: deque[Future[R]] = deque()
    # One thread more than processors: while one waits for the disk, another computes.
    workers += 1
    with ThreadPoolExecutor(workers, thread_name_prefix="screen") as pool:
        try:
            for item in itertools.chain(first, rest):
                pending.append(pool.submit(work, item))
                if len(pending) >= workers * _WINDOW_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
