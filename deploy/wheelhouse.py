"""Gather everything that a board needs to install with no network.

    python deploy/wheelhouse.py aarch64 build/wheelhouse-aarch64
    pip install --no-index --find-links build/wheelhouse-aarch64 cxr-edge      # on the board

Platforms: x86_64 and aarch64 (Python 3.11 to 3.13, LiteRT), armv7l (Python 3.11, tflite-runtime;
numpy and Pillow come from Raspberry Pi OS). Needs a network itself, and pip.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
_GLIBC = (35, 34, 31, 28, 27, 26, 24, 17)


def platform_tags(platform: str) -> list[str]:
    """Wheel tags of a platform, most recent first; pip matches them one by one."""
    tags = [f"manylinux_2_{minor}_{platform}" for minor in _GLIBC]
    return [*tags, f"manylinux2014_{platform}", f"linux_{platform}"]


def gather(platform: str, folder: Path, python: str) -> list[Path]:
    """Build our wheel, download the others; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    _call("-m", "build", "--wheel", "--outdir", str(folder), str(ROOT))
    ours = max(folder.glob("cxr_edge-*.whl"), key=lambda p: p.stat().st_mtime)
    wanted = (
        ["tflite-runtime==2.14.0"] if platform == "armv7l" else ["numpy", "pillow", *_engine(ours)]
    )
    _call(
        "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={python}", f"--abi=cp{python.replace('.', '')}",
        "--abi=abi3", "--abi=none", *(f"--platform={tag}" for tag in platform_tags(platform)),
        *(["--no-deps"] if platform == "armv7l" else []), "--dest", str(folder), *wanted,
    )  # fmt: skip
    (folder / "INSTALL.txt").write_text(_instructions(platform, python), encoding="utf-8")
    return sorted(folder.iterdir())


def _engine(wheel: Path) -> list[str]:
    """The engine that our wheel asks for, as its metadata state it."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    asked = [line.split(": ", 1)[1] for line in lines if line.startswith("Requires-Dist: ai-edge")]
    return [requirement.split(";")[0].strip() for requirement in asked]


def _instructions(platform: str, python: str) -> str:
    if platform == "armv7l":
        return (
            "sudo apt install python3-venv python3-numpy python3-pil   (on the board's own media)\n"
            "python3 -m venv --system-site-packages ~/cxr && . ~/cxr/bin/activate\n"
            "pip install --no-index --no-deps --find-links . cxr-edge tflite-runtime\n"
            "cxr-edge doctor\n"
        )
    return (
        f"python{python} -m venv ~/cxr && . ~/cxr/bin/activate\n"
        "pip install --no-index --find-links . cxr-edge\ncxr-edge doctor\n"
    )


def _call(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("platform", choices=("x86_64", "aarch64", "armv7l"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.11", help="of the board (default 3.11)")
    arguments = parser.parse_args()
    for file in gather(arguments.platform, arguments.folder, arguments.python):
        print(f"{file.stat().st_size / 1e6:8.1f} MB  {file.name}")


if __name__ == "__main__":
    main()
