"""Shared fixtures. Real radiographs are looked for in CXR_DATA, else in ../shared/data."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.shipped import DEFAULT_BUNDLE
from edge_runtime.images.phantom import phantom_jpeg
from tests.zygote import Zygote

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# What `doctor --choose` kept on this machine is not what the tests are about.
os.environ["CXR_EDGE_ENGINE_FILE"] = os.devnull
_LONG = ("test_notebook.py", "test_unseen.py", "test_own_data.py", "test_mistakes.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files begin first, those of the workbench next, or one processor waits for them.

    `make test` asks xdist for --no-loadscope-reorder; else it takes files of many tests first,
    which are the quick ones.
    """
    folders = [Path(__file__).parent / name for name in ("train", "export", "benchmarks")]

    def turn(item: pytest.Item) -> int:
        if item.path.name in _LONG:
            return 0
        return 1 if any(item.path.is_relative_to(folder) for folder in folders) else 2

    items.sort(key=turn)


@pytest.fixture(autouse=True)
def drawn_weights_are_the_same() -> None:
    """Keras draws a new network's weights; a test that fails by them must fail again."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with chest_xray/, chest_xray_originals/ and nih_external/."""
    folder = Path(os.environ.get("CXR_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "chest_xray" / "test").is_dir():
        pytest.skip(f"no real radiographs in {folder}; set CXR_DATA to the folder with chest_xray/")
    return folder


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The committed default bundle."""
    return Path(DEFAULT_BUNDLE)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn radiographs in a folder."""
    folder = tmp_path_factory.mktemp("phantoms")
    for seed in range(6):
        (folder / f"{seed}.jpeg").write_bytes(phantom_jpeg(seed, bool(seed % 2)))
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cxr_edge() -> Run:
    """Runs the command line in a process of its own, as a user would."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
        defaults: dict[str, object] = {
            "capture_output": True, "text": True, "cwd": ROOT, "timeout": 300,
        }  # fmt: skip
        return subprocess.run(command, check=False, **(defaults | options))  # type: ignore[call-overload]

    return run


_zygote = Zygote()  # of this process of the test run


def workbench(*arguments: object, timeout: int = 400) -> subprocess.CompletedProcess[str]:
    """`python -m …` from the checkout, as a user would."""
    return _zygote.run([str(argument) for argument in arguments], timeout)


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """A folder that one of the processes of a test run makes, and each has a copy of."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    made = base / f"made-{name}"
    made.mkdir(exist_ok=True)
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait until it is there
        if not (made / "done").exists():
            shutil.rmtree(made / "whole", ignore_errors=True)
            (made / "whole").mkdir()
            make(made / "whole")
            (made / "done").touch()
    own = tmp_path_factory.mktemp(name)
    shutil.copytree(made / "whole", own, dirs_exist_ok=True)
    return own


def onnx_for_programs(bundle: Path, folder: Path) -> Path:
    """A bundle's model.onnx as docs/embedding.md has programs load it on this very processor: where
    kernels spoil signed weights, with unsigned ones, in a file in `folder`.
    """
    import onnxruntime

    from edge_runtime.engines.saturation import onnxruntime_saturates
    from edge_runtime.engines.signed_weights import with_unsigned_weights

    file = bundle / "model.onnx"
    if not onnxruntime_saturates(onnxruntime):
        return file
    moved = folder / "model-unsigned.onnx"
    moved.write_bytes(with_unsigned_weights(file.read_bytes()))
    return moved


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on drawn phantoms."""

    def make(folder: Path) -> None:
        command = ("train", "fit", "--recipe", "smoke", "--weights", "none", "--output")
        result = workbench(*command, folder / "smoke")
        assert result.returncode == 0, result.stderr

    return made_once(tmp_path_factory, "runs", make) / "smoke"


@pytest.fixture(scope="session")
def smoke_bundle(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle; the float bundle lies beside it as smoke-float."""

    def make(folder: Path) -> None:
        result = workbench("export", smoke_run, "--output", folder / "smoke")
        assert result.returncode == 0, result.stderr

    return made_once(tmp_path_factory, "bundles", make) / "smoke"


@pytest.fixture(scope="module")  # its event loop is no other module's
def browser() -> Iterator[Any]:
    """Headless Chromium, through playwright."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield instance
        instance.close()
