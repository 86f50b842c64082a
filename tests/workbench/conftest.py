"""A run of the smoke recipe and its bundle, made once for all tests that need them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def workbench(*arguments: object, timeout: int = 400) -> subprocess.CompletedProcess[str]:
    """`python -m …` from the checkout, as a user would."""
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=timeout, check=False
    )


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on drawn phantoms."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    result = workbench("train", "fit", "--recipe", "smoke", "--weights", "none", "--output", folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def smoke_bundle(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle; the float bundle lies beside it as smoke-float."""
    folder = tmp_path_factory.mktemp("bundles") / "smoke"
    result = workbench("export", smoke_run, "--output", folder)
    assert result.returncode == 0, result.stderr
    return folder
