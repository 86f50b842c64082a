"""One thread for small work beside the work that cannot wait for it.

While one image is decoded and judged by the network, a second processor has nothing to do. Hashing
and the checks of the pixels are too short to start a thread for each, so one thread stays.
"""

from __future__ import annotations

import _thread
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

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
        self._jobs: dict[int, _Jobs] = {}  # by process: a fork copies no threads

    def start(self, work: Callable[..., T], *arguments: Any) -> Task[T]:
        """Begin `work(*arguments)`; ask the task for its result."""
        task = Task(work, *arguments)
        process = os.getpid()
        jobs = self._jobs.get(process)
        if jobs is None:
            fresh = _Jobs()
            # One step for other threads: of several that come first, one starts the thread.
            jobs = self._jobs.setdefault(process, fresh)
            if jobs is fresh:
                _thread.start_new_thread(jobs.work_off, ())
        jobs.put(task)
        return task

    def __del__(self) -> None:
        for jobs in self._jobs.values():
            jobs.put(None)


class _Jobs:
    """A queue. The standard one takes a module's import, which shows in a cold start.

    The thread holds this alone, so that the `Beside` can be collected and end it.
    """

    def __init__(self) -> None:
        self._waiting: deque[Task[Any] | None] = deque()
        self._some = _thread.allocate_lock()  # free: there may be some
        self._some.acquire()

    def put(self, task: Task[Any] | None) -> None:
        self._waiting.append(task)
        try:  # noqa: SIM105 - `suppress` would cost as much as all the rest
            self._some.release()
        except RuntimeError:  # free already: the thread has yet to look
            pass

    def work_off(self) -> None:
        while True:
            self._some.acquire()
            while self._waiting:
                task = self._waiting.popleft()
                if task is None:
                    return
                task.run()
                del task
