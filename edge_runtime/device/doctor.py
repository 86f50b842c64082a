"""Is this box right? Every check in a process of its own, every fault with its remedy.

Imports the standard library alone: it has to work where numpy does not.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

from edge_runtime import __version__
from edge_runtime.basics.frozen import frozen
from edge_runtime.device.machine import current_condition, describe_machine
from edge_runtime.engines.names import ENGINE_NAMES, MODULES, REQUIRES
from edge_runtime.engines.preference import read_preference

_MIN_PYTHON = (3, 11)
_MIN_MEMORY_MB = 400
_MIN_DISK_MB = 200
_TIMEOUT = 120
_OPTIONAL = {
    "dicom": (("pydicom", "pynetdicom"), "pip install 'cxr-edge[dicom]'"),
    "serve": (("starlette", "uvicorn", "python_multipart"), "pip install 'cxr-edge[serve]'"),
    "archive": (("ray", "pyarrow", "duckdb"), "pip install 'cxr-edge[archive]'"),
    "fleet": (("pyarrow",), "pip install 'cxr-edge[fleet]'"),
}


@frozen
class Check:
    """One line of the diagnosis."""

    name: str
    status: str  # ok | warning | fault | absent
    detail: str
    remedy: str | None = None


@frozen
class Diagnosis:
    version: str
    checks: tuple[Check, ...]
    recommended: str | None  # the fastest engine that gives the right answers
    milliseconds: Mapping[str, float]  # of one run, by engine with right answers
    chosen: str | None  # what `auto` takes here, by `doctor --choose`

    @property
    def faults(self) -> list[Check]:
        return [check for check in self.checks if check.status == "fault"]


def examine_machine(bundle: str | None = None, site: str | None = None) -> Diagnosis:
    """All checks. Never raises: what goes wrong is a fault.

    Args:
        bundle: A folder or a name; by default the package's.
        site: A site profile that is to be in force.
    """
    checks = [_python(), *_hardware(), _numpy(), _module("PIL", "pillow")]
    speeds: dict[str, float] = {}
    for name in ENGINE_NAMES:
        check, speed = _engine(name, bundle)
        checks.append(check)
        if speed is not None:
            speeds[name] = speed
    if not speeds and not any(c.status == "fault" for c in checks if c.name in ENGINE_NAMES):
        checks.append(
            Check("engine", "fault", "no inference engine is installed", REQUIRES["litert"])
        )
    checks += [_optional(name) for name in _OPTIONAL]
    best = min(speeds, key=lambda name: speeds[name]) if speeds else None
    chosen = read_preference()
    if chosen is not None and chosen.engine != best:
        remedy = "cxr-edge doctor --choose measures again"
        told = f"auto takes {chosen.engine}, chosen on {chosen.date}; now {best} is faster or right"
        checks.append(Check("chosen engine", "warning", told, remedy))
    if site is not None:
        checks.append(_site(site, bundle, chosen.engine if chosen else "auto"))
    kept = None if chosen is None else chosen.engine
    return Diagnosis(__version__, tuple(checks), best, speeds, kept)


def _python() -> Check:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info < _MIN_PYTHON:
        return Check("python", "fault", found, "install Python 3.11 or newer")
    return Check("python", "ok", found)


def _hardware() -> list[Check]:
    machine, condition = describe_machine(), current_condition()
    name = machine.board or machine.processor or "processor not told"
    features = f" with {', '.join(machine.features)}" if machine.features else ""
    checks = [Check("machine", "ok", f"{machine.system}, {machine.processors} x {name}{features}")]
    if machine.memory_mb is not None:
        enough = machine.memory_mb >= _MIN_MEMORY_MB
        checks.append(
            Check(
                "memory",
                "ok" if enough else "warning",
                f"{machine.memory_mb} MB",
                None if enough else f"{_MIN_MEMORY_MB} MB are comfortable; close other programs",
            )
        )
    try:
        free = shutil.disk_usage(os.getcwd()).free // 1_000_000
        enough = free >= _MIN_DISK_MB
        checks.append(
            Check("disk", "ok" if enough else "warning", f"{free} MB free in this folder",
                  None if enough else "make room: results could not be written")
        )  # fmt: skip
    except OSError as error:
        checks.append(Check("disk", "warning", f"cannot be asked: {error.strerror}"))
    if machine.governor:
        slow = machine.governor in ("powersave", "conservative")
        checks.append(
            Check("governor", "warning" if slow else "ok", machine.governor,
                  "for speed: echo performance | sudo tee "
                  "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor" if slow else None)
        )  # fmt: skip
    if condition.throttling:
        checks.append(
            Check("throttling", "warning", ", ".join(condition.throttling),
                  "use the official power supply, and cool the board")
        )  # fmt: skip
    elif condition.temperature_c is not None:
        checks.append(Check("temperature", "ok", f"{condition.temperature_c:.0f} °C"))
    return checks


def _numpy() -> Check:
    code = "import numpy; numpy.ones(3) @ numpy.ones(3); print(numpy.__version__)"
    done = _run([sys.executable, "-c", code])
    if done.returncode == 0:
        return Check("numpy", "ok", done.stdout.strip())
    return Check("numpy", "fault", _reason(done), "pip install --force-reinstall numpy")


def _module(module: str, package: str) -> Check:
    done = _run([sys.executable, "-c", f"import {module}; print({module}.__version__)"])
    if done.returncode == 0:
        return Check(package, "ok", done.stdout.strip())
    return Check(package, "fault", _reason(done), f"pip install --force-reinstall {package}")


def _engine(name: str, bundle: str | None) -> tuple[Check, float | None]:
    if importlib.util.find_spec(MODULES[name]) is None:
        return Check(name, "absent", "not installed", REQUIRES[name]), None
    command = [sys.executable, "-m", "edge_runtime.device.probe", name]
    done = _run(command + ([bundle] if bundle else []))
    try:
        result = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Check(name, "fault", _reason(done), _remedy(name, _reason(done))), None
    if "fault" in result:
        said = f"{result['fault']} {done.stderr}"
        return Check(name, "fault", result["fault"][:400], _remedy(name, said)), None
    if result["largest_difference"] is None:
        detail = f"{result['engine']}: the bundle has no known answers for it"
        return Check(
            name, "warning", detail, "use another engine, or export the bundle again"
        ), None
    detail = (
        f"{result['engine']}: {result['known_answers']} known answers met, "
        f"{result['infer_ms']} ms a run, {result['load_ms']:.0f} ms to load"
    )
    return Check(name, "ok", detail), float(result["infer_ms"])


def _site(site: str, bundle: str | None, engine: str) -> Check:
    """Whether a profile fits bundle and engine, and what it does to the score."""
    code = (
        "import sys; from edge_runtime import Screener; "
        "from edge_runtime.records.figures import told_site; "
        "s = Screener.load(sys.argv[2] or None, site=sys.argv[1], engine=sys.argv[3]); "
        "print(told_site(s.site, 'en'))"
    )
    done = _run([sys.executable, "-c", code, site, bundle or "", engine])
    if done.returncode == 0:
        return Check("site", "ok", done.stdout.strip())
    reason = _reason(done)
    return Check(
        "site",
        "fault",
        reason.partition("InvalidValueError: ")[2] or reason,
        "make it again with this bundle: cxr-edge adapt, or calibrate",
    )


def _remedy(name: str, said: str) -> str:
    """What to do about it, from what it said."""
    lowered = said.lower()
    if "_array_api" in lowered or "numpy 1.x" in lowered or "numpy<2" in lowered:
        return 'its numpy does not fit: pip install "numpy<2", or use another engine'
    if "sigill" in lowered or "illegal instruction" in lowered:
        return (
            "this build uses instructions that the processor has not: install an older version "
            f"({REQUIRES[name].split(' (')[0]}, with ==VERSION), or use another engine"
        )
    if "glibc" in lowered or "libstdc++" in lowered:
        return "the system is older than this build: install an older version, or a newer system"
    if "cannot open shared object" in lowered or ("no such file" in lowered and ".so" in lowered):
        return f"a library is missing: install it, or {REQUIRES[name].split(' (')[0]} again"
    if "known answer" in lowered:
        return "do not use it: it gives wrong scores on this machine; use another engine"
    if "sha-256" in lowered or "bytes, the manifest says" in lowered or "manifest" in lowered:
        return "the bundle is damaged or altered: copy it again"
    if "refuses" in lowered or ("model" in lowered and "schema" in lowered):
        return "the model file is damaged: copy the bundle again"
    return f"{REQUIRES[name].split(' (')[0]} --force-reinstall, or use another engine"


def _optional(name: str) -> Check:
    modules, remedy = _OPTIONAL[name]
    lacking = [m for m in modules if importlib.util.find_spec(m) is None]
    if lacking:
        return Check(name, "absent", f"optional: {', '.join(lacking)} not installed", remedy)
    return Check(name, "ok", "installed")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"hung for {_TIMEOUT} seconds")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = f"signal {-done.returncode}"
        return f"the process was ended by {name}"
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit status {done.returncode}")[:400]


def describe(diagnosis: Diagnosis) -> str:
    """The diagnosis for people."""
    marks = {"ok": "ok", "warning": "note", "fault": "FAULT", "absent": "-"}
    lines = [f"cxr-edge {diagnosis.version}"]
    for check in diagnosis.checks:
        lines.append(f"{marks[check.status]:6} {check.name:15} {check.detail}")
        if check.remedy and check.status != "ok":
            lines.append(f"{'':22} -> {check.remedy}")
    if diagnosis.recommended:
        lines.append(f"\nuse: --engine {diagnosis.recommended} (the fastest with right answers)")
        if diagnosis.chosen:
            lines.append(f"auto takes {diagnosis.chosen}: it was chosen by doctor --choose")
        else:
            lines.append(
                "auto takes the first that is installed; doctor --choose keeps this choice"
            )
    else:
        lines.append("\nno engine gives right answers here: do not screen with this box")
    return "\n".join(lines) + "\n"
