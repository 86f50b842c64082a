"""The overlay colours what argues for pneumonia above what normal images show too."""

from __future__ import annotations

import dataclasses

import numpy as np

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.records.heatmap import heat_layer, overlay

PIXELS = draw_phantom(1, True, 64, 64)[:, :, np.newaxis]


def coloured(floor: float) -> np.ndarray:
    evidence = np.full((4, 4), -3.0, np.float32)
    evidence[1, 1], evidence[2, 3] = 9.0, 4.0
    picture = np.asarray(overlay(PIXELS, evidence, 1, floor)).astype(int)
    return np.asarray(np.ptp(picture, axis=2) > 0)


def test_only_what_is_above_the_floor_is_coloured() -> None:
    assert coloured(0.0)[40, 56] and coloured(0.0)[24, 24]
    assert not coloured(5.0)[40, 56] and coloured(5.0)[24, 24]
    assert not coloured(9.5).any()
    layer = np.asarray(heat_layer((64, 64), np.full((4, 4), 4.0, np.float32), 5.0))
    assert not layer[:, :, 3].any()


def test_an_examination_knows_the_floor_of_its_bundle() -> None:
    bundle = load_bundle()
    manifest = dataclasses.replace(bundle.manifest, evidence_floor=3.5)
    screener = Screener.load(force=True)
    other = Screener(
        dataclasses.replace(bundle, manifest=manifest), screener._pool, screener.operating_point
    )
    assert other.examine(PIXELS[:, :, 0]).evidence_floor == 3.5
