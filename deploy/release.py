"""Everything that is published of a version, the same to the byte whenever it is made.

    python deploy/release.py build/release

writes the wheel, the source archive, an SBOM (CycloneDX 1.6, of an environment into which the wheel
was installed with LiteRT, ONNX Runtime, DICOM and the service; and the models) and SHA256SUMS.
Dates are those of the last commit (SOURCE_DATE_EPOCH, reproducible-builds.org). What the SBOM lists
depends on what the package index offers on the day: `--constraints` takes the versions of another
day's SBOM.

Needs git, a network, and the packages build and cyclonedx-bom.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = "onnx,dicom,serve,fleet"
SUMS = "SHA256SUMS"


def make_release(folder: Path, constraints: Path | None = None) -> list[Path]:
    """The files, sorted.

    Args:
        folder: Made where it is not there; must be empty.
        constraints: An SBOM whose versions are installed again.

    Raises:
        SystemExit: The folder holds something, the checkout has changes, or a step failed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something; name another folder, or empty it")
    changes = _output("git", "status", "--porcelain", "--untracked-files=no")
    if changes:
        raise SystemExit(f"the checkout has changes that are in no commit:\n{changes}")
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": _output("git", "log", "-1", "--format=%ct")}
    _call(environment, sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    _write_sbom(wheel, folder / f"{wheel.name.split('-py3')[0]}.cdx.json", environment, constraints)
    write_sums(folder)
    return sorted(folder.iterdir())


def _write_sbom(
    wheel: Path, output: Path, environment: dict[str, str], constraints: Path | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "env"
        venv.create(place, with_pip=True)
        python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
        wanted = [f"{wheel.resolve()}[{EXTRAS}]"]
        if constraints is not None:
            listed = Path(name) / "constraints.txt"
            listed.write_text("\n".join(versions_in(constraints)) + "\n", encoding="utf-8")
            wanted += ["--constraint", str(listed)]
        pip = (python, "-m", "pip", "--disable-pip-version-check")
        _call(environment, *pip, "install", "--quiet", *wanted)
        _call(environment, *pip, "uninstall", "--quiet", "--yes", "pip", "setuptools")
        _call(
            environment, sys.executable, "-m", "cyclonedx_py", "environment",
            "--output-reproducible", "--pyproject", ROOT / "pyproject.toml", "--mc-type",
            "application", "--output-file", output, python,
        )  # fmt: skip
    document = json.loads(output.read_text(encoding="utf-8"))
    # Where the wheel lay while it was installed is nobody's business.
    for component in document["components"]:
        component["externalReferences"] = [
            r for r in component.get("externalReferences", ()) if not r["url"].startswith("file:")
        ]
    document["components"] += models_in(ROOT / "edge_runtime" / "models")
    output.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def models_in(folder: Path) -> list[dict[str, object]]:
    """The shipped models as components of an SBOM."""
    found: list[dict[str, object]] = []
    for manifest in sorted(folder.glob("*/manifest.json")):
        told = json.loads(manifest.read_text(encoding="utf-8"))
        found += [
            {
                "type": "machine-learning-model",
                "bom-ref": f"{told['name']}-{file['path']}",
                "name": f"{told['name']}/{file['path']}",
                "version": told["version"],
                "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
            }
            for file in told["files"]
            if file.get("format")
        ]
    return found


def versions_in(sbom: Path) -> list[str]:
    """`name==version` of every package that an SBOM lists, ours apart."""
    document = json.loads(sbom.read_text(encoding="utf-8"))
    return sorted(
        f"{c['name']}=={c['version']}"
        for c in document["components"]
        if c["type"] == "library" and c["name"] != "cxr-edge"
    )


def write_sums(folder: Path) -> None:
    """SHA256SUMS as `sha256sum --check` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != SUMS
    ]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _call(environment: dict[str, str], *command: str | Path) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {(done.stdout + done.stderr)[-1500:]}")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--constraints", type=Path, metavar="SBOM", help="install the versions that it lists"
    )
    arguments = parser.parse_args()
    for file in make_release(arguments.folder, arguments.constraints):
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")


if __name__ == "__main__":
    main()
