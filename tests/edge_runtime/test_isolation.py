"""The device side is sacred: what it imports, what it never touches."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Runs before anything else in a fresh process: forbidden imports, any socket and any process, which
# could open one unseen, are fatal.
GUARD = """
import sys, socket
FORBIDDEN = {"tensorflow", "keras", "tf2onnx", "onnx", "sklearn", "scipy", "pandas", "matplotlib",
             "tqdm", "requests", "train", "export", "benchmarks"}

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise AssertionError(f"imported {name}")

def no_socket(*args, **kwargs):
    raise AssertionError("a socket was opened")

sys.meta_path.insert(0, Guard())
socket.socket.connect = socket.create_connection = no_socket
def no_process(*args):
    raise AssertionError("a process was started")

sys.addaudithook(lambda event, args: no_socket() if event in
                 ("socket.connect", "socket.bind", "socket.getaddrinfo") else
                 no_process() if event in
                 ("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system",
                  "subprocess.Popen") else None)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    program = GUARD + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_the_guard_itself_works() -> None:
    assert "imported tensorflow" in run("import tensorflow").stderr
    assert "a process was started" in run("import os; os.fork()").stderr
    assert "a socket was opened" in run("import socket; socket.getaddrinfo('x', 1)").stderr


@pytest.mark.parametrize("engine", ["litert", "onnxruntime", "openvino"])
def test_a_first_screening_needs_numpy_pillow_and_one_engine(phantoms: Path, engine: str) -> None:
    code = f"""
        from edge_runtime import Screener
        from edge_runtime.errors import EngineError
        try:
            screener = Screener.load(engine={engine!r}, force=True)
        except EngineError as error:
            print("missing", error)
            sys.exit(0)
        print(screener.screen({str(phantoms / "1.jpeg")!r}).status)
        top = {{name.partition(".")[0] for name in sys.modules}}
        installed = {{n for n in top if (m := sys.modules.get(n)) and
                     "site-packages" in (getattr(m, "__file__", None) or "")}}
        allowed = {{"numpy", "PIL", "ai_edge_litert", "onnxruntime", "edge_runtime", "flatbuffers",
                   "openvino", "absl", "coloredlogs", "packaging", "google", "ml_dtypes",
                   "backports"}}
        print("unexpected:", sorted(n for n in installed - allowed if not n.startswith("_")))
    """
    result = run(code)
    if result.stdout.startswith("missing"):
        pytest.skip(result.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["ok", "unexpected: []"]


def test_importing_the_package_loads_nothing_else() -> None:
    result = run("import edge_runtime; print([m for m in ('numpy', 'PIL') if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_the_command_line_opens_no_socket(phantoms: Path) -> None:
    result = run(f"""
        from edge_runtime.cli import main
        codes = [main(["screen", "--force", {str(phantoms)!r}]), main(["info"]), main(["verify"])]
        # What `archive` and `fleet` need may be installed, and is looked for, but not imported.
        print(codes, sorted({{"ray", "pyarrow", "duckdb", "fsspec"}} & set(sys.modules)))
    """)
    assert result.stdout.splitlines()[-1] == "[0, 0, 0] []", result.stderr


def test_imports_point_towards_the_device() -> None:
    pytest.importorskip("importlinter")
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stdout
    assert "5 kept, 0 broken" in result.stdout
