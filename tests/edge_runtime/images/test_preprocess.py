"""The definition of image -> tensor, pinned by golden files and by rules."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.basics.beside import Beside, Task
from edge_runtime.errors import ErrorCode, ImageError, InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import InputSpec, decode, prepare, prepare_pixels, resize
from edge_runtime.images.readers.raster import scale_to_8_bits

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
TENSORS = json.loads((GOLDEN / "tensors.json").read_text(encoding="utf-8"))
SPEC = InputSpec(224, 224)


def encode(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format_name, **options)
    return buffer.getvalue()


def test_every_golden_file_is_listed() -> None:
    assert len(TENSORS) == 16
    assert set(TENSORS) == {p.name for p in GOLDEN.iterdir()} - {"tensors.json"}


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_golden_tensor(name: str) -> None:
    tensor = prepare((GOLDEN / name).read_bytes(), SPEC)
    assert (tensor.shape, tensor.dtype) == ((224, 224, 1), np.uint8)
    assert hashlib.sha256(tensor.tobytes()).hexdigest() == TENSORS[name]


@pytest.mark.parametrize(("times", "scale"), [(1.25, 2), (2, 1)])
def test_a_jpeg_is_decoded_no_smaller_than_the_model_says(times: float, scale: int) -> None:
    """600 x 680 is between the two rules: half of it is 1.25 times the model's size, not 2."""
    data = (GOLDEN / "third-size.jpeg").read_bytes()
    spec = InputSpec(224, 224, decode_oversampling=times)
    grey, facts = decode(data, spec)
    assert grey.size == (680 // scale, 600 // scale)
    assert (facts.width, facts.height) == (680, 600)
    by_hand = Image.open(io.BytesIO(data))
    by_hand.draft("L", (680 // scale, 600 // scale))
    assert by_hand.size == grey.size
    np.testing.assert_array_equal(np.asarray(by_hand), np.asarray(grey))
    np.testing.assert_array_equal(prepare(data, spec), resize(by_hand, spec))


def test_manifests_say_two_and_not_two_point_nought() -> None:
    assert repr(InputSpec(224, 224, decode_oversampling=2.0).decode_oversampling) == "2"
    with pytest.raises(InvalidValueError, match=r"decode_oversampling: .* 1\.25 or 2, got 3"):
        InputSpec(224, 224, decode_oversampling=3)


@pytest.mark.parametrize("size", [(150, 900), (600, 500), (500, 600), (90, 1000), (900, 90)])
@pytest.mark.parametrize("spec", [InputSpec(160, 160), InputSpec(96, 224), InputSpec(224, 96)])
def test_rows_are_resampled_before_columns(size: tuple[int, int], spec: InputSpec) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8))
    rows = image.resize((spec.width, image.height), Image.Resampling.BILINEAR)
    expected = rows.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(image, spec)[:, :, 0], np.asarray(expected))


@pytest.mark.parametrize("size", [(224, 1500), (700, 400), (400, 700), (1117, 224), (300, 1001)])
@pytest.mark.parametrize("spec", [SPEC, InputSpec(160, 96)])
@pytest.mark.parametrize("thread", [True, False])
def test_two_threads_resample_to_the_same_bytes(
    size: tuple[int, int], spec: InputSpec, thread: bool
) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, size, dtype=np.uint8))
    beside, shares = Beside(), []

    def start(work: Callable[..., Image.Image], *arguments: Any) -> Task[Image.Image]:
        shares.append(arguments)
        return beside.start(work, *arguments) if thread else Task(work, *arguments)

    np.testing.assert_array_equal(resize(image, spec, start), resize(image, spec))
    assert len(shares) == 1


@pytest.mark.parametrize("size", [(2, 200_000), (200_000, 2), (300_000, 1)])
def test_strips_are_shared_too(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8))
    np.testing.assert_array_equal(resize(image, SPEC, Beside().start), resize(image, SPEC))


@pytest.mark.parametrize("size", [(300, 300), (1, 300_000)])
def test_what_is_small_or_a_single_row_is_resampled_by_one_thread(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8))

    def never(*arguments: object) -> Task[Image.Image]:
        raise AssertionError(arguments)

    np.testing.assert_array_equal(resize(image, SPEC, never), resize(image, SPEC))


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    pixels = draw_phantom(1, True, 224, 224)
    tensor = prepare(encode(Image.fromarray(pixels), "PNG"), SPEC)
    np.testing.assert_array_equal(tensor[:, :, 0], pixels)


def test_bytes_and_pixels_give_the_same_tensor() -> None:
    pixels = draw_phantom(2, False, 300, 500)
    from_bytes = prepare(encode(Image.fromarray(pixels), "PNG"), SPEC)
    np.testing.assert_array_equal(from_bytes, prepare_pixels(pixels, SPEC))


def test_scaled_decoding_stays_close_to_full_decoding() -> None:
    content = encode(Image.fromarray(draw_phantom(3, True, 1200, 1400)), "JPEG", quality=90)
    scaled = prepare(content, SPEC).astype(int)
    full = prepare_pixels(np.asarray(Image.open(io.BytesIO(content))), SPEC).astype(int)
    assert np.abs(scaled - full).mean() < 0.5


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_pixels_come_back_to_8_bits_exactly(bits: int) -> None:
    eight = np.arange(256, dtype=np.uint32).reshape(16, 16)
    deep = (eight * (2**bits - 1) + 127) // 255
    np.testing.assert_array_equal(scale_to_8_bits(deep.astype(np.uint16)), eight)


def test_bit_depth_follows_the_largest_pixel_not_the_container() -> None:
    twelve_bits = np.array([[0, 2048, 4095]], dtype=np.uint16)
    np.testing.assert_array_equal(scale_to_8_bits(twelve_bits), [[0, 128, 255]])


@pytest.mark.parametrize("value", [-1, 70000])
def test_pixels_beyond_16_bits_are_refused(value: int) -> None:
    with pytest.raises(ImageError, match=str(value)) as caught:
        scale_to_8_bits(np.array([[0, value]], dtype=np.int32))
    assert caught.value.code == ErrorCode.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((64, 96), np.uint8)
    upright[:16, :24] = 255  # marks the top left corner
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
            6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    tensor = prepare(encode(stored, "PNG", exif=exif), SPEC)
    np.testing.assert_array_equal(tensor, prepare_pixels(upright, SPEC))


def test_transparent_pixels_are_black() -> None:
    image = Image.new("LA", (224, 224), (200, 0))
    assert prepare(encode(image, "PNG"), SPEC).max() == 0


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", ErrorCode.EMPTY_FILE, "0 bytes"),
        (b"patient,age\n1,4\n", ErrorCode.UNSUPPORTED_FORMAT, "patient,age"),
        (b"GIF89a" + bytes(50), ErrorCode.UNSUPPORTED_FORMAT, "GIF89a"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), ErrorCode.CORRUPT_IMAGE, "PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(50), ErrorCode.CORRUPT_IMAGE, "JPEG"),
        (b"II*\x00" + b"\xff" * 50, ErrorCode.CORRUPT_IMAGE, "TIFF"),
        (b"BM" + b"\xff" * 60, ErrorCode.CORRUPT_IMAGE, "BMP"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(40), ErrorCode.CORRUPT_IMAGE, "WEBP"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(
    content: bytes, code: ErrorCode, said: str
) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        prepare(content, SPEC)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["grey.jpeg", "grey.png", "colour.webp", "half-scale.jpeg"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(name: str, share: float) -> None:
    content = (GOLDEN / name).read_bytes()
    with pytest.raises(ImageError, match="damaged or truncated") as caught:
        prepare(content[: int(len(content) * share)], SPEC)
    assert caught.value.code == ErrorCode.CORRUPT_IMAGE


@pytest.mark.parametrize("side", [9_000, 12_000, 30_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    bomb = bytearray(encode(Image.new("L", (8, 8)), "PNG"))
    bomb[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    with pytest.raises(ImageError) as caught:
        prepare(bytes(bomb), SPEC)
    assert caught.value.code == ErrorCode.IMAGE_TOO_LARGE


def test_floating_point_pixels_are_refused() -> None:
    content = encode(Image.fromarray(np.zeros((64, 64), np.float32)), "TIFF")
    with pytest.raises(ImageError, match="floating-point"):
        prepare(content, SPEC)


@pytest.mark.parametrize("field", ["dtype", "layout", "resize_filter", "scale", "zero_point"])
def test_an_input_that_this_version_cannot_prepare_is_refused(field: str) -> None:
    other = {"dtype": "float32", "layout": "NCHW", "resize_filter": "nearest", "scale": 1.0,
             "zero_point": 0}  # fmt: skip
    with pytest.raises(InvalidValueError, match=field):
        InputSpec(224, 224, **{field: other[field]})


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidValueError, match="uint8"):
        prepare_pixels(pixels, SPEC)
