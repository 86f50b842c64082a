"""What a training run leaves behind, and the state that lets an interrupted one go on.

run.json         recipe, seed, weights, data fingerprint, versions, source commit, outcome
splits.json      every image of train and validation with its kind
history.json     one entry per epoch;  curves.png shows it
model.keras      the finished model;  validation.csv its logits
state.npz        weights, optimiser and history after the last whole epoch
snapshots/       weights of the best and the last epochs
"""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_runtime.basics.files import write_whole
from edge_runtime.basics.parse import to_mapping
from edge_runtime.basics.versions import installed_versions
from edge_runtime.errors import InvalidValueError
from train.data.dataset import Split
from train.recipe import Recipe

SCHEMA = "cxr-edge/run/1"
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "torch", "numpy", "pillow", "h5py")


@dataclasses.dataclass
class State:
    """Everything the training loop carries from one epoch to the next."""

    weights: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    history: list[dict[str, Any]]


class RunFolder:
    """Paths and atomic writes of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stream(self, wanted: bool) -> Path | None:
        """A folder for prepared images, if they are to stay on the disk."""
        if not wanted:
            return None
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def check_free_for(self, recipe: Recipe, weights: dict[str, str]) -> None:
        """Raise InvalidValueError where another run is here; see `begin`, which compares all."""
        self._check({"recipe": to_mapping(recipe), "weights": weights})

    def _check(self, description: dict[str, Any]) -> bool:
        """Whether a run is here; that it is the one of the description."""
        file = self.path / "run.json"
        if self.path.exists() and not self.path.is_dir():
            raise InvalidValueError(f"{self.path} is a file; give another --output")
        if not file.exists():
            return False
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            for key, value in description.items():
                if found[key] != json.loads(json.dumps(value)):
                    raise InvalidValueError(
                        f"{self.path} holds a run with another {key}; give a new --output, "
                        "or remove the folder to start again"
                    )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValueError(f"{file} is damaged: {error}; give a new --output") from error
        if "outcome" in found and not (self.path / "state.npz").exists():
            raise InvalidValueError(
                f"{self.path} holds a finished run without the state that a training goes on from, "
                "and would be overwritten; give a new --output"
            )
        return True

    def begin(self, description: dict[str, Any], split: Split) -> None:
        """Write run.json and splits.json, or check that they describe this very run.

        Raises:
            InvalidValueError: The folder holds a run of another recipe, seed, weights or data, or
                a finished one whose state was not kept.
        """
        if self._check({key: description[key] for key in ("recipe", "weights", "data")}):
            return
        (self.path / "snapshots").mkdir(parents=True, exist_ok=True)
        write_json(self.path / "splits.json", to_mapping(split))
        write_json(self.path / "run.json", description)

    def save_state(self, state: State) -> None:
        arrays = {f"w{i:04d}": value for i, value in enumerate(state.weights)}
        arrays |= {f"o{i:04d}": value for i, value in enumerate(state.optimizer)}
        arrays["history"] = np.array(json.dumps(state.history))
        save_npz(self.path / "state.npz", arrays)
        write_json(self.path / "history.json", state.history)

    def load_state(self) -> State | None:
        file = self.path / "state.npz"
        if not file.exists():
            return None
        with np.load(file) as arrays:
            names = sorted(arrays.files)
            return State(
                [arrays[n] for n in names if n.startswith("w")],
                [arrays[n] for n in names if n.startswith("o")],
                json.loads(str(arrays["history"])),
            )

    def save_snapshot(self, epoch: int, weights: list[NDArray[Any]]) -> None:
        save_npz(self._snapshot(epoch), {f"w{i:04d}": value for i, value in enumerate(weights)})

    def load_snapshot(self, epoch: int) -> list[NDArray[Any]]:
        with np.load(self._snapshot(epoch)) as arrays:
            return [arrays[name] for name in sorted(arrays.files)]

    def keep_snapshots(self, epochs: Sequence[int]) -> None:
        """Remove every snapshot but those of the named epochs."""
        wanted = {self._snapshot(epoch) for epoch in epochs}
        for file in (self.path / "snapshots").glob("epoch-*.npz"):
            if file not in wanted:
                file.unlink()

    def finish(self, outcome: dict[str, Any]) -> None:
        file = self.path / "run.json"
        run = json.loads(file.read_text(encoding="utf-8"))
        write_json(file, run | {"outcome": outcome})

    def _snapshot(self, epoch: int) -> Path:
        return self.path / "snapshots" / f"epoch-{epoch:03d}.npz"


def describe_data(fingerprint: str, split: Split, unreadable: Sequence[str] = ()) -> dict[str, Any]:
    """What run.json says of the films: their fingerprint, how many, and what was left out."""
    counts: dict[str, int] = {}
    for part, samples in (("train", split.train), ("validation", split.validation)):
        for sample in samples:
            key = f"{part}/{sample.kind}"
            counts[key] = counts.get(key, 0) + 1
    data: dict[str, Any] = {"fingerprint": fingerprint, "counts": dict(sorted(counts.items()))}
    if unreadable:
        data["unreadable"] = list(unreadable)
    return data


def describe_run(recipe: Recipe, weights: dict[str, str], data: dict[str, Any]) -> dict[str, Any]:
    """The content of run.json at the start of a run; `data` from `describe_data`."""
    return {
        "schema": SCHEMA,
        "recipe": to_mapping(recipe),
        "weights": weights,
        "data": data,
        "versions": {"python": platform.python_version()} | installed_versions(_PACKAGES),
        "source_commit": _source_commit(),
    }


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is either the old or the new one, never half of it."""
    write_whole(str(path), (json.dumps(value, indent=1) + "\n").encode())


def write_results(output: Path, name: str, document: object, text: str) -> None:
    """`document` as NAME.json and `text` as NAME.md, which is printed too."""
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / f"{name}.json", document)
    (output / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def save_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays by name so that the file is either the old or the new one."""
    buffer = io.BytesIO()
    cast(Any, np.savez)(buffer, **arrays)  # numpy's stubs take the names for its own
    write_whole(str(path), buffer.getvalue())


def _source_commit() -> str:
    """The commit of the code, "+changes" if it was edited, "unknown" outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + changes
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
