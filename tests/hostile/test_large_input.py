"""Films that are large, and files that pretend to be small: a process stays small with either.

Each case is screened by a process of its own, whose peak memory is what the system says.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.basics.beside import Beside
from edge_runtime.errors import ImageError
from edge_runtime.images.memory import Room
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import InputSpec, prepare, resize
from tests.conftest import ROOT
from tests.edge_runtime.images.test_dicom import write

pydicom = pytest.importorskip("pydicom")
if not Path("/proc/self/status").exists():
    pytest.skip("peak memory is read from /proc", allow_module_level=True)
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

MOST_MEMORY_MB = 250
ROWS, COLUMNS = 5320, 4240  # the largest flat-panel detector that is common


def film(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """(rows, columns) of 12 bits."""
    small = Image.fromarray(draw_phantom(1, True, rows // 8, columns // 8))
    return np.asarray(small.resize((columns, rows))).astype(np.uint16) * 16


def screened(path: Path) -> tuple[dict[str, object], float]:
    """Status and error code of the record, and the peak memory of the process in MB."""
    program = (
        "import json, re, sys\n"
        "from edge_runtime import Screener\n"
        "record = Screener.load(force=True).screen(sys.argv[1])\n"
        "code = record.error and record.error.code\n"
        # Not ru_maxrss, which a new process takes over from the one that started it.
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "print(json.dumps([record.status, code, str(record.error and record.error.message), peak]))"
    )

    def limited() -> None:
        # What would take far more than is allowed fails here, and does not take the machine down.
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    done = subprocess.run(
        [sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True,
        timeout=60, preexec_fn=limited, env=os.environ | {"MALLOC_ARENA_MAX": "2"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    status, code, message, peak = json.loads(done.stdout.splitlines()[-1])
    return {"status": status, "code": code, "message": message}, peak


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def dicom_in(syntax: UID, pixels: np.ndarray) -> bytes:
    """A DX object whose pixels, of twelve bits and some noise, are compressed."""
    noise = np.random.default_rng(1).integers(0, 16, pixels.shape)
    dataset = pydicom.dcmread(io.BytesIO(write((pixels // 16 * 16 + noise).astype(np.uint16))))
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.compress(syntax)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def saved(pixels: np.ndarray, mode: str = "L", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode == "I;16" else image.convert(mode)).save(buffer, **options)
    return buffer.getvalue()


def eight_bits(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    return (film(rows, columns) // 16).astype(np.uint8)


WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096, "RescaleSlope": 1, "RescaleIntercept": 0}
FILMS = {
    "dicom": lambda: write(film()),
    "dicom-window": lambda: write(film(), **WINDOW),
    "dicom of 54 million pixels": lambda: write(film(7360, 7360)),
    "dicom-jpeg2000": lambda: dicom_in(JPEG2000Lossless, film()),
    "dicom-jpeg-ls": lambda: dicom_in(JPEGLSLossless, film()),
    "dicom-rle": lambda: dicom_in(RLELossless, film()),
    "dicom-deflated": lambda: dicom_in(DeflatedExplicitVRLittleEndian, film()),
    "png16": lambda: png(film()),
    "png-rgba": lambda: png(eight_bits(), "RGBA"),
    "png of 64 million pixels": lambda: png(eight_bits(8000, 8000)),
    "tiff16": lambda: saved(film(), "I;16", format="TIFF"),
    "jpeg, progressive, of 64 million pixels": lambda: saved(
        eight_bits(8000, 8000), format="JPEG", progressive=True
    ),
}
TOO_LARGE = {
    "dicom of 64 million pixels": lambda: write(film(8000, 8000)),
    "png in colour": lambda: png(eight_bits(8000, 8000), "RGB"),
    "jpeg in colour, progressive": lambda: saved(
        eight_bits(8000, 8000), "RGB", format="JPEG", progressive=True, subsampling=0
    ),
    "jpeg in colour, one scan by component": lambda: in_scans(8000, 8000),
    "webp": lambda: saved(eight_bits(8000, 8000), "RGB", format="WEBP", method=0),
    "dicom-jpeg-ls": lambda: compressed(
        JPEGLSLossless, jpeg_ls(8000, 7999) + bytes(100_000), 8000, 7999
    ),
    "dicom, one fragment of 170 MB": lambda: compressed(
        JPEGLSLossless, jpeg_ls(5000, 4000) + bytes(170_000_000), 5000, 4000
    ),
}


def in_scans(rows: int, columns: int) -> bytes:
    """A JPEG of three components whose first scan holds one of them."""
    whole = saved(np.zeros((64, 64), np.uint8), "RGB", format="JPEG", subsampling=0)
    frame, scan = whole.index(b"\xff\xc0"), whole.index(b"\xff\xda")
    size = struct.pack(">HH", rows, columns)
    one = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return whole[: frame + 5] + size + whole[frame + 9 : scan] + one + bytes(500) + b"\xff\xd9"


@pytest.mark.parametrize("kind", list(FILMS))
def test_a_large_film_takes_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(FILMS[kind]())
    record, peak = screened(path)
    assert record["status"] == "ok", record
    assert peak < MOST_MEMORY_MB


@pytest.mark.parametrize("kind", list(TOO_LARGE))
def test_what_would_take_much_memory_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(TOO_LARGE[kind]())
    record, peak = screened(path)
    assert record["code"] == "image_too_large" and "memory" in str(record["message"]), record
    assert peak < MOST_MEMORY_MB


def test_large_jpeg_2000_looks_like_the_film_itself(tmp_path: Path) -> None:
    """A film that is decoded at half its size: its wavelets' mean is nearly that of its pixels."""
    pixels = film(4000, 3200)
    whole = prepare(write(pixels, **WINDOW), InputSpec(224, 224)).astype(int)
    halved = prepare(
        dicom_in(JPEG2000Lossless, pixels)[:-2], InputSpec(224, 224)
    )  # two bytes short: of the delimiter alone
    assert np.abs(whole - halved).mean() < 3


def test_parts_of_a_large_film_are_resampled_as_the_whole() -> None:
    """In parts, shared or not: the bytes are those of Pillow's own resize of the whole."""
    beside = Beside()
    for rows, columns in ((3001, 2903), (1700, 9001), (1, 5_000_001)):
        grey = Image.fromarray(eight_bits(64, 64)).resize((columns, rows))
        plain = resize(grey, InputSpec(224, 200))
        np.testing.assert_array_equal(resize(grey, InputSpec(224, 200), beside.start), plain)


def test_small_films_do_not_keep_a_large_one_waiting() -> None:
    """Threads that never leave the room empty: the one that wants all of it gets its turn."""
    room, inside, ended = Room(100), [False] * 4, threading.Event()

    def small(number: int) -> None:
        while not ended.is_set():
            with room.hold(30, ""):
                inside[number] = True
                assert sum(inside) <= 3
                inside[number] = False

    threads = [threading.Thread(target=small, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with room.hold(100, ""):
            assert not any(inside)
    ended.set()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()
    with pytest.raises(ImageError, match="more than the limit"), room.hold(101, "smaller"):
        pass


def test_badly_packed_rle_is_refused_in_time(tmp_path: Path) -> None:
    """Runs of one pixel: nothing is large, and unpacking would take a minute."""
    segment = b"\x00\x07" * 9_000_000
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *([0] * 13))
    path = tmp_path / "slow.dcm"
    path.write_bytes(compressed(RLELossless, header + segment + segment, 3000, 3000))
    record, _ = screened(path)
    assert record["code"] == "corrupt_image" and "runs" in str(record["message"])


def compressed(syntax: UID, frame: bytes, rows: int = 64, columns: int = 64) -> bytes:
    """A DX object that promises rows x columns and holds one encapsulated frame."""
    dataset = pydicom.dcmread(io.BytesIO(write(film(64, 64))))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def deflated_bomb() -> bytes:
    """600 MB of zeros behind a header, in 600 kB."""
    plain = write(film(64, 64))
    dataset = pydicom.dcmread(io.BytesIO(plain))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    begin = 144 + int.from_bytes(content[140:144], "little")
    body = zlib.decompress(content[begin:], -15)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [content[:begin], squeeze.compress(body)]
    parts += [squeeze.compress(bytes(10_000_000)) for _ in range(60)]
    return b"".join([*parts, squeeze.flush()])


def deflated_bomb_behind_long_meta() -> bytes:
    """The same, its transfer syntax behind 20 kB of other meta data, and a length that lies."""
    content = deflated_bomb()
    at = content.index(b"\x02\x00\x10\x00UI")
    filler = b"\x02\x00\x02\x01OB\x00\x00" + (20_000).to_bytes(4, "little") + bytes(20_000)
    return content[:at] + filler + content[at:]


def jpeg2000(rows: int, columns: int) -> bytes:
    """The beginning of a codestream of this size."""
    siz = struct.pack(">HHIIIIIIIIH", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1)
    return b"\xff\x4f\xff\x51" + siz + bytes((15, 1, 1)) + bytes(1600)


def jpeg_ls(rows: int, columns: int) -> bytes:
    return b"\xff\xd8\xff\xf7\x00\x0b\x10" + struct.pack(">HHB", rows, columns, 1) + bytes(200)


def rle_bomb() -> bytes:
    """Two segments of runs of 128, each pair of bytes worth 128."""
    runs = b"\x81\x00" * 2_000_000
    header = struct.pack("<16I", 2, 64, 64 + len(runs), *([0] * 13))
    return header + runs + runs


BOMBS = {
    "deflate": (deflated_bomb, "image_too_large"),
    "deflate behind long meta data": (deflated_bomb_behind_long_meta, "image_too_large"),
    "JPEG 2000": (lambda: compressed(JPEG2000Lossless, jpeg2000(30_000, 30_000)), "corrupt_image"),
    "JPEG-LS": (lambda: compressed(JPEGLSLossless, jpeg_ls(60_000, 60_000)), "corrupt_image"),
    "RLE": (lambda: compressed(RLELossless, rle_bomb()), "corrupt_image"),
    "JPEG-LS that ends early": (
        lambda: compressed(JPEGLSLossless, jpeg_ls(5000, 4000), 5000, 4000),
        "corrupt_image",
    ),
    "rows and columns": (
        lambda: compressed(JPEG2000Lossless, jpeg2000(60_000, 60_000), 60_000, 60_000),
        "image_too_large",
    ),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_bomb_is_refused_by_name_in_little_memory(name: str, tmp_path: Path) -> None:
    make, code = BOMBS[name]
    path = tmp_path / "bomb.dcm"
    path.write_bytes(make())
    assert path.stat().st_size < 10_000_000
    record, peak = screened(path)
    assert (record["status"], record["code"]) == ("error", code), record
    assert peak < MOST_MEMORY_MB


def test_excess_frames_are_not_decoded(tmp_path: Path) -> None:
    """One frame is promised, a hundred follow: the promised one is screened, and no other."""
    content = write(film(64, 64))
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.PixelData = bytes(dataset.PixelData) + bytes(100_000_000)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    (tmp_path / "one.dcm").write_bytes(content)
    (tmp_path / "many.dcm").write_bytes(buffer.getvalue())
    record, peak = screened(tmp_path / "many.dcm")
    assert record["status"] == "ok" and peak < MOST_MEMORY_MB


def test_a_deflated_film_is_read_as_any_other() -> None:
    from tests.edge_runtime.images.test_dicom import grey

    plain = write(film(300, 260), WindowCenter=2048, WindowWidth=4096)
    dataset = pydicom.dcmread(io.BytesIO(plain))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    np.testing.assert_array_equal(grey(buffer.getvalue()), grey(plain))
