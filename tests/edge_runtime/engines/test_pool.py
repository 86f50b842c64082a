"""Several copies of one engine: no more than asked for, and none lost."""

from __future__ import annotations

import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.engines import pool as pool_module
from edge_runtime.engines.engine import RawOutputs
from edge_runtime.engines.pool import EnginePool
from edge_runtime.errors import EngineError

PIXELS = np.zeros((1, 1, 1), np.uint8)


class FakeEngines:
    """A module of engines that counts itself and can refuse to load."""

    def __init__(self) -> None:
        self.loaded = self.running = self.most_running = 0
        self.refuse = False
        self.lock = threading.Lock()
        self.go_on = threading.Event()

    def load(self, model: bytes, threads: int) -> FakeEngine:
        if self.refuse:
            raise EngineError("no memory for another copy")
        with self.lock:
            self.loaded += 1
        return FakeEngine(self)


class FakeEngine:
    name, family = "fake 1", "fake"

    def __init__(self, engines: FakeEngines) -> None:
        self.engines = engines

    def run(self, pixels: np.ndarray) -> RawOutputs:
        with self.engines.lock:
            self.engines.running += 1
            self.engines.most_running = max(self.engines.most_running, self.engines.running)
        self.engines.go_on.wait(20)
        with self.engines.lock:
            self.engines.running -= 1
        return RawOutputs(np.zeros((1, 1, 1), np.float32), np.zeros(1, np.float32))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> FakeEngines:
    fake = FakeEngines()
    file = load_bundle().manifest.model_file("tflite")
    module = types.SimpleNamespace(load=fake.load)
    monkeypatch.setattr(pool_module, "choose_engine", lambda name, bundle: (module, file))
    return fake


def test_a_copy_that_fails_to_load_leaves_its_room(engines: FakeEngines) -> None:
    pool = EnginePool("fake", load_bundle(), 1, 2)
    with ThreadPoolExecutor(4) as threads:
        busy = threads.submit(pool.run, PIXELS)
        while engines.running < 1:
            pass
        engines.refuse = True
        with pytest.raises(EngineError, match="no memory"):
            pool.run(PIXELS)
        engines.refuse = False
        # The second copy can still be had, while the first is busy.
        second = threads.submit(pool.run, PIXELS)
        while engines.running < 2:
            assert not second.done()
        engines.go_on.set()
        busy.result(20)
        second.result(20)
    assert engines.loaded == engines.most_running == 2


def test_an_engine_that_fails_is_used_again(engines: FakeEngines) -> None:
    pool = EnginePool("fake", load_bundle(), 1, 1)
    engines.go_on.set()
    working, pool._idle[0].run = pool._idle[0].run, fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="illegal"):
        pool.run(PIXELS)
    pool._idle[0].run = working  # type: ignore[method-assign]
    assert pool.run(PIXELS).features.shape == (1,)
    assert engines.loaded == 1


def fail(pixels: np.ndarray) -> RawOutputs:
    raise RuntimeError("illegal instruction")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_never_more_copies_than_asked_for(engines: FakeEngines, size: int) -> None:
    pool = EnginePool("fake", load_bundle(), 1, size)
    engines.go_on.set()
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(pool.run, [PIXELS] * 200))
    assert len(results) == 200
    assert engines.loaded <= size
    assert 1 <= engines.most_running <= size
