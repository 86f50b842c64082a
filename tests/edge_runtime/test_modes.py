"""Every pixel mode that Pillow documents, in the formats that can hold it, against one reference.

The reference is the greyscale drawing that the file was made from; what a mode cannot hold (one
bit, a palette, lossy compression) has its own tolerance.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.grey import read_grey
from edge_runtime.images.phantom import draw_phantom

FULL = (10**6, 10**6)  # never decode at a reduced scale
GREY = draw_phantom(3, True, 120, 104)


def in_mode(mode: str) -> Image.Image:
    """The drawing in a mode. Where a mode is colour, the colour is grey."""
    image = Image.fromarray(GREY)
    if mode in ("I;16", "I;16B"):
        # Through bytes: Pillow converts few modes into these.
        pixels = (GREY.astype(np.uint16) * 257).astype("<u2" if mode == "I;16" else ">u2")
        return Image.frombytes(mode, image.size, pixels.tobytes())
    if mode == "I":
        return Image.fromarray(GREY.astype(np.int32) * 257)
    if mode in ("LA", "RGBA", "PA"):
        return image.convert("RGBA").convert(mode) if mode != "PA" else image.convert("PA")
    if mode in ("YCbCr", "CMYK", "LAB", "HSV", "RGBX"):
        return image.convert("RGB").convert(mode) if mode != "LAB" else lab(image)
    return image.convert(mode)


def lab(image: Image.Image) -> Image.Image:
    """Neutral LAB: only Pillow's colour management makes it, so the planes are set by hand."""
    flat = Image.new("L", image.size, 128)
    return Image.merge("LAB", (image, flat, flat))


def encode(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format_name, **options)
    return buffer.getvalue()


EXACT = [
    ("PNG", "L"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "I;16"),
    ("TIFF", "L"), ("TIFF", "LA"), ("TIFF", "P"), ("TIFF", "RGB"), ("TIFF", "RGBA"),
    ("TIFF", "RGBX"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("TIFF", "I"), ("TIFF", "CMYK"),
    ("BMP", "L"), ("BMP", "P"), ("BMP", "RGB"), ("BMP", "RGBA"),
]  # fmt: skip


@pytest.mark.parametrize(("format_name", "mode"), EXACT)
def test_lossless_modes_give_the_very_greys(format_name: str, mode: str) -> None:
    grey, facts = read_grey(encode(in_mode(mode), format_name), FULL)
    assert (grey.mode, grey.size) == ("L", (104, 120))
    assert (facts.height, facts.width) == (120, 104)
    # Colour to luma and back may round by one.
    np.testing.assert_allclose(np.asarray(grey, dtype=int), GREY, atol=1)
    assert facts.chroma <= 1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressions(compression: str) -> None:
    content = encode(in_mode("L"), "TIFF", compression=compression)
    np.testing.assert_array_equal(np.asarray(read_grey(content, FULL)[0]), GREY)


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(format_name: str) -> None:
    grey = np.asarray(read_grey(encode(in_mode("1"), format_name), FULL)[0])
    assert set(np.unique(grey)) == {0, 255}
    np.testing.assert_array_equal(grey, np.asarray(in_mode("1").convert("L")))


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_samplings(sampling: str) -> None:
    content = encode(in_mode("RGB"), "JPEG", quality=97, subsampling=sampling)
    grey, facts = read_grey(content, FULL)
    assert np.abs(np.asarray(grey, dtype=int) - GREY).mean() < 2
    assert facts.chroma < 2


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_jpeg_greyscale(options: dict[str, bool]) -> None:
    grey, _ = read_grey(encode(in_mode("L"), "JPEG", quality=97, **options), FULL)
    assert np.abs(np.asarray(grey, dtype=int) - GREY).mean() < 2


def test_jpeg_cmyk() -> None:
    grey, _ = read_grey(encode(in_mode("CMYK"), "JPEG", quality=97), FULL)
    assert np.abs(np.asarray(grey, dtype=int) - GREY).mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(mode: str) -> None:
    grey, _ = read_grey(encode(in_mode(mode), "WEBP", lossless=True), FULL)
    np.testing.assert_allclose(np.asarray(grey, dtype=int), GREY, atol=1)


def test_colour_is_noticed() -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert read_grey(encode(picture, "PNG"), FULL)[1].chroma > 60


@pytest.mark.parametrize(("mode", "said"), [("F", "no agreed black and white"), ("LAB", "LAB")])
def test_modes_without_an_agreed_grey_are_refused_by_name(mode: str, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        read_grey(encode(in_mode(mode), "TIFF"), FULL)
    assert caught.value.code == ErrorCode.UNSUPPORTED_PIXELS
