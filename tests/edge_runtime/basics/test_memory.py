"""One heap for all threads, where the C library is glibc."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_COUNT = """
import ctypes, os, sys, tempfile, threading
from edge_runtime.basics.memory import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(4)

def allocate():
    together.wait()
    libc.malloc(50_000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = libc.malloc_info.argtypes = None
with tempfile.TemporaryDirectory() as folder:
    name = os.path.join(folder, "info").encode()
    stream = ctypes.c_void_p(libc.fopen(name, b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(open(name).read().count("<heap nr="))
"""


def heaps(how: str, **environment: str) -> int:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, how],
        capture_output=True, text=True, env=kept | environment, check=True, timeout=60,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has heaps by thread")
def test_threads_share_one_heap_unless_the_user_has_decided() -> None:
    assert heaps("shared") == 1
    assert heaps("as it is") > 1
    assert heaps("shared", MALLOC_ARENA_MAX="8") > 1


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    from edge_runtime.basics.memory import share_one_heap

    def refuse(_: object) -> None:
        raise OSError("no such library")

    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    share_one_heap()
