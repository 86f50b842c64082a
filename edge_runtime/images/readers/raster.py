"""JPEG, PNG, TIFF, BMP and WebP to 8-bit greyscale, through Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.memory import ROOM
from edge_runtime.images.readers.codestreams import several_scans
from edge_runtime.images.readers.facts import ImageFacts

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")

# All that Pillow documents but LAB and HSV, which no radiograph comes in. "F" has its own reason.
_READ_MODES = frozenset(
    ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "LA", "PA", "RGBX", "RGBa", "La",
     "I;16", "I;16L", "I;16B", "I;16N")
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112
_REMEDY = "export it as greyscale, or smaller"
_NEGLIGIBLE = 8_000_000  # bytes that are not looked for
_STRIP_PIXELS = 1_000_000
_TRANSPOSE_FOR_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def sniff(data: bytes) -> str | None:
    """Name of the raster format that `data` begins like, or None. File names are not trusted."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def read(
    data: bytes, format_name: str, min_size: tuple[int, int], max_pixels: int
) -> tuple[Image.Image, ImageFacts]:
    """Decode one raster image to mode "L", with its facts. See `edge_runtime.readers.read_grey`.

    Raises:
        ImageError: Damaged data, more than `max_pixels` pixels, or pixels no rule covers.
    """
    height, width = min_size
    try:
        image = _open(data, format_name)
        if image.width * image.height > max_pixels:
            raise ImageError(
                ErrorCode.IMAGE_TOO_LARGE,
                f"{image.width} x {image.height} pixels is more than the limit of "
                f"{max_pixels / 1e6:.0f} million",
            )
        stored_width, stored_height = image.size
        buffered = _buffered_by_jpeg(data, image) if format_name == "JPEG" else 0
        # Decodes JPEG at 1/2, 1/4 or 1/8 scale where that leaves enough pixels. The Y of YCbCr is
        # the very luma that "L" would give, and Cb and Cr tell whether the picture has colour.
        image.draft("YCbCr" if image.mode == "RGB" else "L", (width, height))
        with ROOM.hold(len(data) + buffered + _decoded_bytes(image, format_name), _REMEDY):
            image.load()
            if image.mode not in _READ_MODES:
                raise ImageError(
                    ErrorCode.UNSUPPORTED_PIXELS,
                    f"pixels of mode {image.mode} are not read; export greyscale or RGB",
                )
            orientation = 1
            # Asking for EXIF imports a good part of the standard library; most films have none.
            if format_name == "TIFF" or _may_be_turned(image.info.get("exif", b"")):
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            chroma = _chroma(image)
            grey = _to_grey(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(ErrorCode.IMAGE_TOO_LARGE, str(error)) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        OverflowError,
        ZeroDivisionError,
        struct.error,
        MemoryError,
        UserWarning,  # Pillow warns of damage where a user turned warnings into errors
    ) as error:
        # What Pillow's parsers raise on damaged files; anything else is a defect of ours.
        detail = str(error) or type(error).__name__
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"damaged or truncated {format_name}: {detail.rstrip('.')}; export the image again",
        ) from error
    transpose = _TRANSPOSE_FOR_ORIENTATION.get(orientation)
    if transpose is not None:
        grey = grey.transpose(transpose)
        if orientation >= 5:  # turned on its side
            stored_width, stored_height = stored_height, stored_width
    return grey, ImageFacts(stored_height, stored_width, chroma)


def _decoded_bytes(image: Image.Image, format_name: str) -> int:
    """The pixels as Pillow holds them and their greyscale, an estimate from above."""
    if format_name == "WEBP":
        per_pixel = 16  # frames, canvas and the picture, four bytes each
    elif image.mode in ("1", "L"):
        per_pixel = 1
    elif image.mode == "P" and "transparency" not in image.info:
        per_pixel = 2
    elif image.mode.startswith("I;16"):
        per_pixel = 3
    else:
        per_pixel = 5  # any other mode takes four
    return per_pixel * image.width * image.height


def _buffered_by_jpeg(data: bytes, image: Image.Image) -> int:
    """What libjpeg keeps of a picture that comes in several scans: all coefficients, 16 bits each.

    Source: libjpeg-turbo, libjpeg.txt, "Progressive JPEG support".
    """
    most = 2 * len(image.getbands()) * image.width * image.height
    return most if most > _NEGLIGIBLE and several_scans(data) else 0


def _open(data: bytes, format_name: str) -> Image.Image:
    """The image, by Pillow's parser of that format and none of its other, riskier ones.

    `Image.open` would first import five parsers and twenty modules that they need, which is a
    good part of a cold start.
    """
    if format_name != "JPEG":
        return Image.open(io.BytesIO(data), formats=(format_name,))
    image = _jpeg_parser()(io.BytesIO(data))
    # The file is in memory: give it to the decoder whole, not 64 kB after 64 kB.
    image.decodermaxblock = len(data)
    return image


@cache
def _jpeg_parser() -> type[ImageFile]:
    from PIL.JpegImagePlugin import JpegImageFile

    class Jpeg(JpegImageFile):
        def _read_dpi_from_exif(self) -> None:
            """Not needed, and would import and parse TIFF where there is EXIF."""

    return Jpeg


def _may_be_turned(exif: object) -> bool:
    """Whether the bytes of the orientation's tag, 0x0112, occur at all, in either byte order."""
    return isinstance(exif, bytes) and (b"\x12\x01" in exif or b"\x01\x12" in exif)


def _chroma(image: Image.Image) -> float:
    """Mean of (largest - smallest) of red, green and blue over a coarse sample, 0 to 255."""
    if image.mode in ("L", "LA", "La", "1", "F") or image.mode.startswith("I"):
        return 0.0
    step = max(1, min(image.size) // 64)
    sample = image.resize(
        (max(1, image.width // step), max(1, image.height // step)), Image.Resampling.NEAREST
    ).convert("RGB")
    return float(np.ptp(np.asarray(sample), axis=2).mean())


def _to_grey(image: Image.Image) -> Image.Image:
    """Any decoded Pillow image to mode "L".

    Colour: ITU-R 601-2 luma, as Pillow's `convert("L")`. Transparent pixels: over black.
    """
    if image.mode == "L":
        return image
    if image.mode == "YCbCr":
        return image.getchannel(0)
    if image.mode.startswith("I"):
        return _in_strips(image, _to_8_bits(image))
    if image.mode == "F":
        raise ImageError(
            ErrorCode.UNSUPPORTED_PIXELS,
            "floating-point pixels have no agreed black and white; export 8- or 16-bit integers",
        )
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        return _in_strips(image, _over_black)
    return image.convert("L")


def _in_strips(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An image of mode "L", some rows at a time: large films must not be in memory thrice."""
    grey = Image.new("L", image.size)
    for strip, top in _strips(image):
        grey.paste(change(strip), (0, top))
    return grey


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    step = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        # A crop keeps the palette and not what is said of it.
        strip.info = image.info
        yield strip, top


def _over_black(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, rgba).convert("L")


def _to_8_bits(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """As `scale_to_8_bits` of the whole image, for its strips."""
    ranges = [(int(p.min()), int(p.max())) for p in (np.asarray(s) for s, _ in _strips(image))]
    table = table_to_8_bits(min(low for low, _ in ranges), max(high for _, high in ranges))
    return lambda strip: Image.fromarray(table[np.asarray(strip)])


def scale_to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale 9- to 16-bit greyscale to 8 bits.

    Rule: the bit depth is the smallest of 8, 10, 12, 14 and 16 that holds the largest pixel, and
    [0, 2**depth - 1] maps linearly, rounded to nearest, onto [0, 255]. Detectors store 10 to 14
    bits in 16-bit files, so dividing by 257 would leave them black; a stretch to the image's own
    minimum and maximum would let one burnt-in marker decide the contrast.

    Args:
        pixels: (height, width), any integer dtype, values 0 to 65535.

    Returns:
        (height, width) uint8. An 8-bit image stored times 257 in 16 bits comes back unchanged.

    Raises:
        ImageError: Negative values, or values beyond 16 bits.
    """
    return np.asarray(table_to_8_bits(int(pixels.min()), int(pixels.max()))[pixels])


def table_to_8_bits(low: int, high: int) -> np.ndarray:
    """What each value of pixels from `low` to `high` becomes: see `scale_to_8_bits`."""
    if low < 0 or high > 65535:
        raise ImageError(
            ErrorCode.UNSUPPORTED_PIXELS,
            f"greyscale values run from {low} to {high}; at most 16 unsigned bits are read",
        )
    depth = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    largest = 2**depth - 1
    shades = (np.arange(largest + 1, dtype=np.uint32) * 255 + largest // 2) // largest
    return np.asarray(shades, np.uint8)
