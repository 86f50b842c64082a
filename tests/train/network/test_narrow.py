"""A narrow network from a wide one: what is left out is what mattered least."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from tests.conftest import workbench
from train.network.build import backbone_of, build_network
from train.recipe import Network, Recipe

keras = pytest.importorskip("keras")


def recipe(alpha: float, side: int = 64, **settings: object) -> Recipe:
    network = dataclasses.replace(Network(alpha=alpha), **settings)  # type: ignore[arg-type]
    return Recipe("test", "test", input=InputSpec(side, side), network=network)


def silence(wide: keras.Model, narrow: keras.Model) -> None:
    """Give every channel of `wide` random scales; make as many constant 0 as `narrow` lacks."""
    random = np.random.default_rng(0)
    layers = {layer.name: layer for layer in backbone_of(wide).layers}
    sizes = {
        layer.name: layer.get_weights()[0].shape[0]
        for layer in backbone_of(narrow).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    stream = np.array([], int)
    for name, layer in layers.items():
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        gamma, beta, mean, variance = layer.get_weights()
        gamma[:] = random.uniform(2, 4, len(gamma))
        beta[:] = random.uniform(-1, 1, len(beta))
        quiet = random.permutation(len(gamma))[sizes[name] :]
        if name.endswith("project_BN"):
            # Blocks that add to a stream are silent where the stream is.
            stream = stream if name.replace("project_BN", "add") in layers else quiet
            quiet = stream
        if name.endswith(("project_BN", "depthwise_BN")):
            gamma[quiet] = beta[quiet] = 0
        layer.set_weights([gamma, beta, mean, variance])


def test_channels_that_say_nothing_are_the_ones_left_out() -> None:
    from train.network.narrow import narrow

    keras.utils.set_random_seed(5)
    wide, model = build_network(recipe(0.75), None), build_network(recipe(0.35), None)
    silence(wide, model)
    images = np.random.default_rng(1).uniform(0, 255, (4, 64, 64, 1)).astype(np.float32)
    expected = wide.predict(images, verbose=0)
    assert np.ptp(expected) > 1e-3
    assert np.abs(model.predict(images, verbose=0) - expected).max() > 1e-3
    narrow(wide, model)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


def test_a_model_of_the_same_width_and_another_size_is_a_copy() -> None:
    from train.network.narrow import narrow

    wide, model = build_network(recipe(0.35), None), build_network(recipe(0.35, 96), None)
    narrow(wide, model)
    for ours, theirs in zip(model.get_weights(), wide.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("wide", "model"),
    [
        (recipe(0.35), recipe(0.5)),
        (recipe(0.5), recipe(0.35, head="dense")),
        (recipe(1.0, backbone="plain-cnn"), recipe(0.35)),
        (recipe(1.0, backbone="mobilenetv3-small"), recipe(0.35)),
        (recipe(0.5), recipe(1.0, backbone="sequential-cnn")),
    ],
)
def test_what_does_not_fit_is_refused(wide: Recipe, model: Recipe) -> None:
    from train.network.narrow import narrow

    with pytest.raises(InvalidValueError, match="cannot be narrowed"):
        narrow(build_network(wide, None), build_network(model, None))


def test_training_begins_with_a_finished_run(smoke_run: Path, tmp_path: Path) -> None:
    quick = ("--set", "optimisation.epochs=1", "--set", "optimisation.learning_rate=1e-6")
    command = ("train", "fit", "--recipe", "smoke", *quick, "--output", tmp_path / "run")
    result = workbench(*command, "--weights", smoke_run)
    assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["weights"]["source"] == smoke_run.name and len(run["weights"]["sha256"]) == 64
    before = keras.models.load_model(smoke_run / "model.keras", compile=False).get_weights()[0]
    after = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False).get_weights()
    np.testing.assert_allclose(after[0], before, atol=1e-3)


def test_a_run_that_learned_from_our_validation_is_no_start(
    smoke_run: Path, tmp_path: Path
) -> None:
    command = ("train", "fit", "--recipe", "smoke", "--seed", 9, "--output", tmp_path / "run")
    result = workbench(*command, "--weights", smoke_run)
    assert result.returncode == 2 and "of this run's validation" in result.stderr
