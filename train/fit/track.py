"""Following a run in tools that people know: TensorBoard, and MLflow's store of files; no server.

    tensorboard --logdir runs                      reads RUN/tensorboard
    MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri file:runs/mlruns

What they show is copied from history.json, which stays the record; a run that goes on after an
interruption goes on in both.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from train.recipe import Recipe

TOOLS = ("tensorboard", "mlflow")
_EXPERIMENT = "cxr-edge"
_FOLDER_TAG = "cxr-edge.run"
_NO_NAME = r"[^\w\-. :/]"  # what MLflow takes in no name
_LONGEST = 500  # of a value that MLflow keeps


class Tracker(Protocol):
    """Is told of every epoch as history.json has it."""

    def epoch(self, entry: Mapping[str, Any]) -> None: ...

    def close(self, is_finished: bool) -> None: ...


@contextlib.contextmanager
def tracked(
    tools: Sequence[str], folder: Path, recipe: Recipe, history: Sequence[Mapping[str, Any]]
) -> Iterator[list[Tracker]]:
    """The trackers of a run, closed in the end whatever happens.

    Args:
        tools: Of TOOLS.
        folder: The run's.
        recipe: Whose settings are shown.
        history: Epochs that were done before; tools that lack them are told.

    Raises:
        InvalidValueError: An unknown tool, or one that is not installed.
    """
    trackers = [_open(tool, folder, recipe, len(history)) for tool in dict.fromkeys(tools)]
    is_finished = False
    try:
        yield trackers
        is_finished = True
    finally:
        for tracker in trackers:
            tracker.close(is_finished)


def check_tools(tools: Sequence[str]) -> None:
    """Raise InvalidValueError unless all are known and installed."""
    import importlib.util

    for tool in tools:
        if tool not in TOOLS:
            raise InvalidValueError(f"--track takes {' or '.join(TOOLS)}, got {tool!r}")
        if importlib.util.find_spec(tool) is None:
            package = "mlflow-skinny" if tool == "mlflow" else tool
            raise InvalidValueError(
                f"--track {tool}: it is not installed; python -m pip install {package}"
            )


def _open(tool: str, folder: Path, recipe: Recipe, done: int) -> Tracker:
    check_tools([tool])
    return _TensorBoard(folder, recipe) if tool == "tensorboard" else _MLflow(folder, recipe, done)


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in entry.items() if isinstance(v, (int, float)) and k != "epoch"}


def _settings(recipe: Recipe) -> dict[str, str]:
    """Of the recipe, by their names as --set takes them."""
    found: dict[str, str] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        else:
            found[name] = str(value)[:_LONGEST]

    walk({k: v for k, v in to_mapping(recipe).items() if k != "about"}, "")
    return found


class _TensorBoard:
    def __init__(self, folder: Path, recipe: Recipe) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        lines = [f"| {name} | {value} |" for name, value in _settings(recipe).items()]
        with self._writer.as_default():
            tf.summary.text("recipe", "\n".join(["| setting | value |", "|---|---|", *lines]), 0)

    def epoch(self, entry: Mapping[str, Any]) -> None:
        with self._writer.as_default():
            for name, value in _numbers(entry).items():
                self._summary.scalar(name, value, int(entry["epoch"]))
        self._writer.flush()

    def close(self, is_finished: bool) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, folder: Path, recipe: Recipe, done: int) -> None:
        # Its file store asks to be asked for; nothing is to be sent anywhere.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow.tracking import MlflowClient

        place = folder.resolve()
        self._client = MlflowClient(tracking_uri=(place.parent / "mlruns").as_uri())
        known = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(_EXPERIMENT)
        same = f"tags.`{_FOLDER_TAG}` = '{place.name}'"
        before = self._client.search_runs([experiment], same, max_results=1) if done else []
        if before:
            self._run = before[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {_FOLDER_TAG: place.name}
        self._run = self._client.create_run(experiment, tags=tags, run_name=place.name).info.run_id
        for name, value in _settings(recipe).items():
            self._client.log_param(self._run, re.sub(_NO_NAME, "_", name), value)

    def epoch(self, entry: Mapping[str, Any]) -> None:
        for name, value in _numbers(entry).items():
            self._client.log_metric(self._run, name, value, step=int(entry["epoch"]))

    def close(self, is_finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if is_finished else "KILLED")
