"""examples/embed/screen.c: the same answers as the runtime's, and clear ones to what is no film."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.images.phantom import as_jpeg, draw_film
from export.c_array import write_c_array
from tests.conftest import ROOT, onnx_for_programs

EMBED = ROOT / "examples" / "embed"
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the line of docs/embedding.md."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    for header in ("jpeglib.h", "png.h"):
        if not Path("/usr/include", header).exists():
            pytest.skip(f"no {header} here (Debian: apt install libjpeg-dev libpng-dev)")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("screen")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    bundle = Path(load_bundle("default").folder)
    (folder / "model.onnx").symlink_to(onnx_for_programs(bundle, folder))
    write_c_array(bundle, folder / "c")
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    line = next(part for part in text.split("```") if "screen.c" in part and "cc " in part)
    words = line.split("cc ", 1)[1].replace("\\\n", " ").split("\n")[0].split()
    words[words.index("-o") + 1] = str(folder / "screen")
    places = {"-Ic": f"-I{folder}/c", "c/cxr_edge.c": f"{folder}/c/cxr_edge.c",
              "c/parameters.c": f"{folder}/c/parameters.c"}  # fmt: skip
    words = [places.get(word, word) for word in words]
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", f"-L{folder}", *words], check=True, cwd=ROOT
    )
    return folder / "screen"


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    model = program.with_name("model.onnx")
    command = [model if a == "MODEL" else a for a in (program, *arguments)]
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"LD_LIBRARY_PATH": str(program.parent)},
    )  # fmt: skip


def answers(program: Path, files: Sequence[Path], *options: str) -> list[dict[str, Any]]:
    done = run(program, *options, "MODEL", *files)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_equal(program: Path, files: Sequence[Path], screener: Screener, *options: str) -> int:
    judged = 0
    for found, file in zip(answers(program, files, *options), files, strict=True):
        record = screener.screen(file)
        assert found["status"] == record.status, (found, record)
        assert set(found["flags"]) == set(record.quality.flags)
        assert found["ood_score"] == pytest.approx(record.quality.ood_score, abs=2e-4)
        assert found["threshold"] == pytest.approx(record.threshold, abs=1e-6)
        if record.probability is not None:
            assert found["probability"] == pytest.approx(record.probability, abs=1e-6)
            assert found["decision"] == record.decision
            judged += 1
    return judged


def test_films_are_answered_as_the_runtime_answers(program: Path, tmp_path: Path) -> None:
    files = []
    for seed in range(12):
        film = Image.fromarray(draw_film(80 + seed, seed / 12))
        larger = film.resize((film.width * (1 + seed % 3), film.height * (1 + seed % 3)))
        files += [tmp_path / f"{seed}.jpg", tmp_path / f"{seed}.png"]
        larger.save(files[-2], quality=60 + 3 * seed, progressive=seed % 2 == 0)
        if seed % 3 == 0:  # more than 8 bits, as detectors store them
            sixteen = np.asarray(film).astype(np.uint16) * (16 if seed % 2 else 256)
            Image.fromarray(sixteen).save(files[-1])
        else:
            film.convert(("L", "RGB", "P")[seed % 3]).save(files[-1])
    files.append(tmp_path / "colour.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)).save(
        files[-1]
    )
    screener = Screener.load(engine="onnxruntime")
    assert check_equal(program, files, screener) >= 10
    own = Screener.load(engine="onnxruntime", population="children", operating_point="balanced")
    options = ("--point", "balanced", "--population", "children")
    assert check_equal(program, files[:4], own, *options) >= 1


def test_what_is_no_film_is_said_by_name(program: Path, tmp_path: Path) -> None:
    film = as_jpeg(draw_film(80))
    buffer = io.BytesIO()
    Image.fromarray(draw_film(80)).save(buffer, "PNG")
    png = buffer.getvalue()
    huge = bytearray(png)
    huge[16:24] = (60000).to_bytes(4, "big") * 2  # the size in IHDR
    transparent = io.BytesIO()
    Image.new("RGBA", (300, 300)).save(transparent, "PNG")
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_film(80)).save(turned, "JPEG", exif=exif)
    cases = {
        "empty": (b"", "empty_file"),
        "text": (b"hello, world", "unsupported_format"),
        "cut.jpg": (film[:3000], "corrupt_image"),
        "head.jpg": (film[:20], "corrupt_image"),
        "cut.png": (png[:3000], "corrupt_image"),
        "huge.png": (bytes(huge), ""),
        "bits.png": (png[:200] + bytes(50) + png[250:], "corrupt_image"),
        "alpha.png": (transparent.getvalue(), "unsupported_pixels"),
        "turned.jpg": (turned.getvalue(), "unsupported_pixels"),
    }
    for name, (content, _) in cases.items():
        (tmp_path / name).write_bytes(content)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # which nobody writes into
    files = [tmp_path / name for name in cases]
    files += [Path("/dev/zero"), pipe, tmp_path / 'no "such" file', tmp_path]
    found = answers(program, files)
    assert [a["status"] for a in found] == ["error"] * len(files)
    for answer, (_, code) in zip(found, cases.values(), strict=False):
        assert not code or answer["error"]["code"] == code, answer
    assert [answer["error"]["code"] for answer in found[-4:]] == ["unreadable_file"] * 4
    rng = np.random.default_rng(3)
    for i in range(60):  # damage anywhere: an answer each, never a crash
        content = bytearray(film if i % 2 else png)
        for _ in range(5):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        (tmp_path / f"d{i}").write_bytes(content)
    assert len(answers(program, [tmp_path / f"d{i}" for i in range(60)])) == 60


def test_wrong_use_is_refused(program: Path, tmp_path: Path) -> None:
    assert "usage" in run(program).stderr and run(program).returncode == 2
    point = run(program, "--point", "best", "MODEL", "x.png")
    assert point.returncode == 2 and "balanced" in point.stderr
    nobody = run(program, "--population", "cats", "MODEL", "x.png")
    assert nobody.returncode == 2 and "children" in nobody.stderr
    other = Path(load_bundle("small").folder) / "model.onnx"
    assert run(program, other, "x.png").returncode in (2, 3)
    missing = run(program, tmp_path / "none.onnx", "x.png")
    assert missing.returncode == 2 and "none.onnx" in missing.stderr


def test_real_films_get_the_runtimes_answers(program: Path) -> None:
    files = sorted((DATA / "chest_xray" / "test").glob("*/*.jpeg"))
    files += sorted((DATA / "chest_xray_originals").rglob("*.jpeg"))
    if len(files) < 700:
        pytest.skip("the real data are not here (chest_xray, chest_xray_originals)")
    assert check_equal(program, files, Screener.load(engine="onnxruntime")) > 800
