"""A whole process, timed, with the memory that is its own."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# What the system counts as a process's peak begins with that of the one that started it: here a
# small one does.
_LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
took = time.perf_counter() - start
print(os.waitstatus_to_exitcode(status), took, usage.ru_maxrss, file=sys.stderr)
"""
_PER_MB = 1024 * 1024 if platform.system() == "Darwin" else 1024


@dataclasses.dataclass(frozen=True)
class Finished:
    code: int
    output: str  # standard output
    seconds: float
    peak_mb: float  # resident


def run_process(command: Sequence[str | Path], **environment: str) -> Finished:
    """Run a program to its end; what it says on standard error is lost.

    Args:
        command: Program and arguments.
        environment: Variables beside this process's own.
    """
    # An installation by pip is byte-compiled, and so are the packages we stand beside; with this
    # variable a working copy would be compiled from source at every start.
    own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-ISc", _LAUNCHER, *map(str, command)],
        capture_output=True,
        text=True,
        env=own | environment,
        check=True,
    )
    code, seconds, peak = done.stderr.split()[-3:]
    return Finished(int(code), done.stdout, float(seconds), float(peak) / _PER_MB)
