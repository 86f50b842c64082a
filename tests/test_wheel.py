"""The wheel: the runtime and its bundle, nothing else, and it screens in an empty environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "hatchling" in result.stderr and "No matching distribution" in result.stderr:
        pytest.skip("no package index is reachable, the build backend cannot be fetched")
    assert result.returncode == 0, result.stdout + result.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_runtime_and_the_bundle_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    top = {name.partition("/")[0] for name in names}
    assert {t for t in top if not t.endswith(".dist-info")} == {"edge_runtime"}
    inside = {n for n in names if n.startswith("edge_runtime/")}
    assert {"edge_runtime/py.typed", "edge_runtime/schemas/bundle-1.schema.json"} <= inside
    assert "edge_runtime/models/default/model.tflite" in inside
    assert not [n for n in inside if n.endswith((".pyc", ".keras", ".h5"))]
    required = [n for n in metadata.splitlines() if n.startswith("Requires-Dist")]
    plain = [n for n in required if "extra ==" not in n]
    # numpy, Pillow and one engine, which depends on the machine.
    assert len(plain) == 4 and "tensorflow" not in "".join(required)
    assert wheel.stat().st_size < 10_000_000


def test_the_source_archive_holds_no_data(wheel: Path) -> None:
    import tarfile

    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert top <= {"edge_runtime", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml",
                   "PKG-INFO", ".gitignore"}  # fmt: skip


def test_an_empty_environment_screens_with_it(wheel: Path, phantoms: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    binary = environment / "bin"
    install = subprocess.run(
        [binary / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if install.returncode and "No matching distribution" in install.stderr:
        pytest.skip("no package index is reachable, dependencies cannot be fetched")
    assert install.returncode == 0, install.stderr
    # From another folder, or the checkout would shadow the wheel.
    result = subprocess.run(
        [binary / "cxr-edge", "screen", "--force", phantoms, "--format", "jsonl"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 6 and {r["status"] for r in records} == {"ok"}
    missing = subprocess.run(
        [binary / "python", "-c", "import tensorflow"], capture_output=True, check=False
    )
    assert missing.returncode != 0


# What wheels there are, looked up with `pip download --platform` on 2026-11-25: ai-edge-litert 2.3
# for Linux on x86-64 and Arm, macOS 12 on Apple's processors, Windows on x86-64; the newest one for
# Macs with an Intel processor is 1.0.1, and there is none for Windows on Arm.
ENGINE_BY_MACHINE = {
    ("linux", "x86_64"): "ai-edge-litert",
    ("linux", "aarch64"): "ai-edge-litert",
    ("linux", "armv7l"): None,  # the extra tflite-runtime
    ("darwin", "arm64"): "ai-edge-litert",
    ("darwin", "x86_64"): "onnxruntime",
    ("win32", "AMD64"): "ai-edge-litert",
    ("win32", "ARM64"): "onnxruntime",
}


@pytest.mark.parametrize(("machine", "engine"), ENGINE_BY_MACHINE.items())
def test_every_machine_gets_the_engine_that_has_wheels_for_it(
    machine: tuple[str, str], engine: str | None
) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = {"sys_platform": machine[0], "platform_machine": machine[1]}
    found = [
        requirement.name
        for requirement in map(requirements.Requirement, project["dependencies"])
        if requirement.marker is not None and requirement.marker.evaluate(environment)
    ]
    assert found == ([engine] if engine else [])
