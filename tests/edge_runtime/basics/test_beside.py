from __future__ import annotations

import _thread
import gc
import os
import threading
import time

import pytest

from edge_runtime.basics.beside import Beside, Task


def test_a_task_without_a_thread_is_done_when_it_is_needed() -> None:
    calls: list[int] = []
    task = Task(calls.append, 1)
    assert calls == []
    task.result()
    task.result()
    assert calls == [1]


def test_work_is_done_in_another_thread_and_its_error_comes_to_who_asks() -> None:
    beside = Beside()
    begun = threading.Event()

    def where() -> int:
        begun.set()
        return threading.get_ident()

    task = beside.start(where)
    assert begun.wait(10)
    assert task.result() != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        beside.start(lambda: 1 // 0).result()
    assert beside.start(lambda: 2).result() == 2  # the thread has survived


def test_who_needs_a_result_does_not_wait_for_a_busy_thread() -> None:
    beside, free = Beside(), threading.Event()
    blocking = beside.start(free.wait, 10)
    assert beside.start(threading.get_ident).result() == threading.get_ident()
    free.set()
    assert blocking.result()


def test_many_threads_share_one() -> None:
    beside = Beside()
    results: list[list[int]] = [[] for _ in range(8)]

    def use(mine: list[int], number: int) -> None:
        mine.extend(beside.start(lambda value: value + number, i).result() for i in range(200))

    threads = [threading.Thread(target=use, args=(r, n)) for n, r in enumerate(results)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[i + n for i in range(200)] for n in range(8)]


def test_threads_that_come_first_together_start_one_thread() -> None:
    before = _thread._count()
    beside, together = Beside(), threading.Barrier(16)

    def use() -> None:
        together.wait(10)
        beside.start(int).result()

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _thread._count() <= before + 1


def test_its_thread_ends_with_it() -> None:
    before = _thread._count()
    beside: Beside | None = Beside()
    assert beside is not None
    beside.start(int).result()
    beside = None
    gc.collect()
    deadline = time.monotonic() + 10
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _thread._count() <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_goes_on() -> None:
    beside = Beside()
    assert beside.start(lambda: 1).result() == 1
    child = os.fork()
    if child == 0:
        begun = threading.Event()
        task = beside.start(begun.set)
        done = begun.wait(10)  # the thread did it: a fork copies none, so there is a new one
        task.result()
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
