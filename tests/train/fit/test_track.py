"""Following a run in TensorBoard and MLflow, and folds: what they show is what the run has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.errors import InvalidValueError
from tests.conftest import workbench
from train.data.dataset import Sample, split_by_fold
from train.fit import track
from train.run.finished import open_run

SMALL = (
    "train", "fit", "--recipe", "smoke", "--weights", "none",
    "--set", "data.phantom_count=80", "--set", 'data.findings={"a finding, odd" = "x"}',
    "--set", "input.height=48", "--set", "input.width=48",
)  # fmt: skip


def test_both_tools_show_the_history_and_go_on_after_a_stop(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    command = (*SMALL, "--track", "tensorboard", "--track", "mlflow", "--output", run)
    done = workbench(*command, "--set", "optimisation.epochs=2")
    assert done.returncode == 0, done.stderr
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    again = workbench(*command, "--set", "optimisation.epochs=2")
    assert again.returncode == 0, again.stderr
    experiments = [f for f in (tmp_path / "runs" / "mlruns").iterdir() if f.name.isdigit()]
    (kept,) = [f for e in experiments for f in e.iterdir() if (f / "metrics").is_dir()]
    lines = (kept / "metrics" / "validation_auc").read_text(encoding="utf-8").split("\n")
    shown = [float(line.split()[1]) for line in lines if line]
    assert shown == pytest.approx([entry["validation_auc"] for entry in history])
    assert (kept / "params" / "optimisation.epochs").read_text(encoding="utf-8") == "2"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"loss", "validation_auc", "corrupted_auc"} <= tags


def test_an_unknown_tool_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match="tensorboard or mlflow"):
        track.check_tools(["wandb"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidValueError, match="pip install mlflow-skinny"):
        track.check_tools(["mlflow"])


def test_folds_are_of_patients_and_hold_every_finding() -> None:
    samples = [
        Sample(f"{i}", ("normal", "mass", "effusion")[i // 2 % 3], f"p{i // 2}") for i in range(120)
    ]
    parts = [split_by_fold(samples, fold, 5, seed=3) for fold in range(1, 6)]
    held = [s.path for split in parts for s in split.validation]
    assert sorted(held, key=int) == [s.path for s in samples]  # each film once
    for split in parts:
        assert not {s.patient for s in split.train} & {s.patient for s in split.validation}
        assert {s.kind for s in split.validation} == {"normal", "mass", "effusion"}
    assert parts[0] == split_by_fold(samples, 1, 5, seed=3)
    with pytest.raises(InvalidValueError, match="fold 6 of 5"):
        split_by_fold(samples, 6, 5, seed=3)
    with pytest.raises(InvalidValueError, match="30 folds need"):
        split_by_fold(samples, 1, 30, seed=3)


def test_every_fold_is_a_run_and_the_table_is_of_all(tmp_path: Path) -> None:
    done = workbench(
        *SMALL, "--set", "optimisation.epochs=1", "--folds", 2, "--output", tmp_path / "cv"
    )
    assert done.returncode == 0, done.stderr
    folds = json.loads((tmp_path / "cv" / "folds.json").read_text(encoding="utf-8"))["folds"]
    held = [open_run(tmp_path / "cv" / f["run"]).validation.samples for f in folds]
    assert sum(map(len, held)) == 80 and not {s.path for s in held[0]} & {s.path for s in held[1]}
    assert "standard deviation between folds" in done.stdout
