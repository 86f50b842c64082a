"""A Raspberry Pi without a Pi: the runtime's real Arm wheels under QEMU's user-mode emulation.

Debian packages of the board's architecture are unpacked into a folder (no root file system is
booted, nothing is installed), wheels beside them, and QEMU runs that Python on this machine. It
proves bytes, and counts instructions, which are not time. `x86-64-no-vnni` runs this very Python
as a processor without VNNI.

Two things are needed or the engines give wrong numbers without a word: a processor model that real
boards have (`-cpu`), and /proc/cpuinfo and /sys files of such a board, or LiteRT and ONNX Runtime
read those of the machine that emulates.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge_runtime.errors import InvalidValueError

ROOT = Path(__file__).parents[2]
TASK = Path(__file__).with_name("task.py")
ADAPT_TASK = Path(__file__).with_name("adapt_task.py")
COUNT_TASK = Path(__file__).with_name("count_task.py")
_MIRROR = "http://deb.debian.org/debian"
_RELEASE = "bookworm"  # what Raspberry Pi OS is made of, and the newest with Python 3.11
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PYTHON = "3.11"


@dataclasses.dataclass(frozen=True)
class Board:
    """What is emulated."""

    name: str
    qemu: str
    cpu: str
    cores: int
    debian: str = ""  # Debian's name of the architecture; "" runs this very Python
    packages: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()  # requirements; {package} is the version installed here
    platforms: tuple[str, ...] = ()  # wheel tags, most recent first
    cpuinfo: str = ""
    engines: tuple[str, ...] = ("litert", "onnxruntime")


def _processor(part: str, features: str, variant: int = 0, revision: int = 4) -> str:
    """/proc/cpuinfo of one core of a 64-bit Raspberry Pi."""
    return f"""processor\t: {{i}}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x{variant}
CPU part\t: {part}
CPU revision\t: {revision}
"""


_ARMV8 = "fp asimd evtstrm crc32 cpuid"
_ARMV8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
_CORTEX_A7 = """processor\t: {i}
model name\t: ARMv7 Processor rev 5 (v7l)
BogoMIPS\t: 57.60
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xc07
CPU revision\t: 5
"""
_SYSTEM = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1")
_AARCH64 = Board(
    "aarch64",
    "qemu-aarch64-static",
    "cortex-a72",
    4,
    "arm64",
    _SYSTEM,
    (
        "numpy=={numpy}",
        "pillow=={pillow}",
        "ai-edge-litert=={ai-edge-litert}",
        "onnxruntime=={onnxruntime}",
    ),
    tuple(f"manylinux_2_{n}_aarch64" for n in (31, 28, 27, 26, 24, 17)),
    _processor("0xd08", _ARMV8, revision=3),
)
BOARDS = {
    board.name: board
    for board in (
        _AARCH64,
        Board(
            "armv7l",
            "qemu-arm-static",
            "cortex-a7",
            4,
            "armhf",
            (*_SYSTEM, "python3-numpy", "python3-pil"),
            ("tflite-runtime==2.14.0",),
            ("manylinux_2_34_armv7l", "manylinux2014_armv7l", "linux_armv7l"),
            _CORTEX_A7,
            ("tflite-runtime",),
        ),
        Board("x86-64-no-vnni", "qemu-x86_64-static", "Haswell", 2),
    )
}
# Only instructions are counted on these: they have the system of "aarch64" and another processor.
COUNTED_BOARDS = {
    board.name: dataclasses.replace(board, qemu=board.qemu.removesuffix("-static"))
    for board in (
        dataclasses.replace(
            _AARCH64, name="cortex-a53", cpu="cortex-a53", cpuinfo=_processor("0xd03", _ARMV8)
        ),
        dataclasses.replace(_AARCH64, name="cortex-a72"),
        dataclasses.replace(
            _AARCH64,
            name="cortex-a76",
            cpu="cortex-a76",
            cpuinfo=_processor("0xd0b", _ARMV8_2, variant=4, revision=1),
        ),
        dataclasses.replace(BOARDS["x86-64-no-vnni"], name="haswell"),
    )
}


def missing(board: Board) -> str | None:
    """What this machine lacks to emulate the board; None where nothing."""
    needed = [board.qemu, *(("apt-get", "dpkg-deb") if board.debian else ())]
    for tool in needed:
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: qemu-user-static)"
    if board.debian and not Path(_KEYRING).exists():
        return f"no {_KEYRING}: the packages come from Debian"
    return None


def prepare_board(board: Board, folder: Path) -> Path:
    """Download and unpack the board's system and wheels into `folder`, once; its folder.

    Raises:
        InvalidValueError: Something cannot be downloaded.
    """
    home = folder / board.name
    done = home / "done"
    wheels = [_pinned(wheel) for wheel in board.wheels]
    if done.exists() and done.read_text(encoding="utf-8") == "\n".join(wheels):
        return home
    shutil.rmtree(home, ignore_errors=True)
    if board.debian:
        _unpack_system(board, home)
        _unpack_wheels(board, wheels, home)
        _describe_processor(board, home / "root")
    home.mkdir(parents=True, exist_ok=True)
    done.write_text("\n".join(wheels), encoding="utf-8")
    return home


def with_processor(board: Board, home: Path, folder: Path) -> Path:
    """The system in `home` with the processor of `board`: a folder of links, made anew."""
    other = folder / board.name
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir(parents=True)
    if board.debian:
        shutil.copytree(home / "root", other / "root", symlinks=True, copy_function=os.link)
        (other / "wheels").symlink_to((home / "wheels").resolve())
        _describe_processor(board, other / "root")
    return other


def run_task(
    board: Board,
    home: Path,
    engine: str,
    arguments: Sequence[Path | str],
    timeout: float = 600,
    task: Path = TASK,
    plugin: str | None = None,
) -> dict[str, Any]:
    """What `task.py`, or another task, prints on the board.

    Args:
        board: What is emulated.
        home: Its folder, of `prepare_board`.
        engine: For the task.
        arguments: The task's others, mostly paths of images.
        timeout: Seconds.
        task: The script.
        plugin: QEMU's `-plugin`.

    Raises:
        InvalidValueError: It ended with an error, which is quoted.
    """
    command = [board.qemu, "-cpu", board.cpu, *(("-plugin", plugin) if plugin else ())]
    path = [str(ROOT)]
    if board.debian:
        root = home / "root"
        command += ["-L", str(root), str(root / "usr/bin/python3.11")]
        path += [str(home / "wheels"), str(root / "usr/lib/python3/dist-packages")]
    else:
        command += [os.path.realpath(sys.executable)]
        path += [p for p in sys.path if p.endswith("site-packages")]
    library_path = [
        str(home / "root/usr/lib" / triple / library)
        for triple in ("aarch64-linux-gnu", "arm-linux-gnueabihf")
        for library in ("blas", "lapack")
        if (home / "root/usr/lib" / triple / library).is_dir()
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path)}
    if library_path:
        environment["QEMU_SET_ENV"] = "LD_LIBRARY_PATH=" + ":".join(library_path)
    return _json_of([*command, str(task), engine, *map(str, arguments)], environment, timeout)


def run_here(engine: str, arguments: Sequence[Path | str], task: Path = TASK) -> dict[str, Any]:
    """The same on this machine, as it is."""
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    return _json_of([sys.executable, str(task), engine, *map(str, arguments)], environment, 600)


def _json_of(command: Sequence[str], environment: dict[str, str], timeout: float) -> dict[str, Any]:
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=timeout, check=False
    )
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise InvalidValueError(
            f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-600:]}"
        ) from error
    return result


def _pinned(requirement: str) -> str:
    """A requirement with the version that is installed here, so that like meets like."""
    name, _, rest = requirement.partition("==")
    if not rest.startswith("{"):
        return requirement
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name


def _unpack_system(board: Board, home: Path) -> None:
    """Through an apt of its own, so that the machine's stays as it is."""
    apt, root = home / "apt", home / "root"
    for folder in (apt / "lists/partial", apt / "archives/partial", root):
        folder.mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(
        f"deb [signed-by={_KEYRING}] {_MIRROR} {_RELEASE} main\n", encoding="utf-8"
    )
    options = {
        "APT::Architecture": board.debian,
        "APT::Architectures": board.debian,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "Dir::State::lists": str(apt / "lists"),
        "Dir::State::status": str(apt / "status"),
        "Dir::Cache": str(apt),
        "Dir::Cache::archives": str(apt / "archives"),
        "Dir::Etc::SourceList": str(apt / "sources.list"),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
    }
    arguments = [f"-o{key}={value}" for key, value in options.items()]
    _call("apt-get", *arguments, "-qq", "update")
    _call("apt-get", *arguments, "-qq", "-y", "--download-only", "install", *board.packages)
    for package in sorted((apt / "archives").glob("*.deb")):
        _call("dpkg-deb", "-x", str(package), str(root))
    shutil.rmtree(apt)


def _unpack_wheels(board: Board, wheels: Sequence[str], home: Path) -> None:
    downloads, site = home / "downloads", home / "wheels"
    site.mkdir()
    tags = [f"--platform={tag}" for tag in board.platforms]
    # An environment made by uv has no pip. What engines need for development stays away: --no-deps.
    _call(sys.executable, "-m", "venv", str(home / "pip"))
    _call(
        str(home / "pip/bin/python"), "-m", "pip", "download", "--quiet",
        "--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp",
        f"--python-version={_PYTHON}", f"--abi=cp{_PYTHON.replace('.', '')}", *tags, "--no-deps",
        "--dest", str(downloads), *wheels,
    )  # fmt: skip
    shutil.rmtree(home / "pip")
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    shutil.rmtree(downloads)


def _describe_processor(board: Board, root: Path) -> None:
    cores = board.cores
    files = {"proc/cpuinfo": "\n".join(board.cpuinfo.format(i=i) for i in range(cores))}
    cpus = "sys/devices/system/cpu"
    for name in ("possible", "present", "online"):
        files[f"{cpus}/{name}"] = f"0-{cores - 1}\n"
    for i in range(cores):
        topology = f"{cpus}/cpu{i}/topology"
        files |= {
            f"{topology}/physical_package_id": "0\n",
            f"{topology}/core_id": f"{i}\n",
            f"{topology}/core_siblings_list": f"0-{cores - 1}\n",
            f"{topology}/thread_siblings_list": f"{i}\n",
        }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link to another board's
        path.write_text(text, encoding="utf-8")


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidValueError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-600:]}")
