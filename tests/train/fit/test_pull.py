"""A run that is pulled back lies where it is said to lie, and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from tests.conftest import workbench
from train.fit.pull import pull
from train.run.finished import open_run


@pytest.fixture(scope="module")
def mobile_run(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke run's films with a MobileNetV2 as it is drawn: training is not the subject."""
    folder = tmp_path_factory.mktemp("mobile") / "run"
    shutil.copytree(smoke_run, folder)
    told = json.loads((folder / "run.json").read_text())
    told["recipe"]["network"] |= {"backbone": "mobilenetv2", "alpha": 0.35}
    (folder / "run.json").write_text(json.dumps(told))
    recipe = open_run(folder).recipe
    from train.network.build import build_network

    build_network(recipe, None).save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def pretrained(mobile_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    recipe = open_run(mobile_run).recipe
    shape = (recipe.input.height, recipe.input.width, 3)
    network = keras.applications.MobileNetV2(
        shape, alpha=recipe.network.alpha, include_top=False, weights=None
    )
    file = tmp_path_factory.mktemp("weights") / "pretrained.weights.h5"
    network.save_weights(file)
    return file


def _weights(run: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of the backbone, and of the head."""
    import keras

    from train.network.build import backbone_of

    model = keras.saving.load_model(run / "model.keras", compile=False)
    own = backbone_of(model).get_weights()
    return own, model.get_weights()[len(own) :]


def test_the_backbone_goes_back_and_the_head_stays(
    mobile_run: Path, pretrained: Path, tmp_path: Path
) -> None:
    done = workbench(
        "train", "pull", mobile_run, "--towards", pretrained, "--share", "0.25",
        "--output", tmp_path / "pulled",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = pull(mobile_run, pretrained, 1.0, [], tmp_path / "all")
    assert before != after  # random features rank otherwise
    own, head = _weights(mobile_run)
    theirs, _ = _weights(tmp_path / "all")
    pulled, pulled_head = _weights(tmp_path / "pulled")
    assert any(not np.allclose(a, b) for a, b in zip(own, theirs, strict=True))
    for a, b, c in zip(own, theirs, pulled, strict=True):
        np.testing.assert_allclose(c, 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-6)
    for a, c in zip(head, pulled_head, strict=True):
        np.testing.assert_array_equal(a, c)
    told = json.loads((tmp_path / "pulled" / "run.json").read_text())["outcome"]
    assert told["pulled"]["share"] == 0.25 and len(told["pulled"]["sha256"]) == 64
    assert told["pulled"]["outcome"] == open_run(mobile_run).description["outcome"]
    assert f"{before[0]:.4f}" in done.stdout  # of the logits that are kept


def test_nothing_changes_at_0(mobile_run: Path, pretrained: Path, tmp_path: Path) -> None:
    pull(mobile_run, pretrained, 0.0, [], tmp_path / "same")
    for part, same in zip(_weights(mobile_run), _weights(tmp_path / "same"), strict=True):
        for a, b in zip(part, same, strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_cannot_be_pulled_is_named(mobile_run: Path, pretrained: Path, tmp_path: Path) -> None:
    for share in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(InvalidValueError, match="--share must be from 0 to 1"):
            pull(mobile_run, pretrained, share, [], tmp_path / "x")
    with pytest.raises(InvalidValueError, match="no such file"):
        pull(mobile_run, tmp_path / "nothing.h5", 0.5, [], tmp_path / "x")
    other = tmp_path / "other.weights.h5"
    other.write_bytes(b"no weights")
    with pytest.raises(InvalidValueError, match="holds no weights of mobilenetv2"):
        pull(mobile_run, other, 0.5, [], tmp_path / "x")
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidValueError, match="there already"):
        pull(mobile_run, pretrained, 0.5, [], tmp_path / "there")
    assert not (tmp_path / "x").exists()
