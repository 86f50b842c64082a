"""What the system tells about itself: processor, memory, clock governor, temperature, throttling.

Everything is optional: what a system does not tell is None. Nothing identifies the machine.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.processors import usable_processors

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_THERMAL = Path("/sys/class/thermal")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_BOARD = Path("/proc/device-tree/model")
# The Raspberry Pi firmware's flags, as `vcgencmd get_throttled` prints them.
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_THROTTLE_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency was capped",
    18: "was throttled",
    19: "soft temperature limit was reached",
}
# What decides which kernels an engine may use.
_X86 = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_ARM = ("neon", "asimd", "asimdhp", "asimddp", "i8mm", "sve")


@frozen
class Machine:
    system: str  # "Linux x86_64"
    board: str | None  # "Raspberry Pi 4 Model B Rev 1.4"
    processor: str | None
    features: tuple[str, ...]
    processors: int  # that this process may use
    memory_mb: int | None
    governor: str | None


@frozen
class Condition:
    """What changes while one measures."""

    temperature_c: float | None  # the hottest sensor
    throttling: tuple[str, ...] | None  # empty: the system says that there is none
    load: float | None  # average of the last minute


def describe_machine() -> Machine:
    facts = _colon_pairs(_CPUINFO)
    processor = facts.get("model name") or facts.get("Hardware") or _arm_part(facts)
    listed = set((facts.get("flags") or facts.get("Features") or "").split())
    total = _colon_pairs(_MEMINFO).get("MemTotal", "").split()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        board=_text(_BOARD),
        processor=processor or platform.processor() or None,
        features=tuple(name for name in _X86 + _ARM if name in listed),
        processors=usable_processors(),
        memory_mb=int(total[0]) // 1024 if total else None,
        governor=_text(_GOVERNOR),
    )


def processor_kind() -> str:
    """What decides which kernels an engine may use: "x86_64 sse4_2 avx avx2 fma"."""
    return " ".join((platform.machine(), *describe_machine().features))


def current_condition() -> Condition:
    temperatures = [_number(zone / "temp") for zone in sorted(_THERMAL.glob("thermal_zone*"))]
    known = [t / 1000 for t in temperatures if t is not None and 0 < t < 200_000]
    try:
        load: float | None = round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        load = None
    return Condition(max(known, default=None), _throttling(), load)


def _throttling() -> tuple[str, ...] | None:
    text = _text(_THROTTLED)
    if text is None:
        return None
    try:
        bits = int(text, 16)
    except ValueError:
        return None
    return tuple(name for bit, name in _THROTTLE_BITS.items() if bits >> bit & 1)


def _arm_part(facts: dict[str, str]) -> str | None:
    """Arm kernels give numbers only: "implementer 0x41 part 0xd08" is a Cortex-A72."""
    part = facts.get("CPU part")
    names = {"0xd03": "Cortex-A53", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76"}
    if part is None:
        return None
    return names.get(part, f"Arm implementer {facts.get('CPU implementer')} part {part}")


def _colon_pairs(path: Path) -> dict[str, str]:
    """The first value of each "key : value" line."""
    pairs: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            pairs.setdefault(key.strip(), value.strip())
    return pairs


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None
