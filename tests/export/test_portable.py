"""The portable C sources against the runtime that they copy: bytes, flags, scores, decisions."""

from __future__ import annotations

import dataclasses
import math
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.images.grey import read_grey
from edge_runtime.images.phantom import draw_film, draw_phantom
from edge_runtime.images.preprocess import InputSpec, least_size, prepare_pixels
from edge_runtime.images.readers.facts import ImageFacts
from edge_runtime.images.readers.raster import table_to_8_bits
from export.c_array import write_c_array
from tests.conftest import ROOT

HERE = Path(__file__).parent / "portable"
DATA = ROOT.parent / "shared" / "data"
DECISIONS = ("normal", "uncertain", "pneumonia")
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
# Compiler, what runs its programs, and further options.
BUILDS = {
    "here": ("gcc", (), ()),
    "sanitized": ("gcc", (), ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")),
    "fast mathematics": ("gcc", (), ("-O3", "-ffast-math", "-march=native")),
    "aarch64": (
        "aarch64-linux-gnu-gcc", ("qemu-aarch64-static", "-cpu", "cortex-a53"), ("-static",),
    ),
    "armv7": ("arm-linux-gnueabihf-gcc", ("qemu-arm-static", "-cpu", "cortex-a7"), ("-static",)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Program:
    """The sources with a bundle's parameters, built in one way."""

    screener: Screener
    command: tuple[str, ...]

    def run(self, cases: bytes) -> bytes:
        done = subprocess.run(self.command, input=cases, capture_output=True, check=False)
        assert done.returncode == 0, (done.returncode, done.stderr.decode()[-2000:])
        return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    write_c_array(load_bundle("default").folder, folder)
    return folder


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, sources: Path) -> Program:
    compiler, runner, options = BUILDS[request.param]
    for needed in (compiler, *runner[:1]):
        if shutil.which(needed) is None:
            pytest.skip(f"no {needed} here")
    built = sources / request.param.replace(" ", "-")
    subprocess.run(
        [compiler, *STRICT, *options, "-I", sources, "-o", built, HERE / "cases.c",
         sources / "cxr_edge.c", sources / "parameters.c", "-lm"],
        check=True,
    )  # fmt: skip
    return Program(Screener.load(engine="litert", force=True), (*runner, str(built)))


def is_slow(program: Program) -> bool:
    return len(program.command) > 1 or "sanitized" in program.command[0]


def sizes(count: int, seed: int) -> Iterator[tuple[int, int, int, int]]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = (int(math.exp(rng.uniform(0, math.log(1500)))) for _ in "yx")
        if i % 3 == 0:  # where halves are exact
            height, width = (int(v) for v in rng.choice([32, 64, 96, 128, 224, 256, 448, 896], 2))
        to = (int(rng.choice([96, 128, 160, 224])),) * 2
        yield (height, width, *(to if i % 5 else map(int, rng.integers(32, 300, 2))))


def check_resized(program: Program, images: Iterable[tuple[NDArray[np.uint8], int, int]]) -> None:
    images = list(images)
    cases = b"".join(
        b"R" + struct.pack("<4i", *pixels.shape, *to) + pixels.tobytes() for pixels, *to in images
    )
    given = program.run(cases)
    at = 0
    for pixels, height, width in images:
        found = np.frombuffer(given, np.uint8, height * width, at).reshape(height, width)
        at += height * width
        expected = prepare_pixels(pixels, InputSpec(height, width))[:, :, 0]
        assert np.array_equal(found, expected), (pixels.shape, height, width)
    assert at == len(given)


def test_every_size_is_resized_as_pillow_does(program: Program) -> None:
    count = 150 if is_slow(program) else 5000
    rng = np.random.default_rng(1)
    for start in range(0, count, 500):
        check_resized(
            program,
            (
                (rng.integers(0, 256, (h, w), np.uint8), th, tw)
                for h, w, th, tw in sizes(min(500, count), start)
            ),
        )
    large = [(3000, 2500), (1, 5000), (5000, 1), (2, 2), (65535, 2)]
    check_resized(program, ((rng.integers(0, 256, s, np.uint8), 224, 224) for s in large))


def test_golden_files_become_the_same_tensors(program: Program) -> None:
    spec = InputSpec(224, 224)
    decoded = []
    for file in sorted((ROOT / "tests/data/golden").iterdir()):
        if file.suffix in (".jpeg", ".png", ".bmp", ".webp"):
            grey, _ = read_grey(file.read_bytes(), least_size(spec))
            decoded.append((np.asarray(grey), spec.height, spec.width))
    assert len(decoded) >= 8
    check_resized(program, decoded)


def test_more_than_eight_bits_are_scaled_as_files_are(program: Program) -> None:
    largest = [255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 65535]
    given = program.run(b"".join(b"D" + struct.pack("<i", value) for value in largest))
    for i, value in enumerate(largest):
        found = np.frombuffer(given, np.uint8, 65536, i * 65536)[: value + 1]
        assert np.array_equal(found, table_to_8_bits(0, value)[: value + 1]), value


def films() -> Iterator[NDArray[np.uint8]]:
    """Drawings, as they are and spoilt in every way that the gate knows."""
    rng = np.random.default_rng(5)
    for seed in range(12):
        film = draw_film(seed, seed / 12) if seed % 2 else draw_phantom(seed, seed % 4 == 0)
        yield film
        yield 255 - film
        yield np.rot90(film, 1 + seed % 3).copy()
        yield film[:, ::-1].copy()
        yield np.asarray(Image.fromarray(film).resize((40, 40)).resize((400, 300)))
        cut = film.copy()
        cut[:, : film.shape[1] // 2] = 0
        yield cut
    yield rng.integers(0, 256, (400, 400), np.uint8)
    yield np.full((300, 300), 128, np.uint8)
    yield np.zeros((300, 900), np.uint8)
    yield rng.integers(0, 256, (60, 60), np.uint8)


def check_judged(program: Program, images: Iterable[tuple[NDArray[np.uint8], ImageFacts]]) -> int:
    """Flags, acceptance, distance, probability and decisions; the number that was judged."""
    screener, manifest = program.screener, program.screener.bundle.manifest
    gate = manifest.quality
    assert gate is not None
    cases, expected = [], []
    groups = [manifest.operating_points, *(p.operating_points for p in manifest.populations)]
    for pixels, facts in images:
        tensor = prepare_pixels(pixels, manifest.input)
        outputs = screener.run(tensor)
        quality = gate.judge(facts, tensor, outputs.features)
        probability = screener.label_probabilities(screener.logits(outputs))["pneumonia"]
        expected.append((quality, probability))
        head = struct.pack("<2id", facts.height, facts.width, facts.chroma)
        arrays = (tensor, outputs.features.astype("<f4"), outputs.evidence_map.astype("<f4"))
        cases.append(b"J" + head + b"".join(array.tobytes() for array in arrays))
    given = program.run(b"".join(cases))
    layout = struct.Struct(f"<2i2d{len(groups) * len(groups[0])}i")
    assert len(given) == layout.size * len(cases)
    names = ["too_small", "extreme_aspect", "colour", "low_contrast", "saturated", "inverted",
             "not_chest_like", "rotated", "mirrored", "incomplete", "degraded",
             "out_of_distribution"]  # fmt: skip
    for i, (quality, probability) in enumerate(expected):
        flags, accepted, distance, found, *decided = layout.unpack_from(given, i * layout.size)
        told = {name for bit, name in enumerate(names) if flags & (1 << bit)}
        assert told == set(quality.flags), (i, told, quality)
        assert bool(accepted) == quality.accepted
        assert quality.ood_score is not None
        assert distance == pytest.approx(quality.ood_score, abs=6e-5)
        assert found == pytest.approx(probability, abs=1e-9)
        points = [point for group in groups for point in group]
        assert [DECISIONS[d] for d in decided] == [p.decide(probability) for p in points]
    return len(cases)


def test_the_gate_and_the_decision_are_the_runtimes(program: Program) -> None:
    drawn = list(films())
    if is_slow(program):
        drawn = drawn[::4] + drawn[-4:]
    assert check_judged(program, ((f, ImageFacts(*f.shape)) for f in drawn)) == len(drawn)
    colour = [(draw_film(3), ImageFacts(400, 400, chroma)) for chroma in (5.0, 60.0)]
    check_judged(program, colour)


def test_real_films_are_judged_alike(program: Program) -> None:
    files = sorted((DATA / "chest_xray" / "test").glob("*/*.jpeg"))
    if not files:
        pytest.skip("the real data are not here (chest_xray)")
    if is_slow(program):
        files = files[::20]

    def read() -> Iterator[tuple[NDArray[np.uint8], ImageFacts]]:
        for file in files:
            grey, facts = read_grey(
                file.read_bytes(), least_size(program.screener.bundle.manifest.input)
            )
            yield np.asarray(grey), facts

    assert check_judged(program, read()) == len(files)
