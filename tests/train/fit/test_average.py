"""The mean of runs that began alike, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from tests.conftest import workbench
from train.fit.average import average
from train.run.finished import open_run


@pytest.fixture(scope="module")
def seeds(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (1, 2):
        done = workbench(
            "train", "fit", "--recipe", "smoke", "--weights", smoke_run, "--seed", seed,
            "--set", "data.split_seed=1", "--set", "optimisation.epochs=2",
            "--output", folder / str(seed),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return [folder / "1", folder / "2"]


def test_the_mean_is_a_run_of_its_own(seeds: list[Path], tmp_path: Path) -> None:
    import keras

    figures = average(seeds, [], tmp_path / "mean")
    found = open_run(tmp_path / "mean")
    assert list(figures) == [*map(str, seeds), "mean"]
    assert figures["mean"][0] > 0.9
    loaded = [keras.saving.load_model(r / "model.keras") for r in (*seeds, found.folder)]
    one, two, mean = (model.get_weights() for model in loaded)
    for a, b, m in zip(one, two, mean, strict=True):
        np.testing.assert_allclose(m, (a + b) / 2, rtol=1e-6, atol=1e-7)
    told = json.loads((tmp_path / "mean" / "run.json").read_text())["outcome"]
    assert [r["seed"] for r in told["runs"]] == [1, 2] and told["epochs"] == 4
    with pytest.raises(InvalidValueError, match="there already"):
        average(seeds, [], tmp_path / "mean")


def test_runs_that_have_no_mean_are_refused(
    seeds: list[Path], smoke_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValueError, match="two or more"):
        average(seeds[:1], [], tmp_path / "mean")
    with pytest.raises(InvalidValueError, match="another data, optimisation"):
        average([seeds[0], smoke_run], [], tmp_path / "mean")
    run = json.loads((seeds[1] / "run.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    for file in seeds[1].iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    (other / "run.json").write_text(json.dumps(run | {"weights": {"source": "none"}}))
    with pytest.raises(InvalidValueError, match="began with other weights"):
        average([seeds[0], other], [], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
