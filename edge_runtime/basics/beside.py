"""One thread for small work beside the work that cannot wait for it.

While one image is decoded and judged by the network, a second processor has nothing to do. Hashing
and the checks of the pixels are too short to start a thread for each, so one thread stays.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

try:
    # `queue` would import `threading` and more, which shows in a cold start.
    from _queue import SimpleQueue
except ImportError:
    from queue import SimpleQueue

T = TypeVar("T")


class Task(Generic[T]):
    """Some work that whoever comes first does: the thread beside, or the one that needs it."""

    def __init__(self, work: Callable[..., T], *arguments: Any) -> None:
        self._work, self._arguments = work, arguments
        self._value: T
        self._error: BaseException | None = None
        self._begun, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._done.acquire()

    def run(self) -> None:
        """Do it, unless it was begun already; an error is kept for `result`."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._value = self._work(*self._arguments)
        except BaseException as error:  # belongs to the thread that asks for the result
            self._error = error
        self._arguments = ()  # may be whole images
        self._done.release()

    def result(self) -> T:
        """What the work gave, or the error that it raised."""
        self.run()  # on a busy machine the thread beside may not have had its turn
        with self._done:
            pass
        if self._error is not None:
            raise self._error
        return self._value


class Beside:
    """Runs tasks one after the other in a thread of its own, which starts with the first task.

    Safe to share between threads, and to use on in a process that was forked.
    """

    def __init__(self) -> None:
        self._jobs: dict[
            int, SimpleQueue[Task[Any] | None]
        ] = {}  # by process: a fork copies no threads

    def start(self, work: Callable[..., T], *arguments: Any) -> Task[T]:
        """Begin `work(*arguments)`; ask the task for its result."""
        task = Task(work, *arguments)
        process = os.getpid()
        jobs = self._jobs.get(process)
        if jobs is None:
            fresh: SimpleQueue[Task[Any] | None] = SimpleQueue()
            # One step for other threads: of several that come first, one starts the thread.
            jobs = self._jobs.setdefault(process, fresh)
            if jobs is fresh:
                _thread.start_new_thread(_work_off, (jobs,))
        jobs.put(task)
        return task

    def __del__(self) -> None:
        for jobs in self._jobs.values():
            jobs.put(None)


def _work_off(jobs: SimpleQueue[Task[Any] | None]) -> None:
    # The thread holds the queue alone, so that the `Beside` can be collected and end it.
    while True:
        task = jobs.get()
        if task is None:
            return
        task.run()
        del task  # its result may be a whole image
