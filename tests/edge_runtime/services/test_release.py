"""A release: what is published, the same to the byte, with everything that is in it named."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.cli import VERBS
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def release() -> ModuleType:
    specification = importlib.util.spec_from_file_location("release", ROOT / "deploy/release.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_wheel_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("build")
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1764000000"}
    wheels = []
    for name in ("a", "b"):
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / name)]
        done = subprocess.run(
            [*command, str(ROOT)], capture_output=True, text=True, check=False, env=environment
        )
        if "No matching distribution" in done.stderr:
            pytest.skip("no package index is reachable, the build backend cannot be fetched")
        assert done.returncode == 0, done.stderr
        wheels.append(next((tmp_path / name).glob("*.whl")).read_bytes())
    assert wheels[0] == wheels[1]


def test_every_shipped_model_is_a_component_with_its_hash(release: ModuleType) -> None:
    found = {c["name"]: c for c in release.models_in(ROOT / "edge_runtime" / "models")}
    for name in SHIPPED:
        manifest = load_bundle(name).manifest
        for file in manifest.files:
            if file.format:
                component = found.pop(f"{manifest.name}/{file.path}")
                assert component["hashes"][0]["content"] == file.sha256
                assert component["version"] == manifest.version
    assert not found


def test_sums_are_those_of_sha256sum(release: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "b.whl").write_bytes(b"wheel")
    (tmp_path / "a.json").write_bytes(b"{}")
    release.write_sums(tmp_path)
    release.write_sums(tmp_path)  # not of itself
    lines = (tmp_path / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in lines] == ["a.json", "b.whl"]
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    (tmp_path / "b.whl").write_bytes(b"other")
    changed = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False
    )
    assert changed.returncode == 1


def test_the_versions_of_another_day_are_taken_from_its_sbom(
    release: ModuleType, tmp_path: Path
) -> None:
    sbom = tmp_path / "old.cdx.json"
    components = [
        {"type": "library", "name": "numpy", "version": "2.4.6"},
        {"type": "library", "name": "cxr-edge", "version": "1"},
        {"type": "machine-learning-model", "name": "m", "version": "5"},
    ]
    sbom.write_text(json.dumps({"components": components}))
    assert release.versions_in(sbom) == ["numpy==2.4.6"]


def test_a_folder_that_holds_something_is_left_alone(release: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with pytest.raises(SystemExit, match="holds something"):
        release.make_release(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_container_file_does_what_can_be_done_here() -> None:
    """No builder of containers is at hand: every instruction is held against the project."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.split(None, 1) for line in text.splitlines() if line and line[0] not in "# "]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert [word for word, _ in steps if word == "FROM"] == ["FROM", "FROM"]
    for word, rest in steps:
        if word == "FROM":
            image = rest.split()[0]
            assert image.startswith("python:3.") and image.endswith("-slim")
            minor = int(image.removeprefix("python:3.").removesuffix("-slim"))
            assert f"Programming Language :: Python :: 3.{minor}" in project
        elif word == "RUN" and "[" in rest:
            extras = rest.split("[", 1)[1].split("]")[0].split(",")
            assert all(f"\n{extra} = [" in project for extra in extras), extras
        elif word == "ENTRYPOINT":
            assert json.loads(rest) == ["cxr-edge"]
        elif word == "CMD":
            assert json.loads(rest)[0] in VERBS
        else:
            assert word in ("COPY", "RUN", "USER", "EXPOSE", "ENV", "VOLUME", "WORKDIR",
                            "HEALTHCHECK"), word  # fmt: skip
    assert any(word == "USER" for word, _ in steps), "it must not run as root"


def test_the_container_files_commands_run_here(tmp_path: Path) -> None:
    """Its RUN instructions in an environment of their own, with its folders put elsewhere."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]
    assert len(commands) == 2
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = os.environ | {"PATH": f"{tmp_path}/venv/bin:{os.environ['PATH']}"}
    # A system's user is the image's business, not this machine's.
    places = {"/source": str(ROOT), "/wheels": f"{tmp_path}/wheels", "useradd": "echo useradd"}
    for command in commands:
        for old, new in places.items():
            command = command.replace(old, new)  # noqa: PLW2901
        done = subprocess.run(
            ["sh", "-ec", command], capture_output=True, text=True, env=environment, cwd=tmp_path,
            check=False,
        )  # fmt: skip
        if "No matching distribution" in done.stderr:
            pytest.skip("no package index is reachable")
        assert done.returncode == 0, done.stderr[-1500:]
    assert "verify" in commands[-1]  # every known answer was met
    assert not (tmp_path / "wheels").exists()
    info = subprocess.run(
        ["cxr-edge", "info"], capture_output=True, text=True, env=environment, cwd=tmp_path,
        check=True,
    )  # fmt: skip
    assert "serve          installed" in info.stdout or "serve: installed" in info.stdout
