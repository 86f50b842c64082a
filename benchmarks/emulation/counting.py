"""Instructions of the guest between marks, counted by a plugin of QEMU that is compiled here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from edge_runtime.errors import InvalidValueError

_SOURCE = Path(__file__).with_name("count.c")
_SECOND_VERSION = 9  # of QEMU: from here on plugins of version 2 are wanted


def missing(qemu: str) -> str | None:
    """What this machine lacks to count under `qemu`; None where nothing."""
    if shutil.which("cc") is None:
        return "cc is not installed"
    if shutil.which(qemu) is None:
        return f"{qemu} is not installed (Debian: qemu-user; the static one takes no plugin)"
    shown = subprocess.run([qemu, "--help"], capture_output=True, text=True, check=False).stdout
    return None if "-plugin" in shown else f"{qemu} was built without plugins"


def build_plugin(qemu: str, folder: Path) -> Path:
    """Compile count.c for this QEMU into `folder`.

    Raises:
        InvalidValueError: It does not compile.
    """
    told = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)", told)
    version = 2 if found and int(found.group(1)) >= _SECOND_VERSION else 1
    folder.mkdir(parents=True, exist_ok=True)
    plugin = folder / f"count-{version}.so"
    command = ["cc", "-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={version}", "-o", str(plugin)]
    done = subprocess.run([*command, str(_SOURCE)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidValueError(f"cc: {done.stderr.strip()[-600:]}")
    return plugin


def read_counts(file: Path) -> dict[int, int]:
    """Number of each mark -> instructions since the mark before it; the last one of a number.

    Raises:
        InvalidValueError: No mark was passed.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if not text:
        raise InvalidValueError("no mark was passed: QEMU did not run the plugin")
    return {int(number): int(count) for number, count in map(str.split, text.splitlines())}
