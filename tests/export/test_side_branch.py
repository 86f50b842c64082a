"""The branch that tells left from right: it learns the side and leaves the network as it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_film
from edge_runtime.images.preprocess import InputSpec, prepare_pixels
from train.network.build import build_network
from train.recipe import load_recipe

keras = pytest.importorskip("keras")
side_branch = pytest.importorskip("export.side_branch")

SPEC = InputSpec(64, 64)
CHANGES = ["input.height=64", "input.width=64", "network.alpha=0.35"]


@pytest.fixture(scope="module")
def films() -> NDArray[np.uint8]:
    """Drawn films with a heart: a disc on the right of the picture, as it is on a film."""
    drawn = []
    y, x = np.mgrid[0:64, 0:64]
    for seed in range(300):
        rng = np.random.default_rng(seed)
        film = prepare_pixels(draw_film(seed % 40, 0.0), SPEC)[:, :, 0].astype(np.float32)
        cx, cy = 40 + rng.uniform(-3, 3), 40 + rng.uniform(-4, 4)
        film = film * 0.6 + 90 * (np.hypot(x - cx, y - cy) < rng.uniform(7, 11))
        film += rng.normal(0, 8, film.shape)
        drawn.append(np.clip(film, 0, 255).astype(np.uint8)[:, :, np.newaxis])
    return np.stack(drawn)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> keras.Model:
    from export.convert.inference_model import load_core

    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("network")
    build_network(load_recipe("default", CHANGES), None).save(folder / "model.keras")
    return load_core(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_branch, "_VERSIONS", 1)
    monkeypatch.setattr(side_branch, "_EPOCHS", 15)
    monkeypatch.setattr(side_branch, "FEWEST_FILMS", 200)


def outputs(model: keras.Model, films: NDArray[np.uint8]) -> tuple[np.ndarray, np.ndarray]:
    from export.convert.inference_model import normalise

    found = model(normalise(films), training=False)
    return np.asarray(found["map"]), np.asarray(found["features"])


def test_it_tells_a_mirrored_film_and_changes_nothing_else(
    core: keras.Model, films: NDArray[np.uint8], quick: None
) -> None:
    learned, asked = films[:200], films[200:]
    model = side_branch.with_side(core, learned)
    before_map, before = outputs(core, asked)
    after_map, after = outputs(model, asked)
    np.testing.assert_array_equal(after_map, before_map)
    np.testing.assert_array_equal(after[:, : -side_branch.UNITS], before)
    # A linear classifier of the units: fitted on films that the branch learned, asked of others.
    units = [outputs(model, each)[1][:, -side_branch.UNITS :] for each in
             (learned, learned[:, :, ::-1], asked, asked[:, :, ::-1])]  # fmt: skip
    known = np.concatenate(units[:2])
    weights = np.linalg.lstsq(
        np.c_[known, np.ones(len(known))], np.repeat([-1.0, 1.0], len(learned)), rcond=None
    )[0]
    right, mirrored = (np.c_[each, np.ones(len(each))] @ weights for each in units[2:])
    assert (right < 0).mean() > 0.95
    assert (mirrored > 0).mean() > 0.95
    # They share a tensor: the units' range is within that of the pooled features.
    assert 0 < known.max() <= outputs(core, learned)[1].max()


def test_it_is_the_same_each_time(
    core: keras.Model, films: NDArray[np.uint8], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_branch, "_EPOCHS", 2)
    one, other = (side_branch.with_side(core, films[:200]).get_weights() for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def test_few_films_and_other_networks_have_none(
    core: keras.Model, films: NDArray[np.uint8]
) -> None:
    assert side_branch.can_have_side(core)
    with pytest.raises(InvalidValueError, match="too few"):
        side_branch.with_side(core, films[:100])
    inputs = keras.Input((64, 64, 1))
    assert not side_branch.can_have_side(keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs)))
