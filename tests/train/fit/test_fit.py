"""Training: a run folder with everything, and no epoch lost to an interruption."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from tests.conftest import ROOT, workbench
from train.run.finished import open_run
from train.run.folder import RunFolder

FIT = ("train", "fit", "--recipe", "smoke", "--weights", "none", "--output")


def test_a_run_folder_holds_what_repeats_it(smoke_run: Path) -> None:
    run = json.loads((smoke_run / "run.json").read_text(encoding="utf-8"))
    assert run["recipe"]["name"] == "smoke" and run["recipe"]["seed"] == 1
    assert len(run["data"]["fingerprint"]) == 64
    assert {"python", "keras", "numpy"} <= set(run["versions"])
    assert run["source_commit"] and run["weights"] == {"source": "none"}
    assert run["outcome"]["chosen"] in run["outcome"]["candidates"]
    history = json.loads((smoke_run / "history.json").read_text(encoding="utf-8"))
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert history[-1]["validation_auc"] > 0.9
    for name in ("model.keras", "splits.json", "validation.csv", "curves.png"):
        assert (smoke_run / name).stat().st_size > 0


def test_a_killed_run_goes_on_without_losing_an_epoch(smoke_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", *FIT, str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    history = folder / "history.json"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if history.exists() and len(json.loads(history.read_text(encoding="utf-8"))) >= 2:
            break
        time.sleep(0.05)
    assert process.poll() is None, "finished before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = json.loads(history.read_text(encoding="utf-8"))
    assert 2 <= len(before) < 8

    result = workbench(*FIT, folder)
    assert result.returncode == 0, result.stderr
    assert f"after epoch {len(before)} of 8" in result.stderr + result.stdout
    after = json.loads(history.read_text(encoding="utf-8"))
    assert after[: len(before)] == before
    assert [entry["epoch"] for entry in after] == list(range(1, 9))
    # The same as if it had never been killed, up to the order of float sums in threads.
    whole = json.loads((smoke_run / "history.json").read_text(encoding="utf-8"))
    losses = [[entry["loss"] for entry in h] for h in (after, whole)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)

    again = workbench(*FIT, folder)
    assert again.returncode == 0, "a finished run is finished, not trained again"
    assert json.loads(history.read_text(encoding="utf-8")) == after


def test_a_folder_with_another_run_is_refused(smoke_run: Path) -> None:
    result = workbench(*FIT, smoke_run, "--seed", "2")
    assert result.returncode == 2 and "another recipe" in result.stderr


def test_a_finished_run_without_its_state_is_not_trained_over(
    smoke_run: Path, tmp_path: Path
) -> None:
    """Runs that are kept, pulled back or averaged have none."""
    folder = tmp_path / "kept"
    shutil.copytree(smoke_run, folder)
    (folder / "state.npz").unlink()
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with pytest.raises(InvalidValueError, match="without the state"):
        RunFolder(folder).check_free_for(open_run(folder).recipe, told["weights"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "nonesuch"], "no recipe"),
        (["--recipe", "default"], "needs --data"),
        (["--recipe", "smoke", "--weights", "/nowhere.h5"], "/nowhere.h5"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = workbench("train", "fit", *arguments, "--output", tmp_path / "run")
    assert result.returncode == 2 and said in result.stderr


def test_recipes_are_listed() -> None:
    assert "smoke" in workbench("train", "recipes").stdout


def test_early_stopping_counts_epochs_since_the_best() -> None:
    from train.fit.loop import _should_stop
    from train.recipe import Optimisation

    def history(*scores: float) -> list[dict[str, object]]:
        return [
            {"epoch": i + 1, "phase": "all", "validation_score": score}
            for i, score in enumerate(scores)
        ]

    patient = Optimisation(epochs=10, early_stopping=2)
    assert not _should_stop([], patient)
    assert not _should_stop(history(0.9, 0.8), patient)
    assert _should_stop(history(0.9, 0.8, 0.85), patient)
    assert not _should_stop(history(0.9, 0.8, 0.95), patient)
    never = dataclasses.replace(patient, early_stopping=0)
    assert not _should_stop(history(0.9, 0.8, 0.7, 0.6), never)
    # A head that stopped improving does not take the fine-tuning away; alone, it stops.
    head = [entry | {"phase": "head"} for entry in history(0.9, 0.8, 0.85)]
    assert not _should_stop(head, patient)
    assert _should_stop(head, dataclasses.replace(patient, epochs=0))


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    from train.fit.optimise import learning_rates
    from train.recipe import load_recipe

    recipe = load_recipe("default")
    plan = recipe.optimisation
    head = learning_rates(recipe, 0, 100)
    assert set(head) == {plan.head_learning_rate}
    fine = np.concatenate([learning_rates(recipe, 1 + e, 100) for e in range(plan.epochs)])
    assert fine[0] < fine[49] and fine.argmax() == 49
    assert (np.diff(fine[50:]) < 0).all()
    assert fine[-1] == pytest.approx(0.05 * plan.learning_rate, rel=0.01)


SHORT = ("--set", "data.phantom_count=80", "--set", "optimisation.epochs=2", "--set",
         "input.height=64", "--set", "input.width=64")  # fmt: skip


def test_streaming_changes_nothing_but_where_the_images_lie(tmp_path: Path) -> None:
    histories = []
    for name, options in (("memory", []), ("disk", ["--stream"])):
        result = workbench(*FIT, tmp_path / name, *SHORT, *options)
        assert result.returncode == 0, result.stderr
        text = (tmp_path / name / "history.json").read_text(encoding="utf-8")
        histories.append([entry["loss"] for entry in json.loads(text)])
    np.testing.assert_allclose(histories[0], histories[1], rtol=0.02)
    stored = np.load(tmp_path / "disk" / "train-pixels.npy", mmap_mode="r")
    assert stored.shape[1:] == (64, 64, 1) and not list((tmp_path / "memory").glob("*.npy"))


def test_mixed_precision_and_several_devices_leave_a_float32_model(tmp_path: Path) -> None:
    result = workbench(*FIT, tmp_path, *SHORT, "--mixed-precision", "--distribute")
    assert result.returncode == 0, result.stderr
    keras = pytest.importorskip("keras")
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert {str(w.dtype) for w in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    history = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert all(np.isfinite(entry["loss"]) for entry in history)
