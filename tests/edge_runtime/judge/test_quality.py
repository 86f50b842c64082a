"""The quality gate: what is refused, why, and that nothing refused gets a score unasked."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.readers.facts import ImageFacts
from edge_runtime.judge.quality import Flag
from tests.conftest import Run


@pytest.fixture(scope="module")
def screener(bundle: Path) -> Screener:
    return Screener.load(bundle)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def colourful() -> np.ndarray:
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, 300)
    pixels[..., 2] = np.linspace(255, 0, 300)[:, None]
    return pixels


CASES = {
    Flag.COLOUR: colourful(),
    Flag.LOW_CONTRAST: np.full((300, 300), 120, np.uint8),
    Flag.SATURATED: np.where(np.indices((300, 300)).sum(axis=0) % 60 < 30, 0, 255).astype(np.uint8),
    Flag.TOO_SMALL: draw_phantom(1, True, 60, 70),
    Flag.EXTREME_ASPECT: draw_phantom(1, True, 200, 900),
    Flag.INVERTED: 255 - draw_phantom(1, False),
}


@pytest.mark.parametrize("flag", CASES)
def test_each_flag_is_raised_and_its_image_refused(screener: Screener, flag: Flag) -> None:
    record = screener.screen(png(CASES[flag]))
    assert flag.value in record.quality.flags
    assert (record.status, record.quality.accepted) == ("rejected", False)
    assert record.probability is record.decision is record.error is None


def test_noise_is_refused(screener: Screener) -> None:
    """By its distance or by name: the nearer one depends on the model's features."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8)
    quality = screener.screen(png(noise)).quality
    assert not quality.accepted
    assert {Flag.OUT_OF_DISTRIBUTION.value, Flag.DEGRADED.value} & set(quality.flags)


def test_force_screens_anyway_and_says_so(bundle: Path, screener: Screener) -> None:
    content = png(CASES[Flag.INVERTED])
    refused, forced = screener.screen(content), Screener.load(bundle, force=True).screen(content)
    assert refused.quality == forced.quality and not forced.quality.accepted
    assert refused.status == "rejected" and forced.status == "ok"
    assert forced.probability is not None and forced.decision is not None


@pytest.mark.parametrize(
    ("facts", "flags"),
    [
        (ImageFacts(1000, 1000, modality="CT"), ["wrong_modality"]),
        (ImageFacts(1000, 1000, view="LEFT LATERAL"), ["wrong_view"]),
        *(
            (ImageFacts(1000, 1000, body_part=part), ["wrong_body_part"])
            for part in ("HAND", "SKULL", "ABDOMEN")
        ),
        *(
            (ImageFacts(1000, 1000, body_part=part), [])
            for part in ("CHEST", "PORT CHEST", "THORAX AP", "", None)
        ),
        (ImageFacts(1000, 1000, modality="DX", view="LL"), ["wrong_view"]),
        (ImageFacts(1000, 1000, modality="CR", view="AP"), []),
        (ImageFacts(1000, 1000), []),
    ],
)
def test_what_dicom_tells_is_used(screener: Screener, facts: ImageFacts, flags: list[str]) -> None:
    gate = screener.bundle.manifest.quality
    assert gate is not None
    # Pixels and features from the middle of the training distribution.
    template = np.array(gate.template).reshape(16, 16)
    scaled = np.clip(128 + template / template.std() * 50, 1, 254).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(scaled).resize((224, 224)))[:, :, None]
    mean = np.frombuffer(__import__("base64").b64decode(gate.features.mean_base64), "<f4")
    quality = gate.judge(facts, pixels, mean)
    assert list(quality.flags) == flags and quality.accepted is not bool(flags)


def test_a_little_out_is_a_warning_and_far_out_a_refusal(screener: Screener) -> None:
    gate = screener.bundle.manifest.quality
    assert gate is not None and gate.features.refuse_above > 1
    spec = screener.bundle.manifest.input
    features = screener.run(np.zeros((spec.height, spec.width, 1), np.uint8)).features
    raw = gate.features.raw_score(features)
    facts = ImageFacts(1000, 1000)
    pixels = np.zeros((224, 224, 1), np.uint8)
    for ratio, flagged, refused in ((0.9, False, False), (1.2, True, False), (9.0, True, True)):
        space = dataclasses.replace(gate.features, limit=raw / ratio)
        # The distance alone: these features are a black picture's, whom others refuse too.
        relaxed = dataclasses.replace(
            gate, features=space, min_contrast=-1, max_saturated=2, min_correlation=0, oddities=None
        )
        quality = relaxed.judge(facts, pixels, features)
        assert (Flag.OUT_OF_DISTRIBUTION.value in quality.flags) is flagged
        assert quality.accepted is not refused
        assert quality.ood_score == pytest.approx(ratio, abs=1e-3)


def test_gate_parameters_that_do_not_fit_are_refused(screener: Screener) -> None:
    gate = screener.bundle.manifest.quality
    assert gate is not None
    channels = screener.bundle.manifest.outputs.features
    gate.check(channels)
    with pytest.raises(InvalidValueError, match=f"{channels - 1} channels"):
        gate.check(channels - 1)
    with pytest.raises(InvalidValueError, match="template"):
        dataclasses.replace(gate, template=(1.0,)).check(channels)
    broken = dataclasses.replace(gate.features, components_base64="AAA")
    with pytest.raises(InvalidValueError, match=r"^features: "):
        dataclasses.replace(gate, features=broken).check(channels)


def test_a_refused_image_in_a_batch_is_exit_1(cxr_edge: Run, tmp_path: Path) -> None:
    for flag in (Flag.COLOUR, Flag.INVERTED):
        (tmp_path / f"{flag}.png").write_bytes(png(CASES[flag]))
    result = cxr_edge("screen", tmp_path, "--format", "jsonl")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1 and len(records) == 2
    assert {r["status"] for r in records} == {"rejected"}
    assert "2 refused" in result.stderr


@pytest.mark.parametrize(
    ("age", "flagged"), [(0.5, True), (1.0, False), (5.9, False), (6.0, True), (40, True)]
)
def test_an_age_outside_the_intended_use_is_flagged(
    bundle: Path, age: float, flagged: bool
) -> None:
    gate = load_bundle(bundle).manifest.quality
    assert gate is not None
    gate = dataclasses.replace(gate, age_years=(1.0, 6.0))
    flags = gate._told_by_dicom(ImageFacts(1000, 1000, age_years=age))
    assert (Flag.WRONG_AGE in flags) == flagged
    assert gate._told_by_dicom(ImageFacts(1000, 1000)) == [], "no age told, none held against it"
