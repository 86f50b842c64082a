"""`python -m MODULE …` by a process that has TensorFlow already and forks, for the tests' sake.

Importing TensorFlow takes 5 s of a processor, and some eighty commands of the tests need it. So one
process imports it and forks for each of them: the child is what `python -m` would be, with its own
arguments, standard output and standard error, but for the time that the imports take. Nothing of
TensorFlow has been used before the fork, only imported. What it and Keras read of the environment
when they are imported (TF_…, KERAS_BACKEND) is this process' for all commands: a test of such a
variable starts a process of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What the workbench's commands import anyway; `train` first, it chooses TensorFlow's settings.
_WANTED = ("train", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert.interpreter")


class Zygote:
    """One process that forks; begun with the first command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """The module and its arguments, from the checkout.

        Raises:
            subprocess.TimeoutExpired: It took longer than `timeout` seconds, and was killed.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.zygote"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
            atexit.register(self._end, self._process)
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            # As a new process, it has the environment that its caller has now.
            order = {
                "arguments": arguments, "out": str(out), "err": str(err), "timeout": timeout,
                "environment": dict(os.environ),
            }  # fmt: skip
            print(json.dumps(order), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            told, said = (file.read_text(errors="replace") for file in (out, err))
        if code == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(arguments, timeout, told, said)
        return subprocess.CompletedProcess(arguments, code, told, said)

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()


def main() -> None:
    """Fork for each line of standard input, and answer with the child's exit status."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    for name in _WANTED:
        __import__(name)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            answers.close()
            _become(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _become(order: dict[str, Any]) -> None:
    """The command itself, in the forked process; it never returns."""
    os.setsid()  # what it starts is not the test run's
    signal.alarm(int(order["timeout"]))  # unhandled, it ends the process
    os.environ.clear()
    os.environ.update(order["environment"])
    for descriptor, file in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    module, *arguments = order["arguments"]
    sys.argv = [module, *arguments]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    # The interpreter's own end, without which threads, buffers and temporary files would stay.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
