"""File bytes to 8-bit greyscale pixels: one module per family of formats, chosen by content."""

from __future__ import annotations

from PIL import Image

from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.readers import raster
from edge_runtime.images.readers.facts import ImageFacts

# No CR or DX detector comes near this; a crafted header can claim far more (decompression bomb).
MAX_PIXELS = 64_000_000


def read_grey(data: bytes, min_size: tuple[int, int]) -> tuple[Image.Image, ImageFacts]:
    """Decode an image file to greyscale.

    Args:
        data: The whole file.
        min_size: (height, width) in pixels. A JPEG, and a large film in JPEG 2000, may be decoded
            at a reduced scale as long as neither side falls below this.

    Returns:
        A Pillow image of mode "L", upright, and what else the file told.

    Raises:
        ImageError: The bytes are empty, of no known format, damaged, or too large to decode.
    """
    if not data:
        raise ImageError(ErrorCode.EMPTY_FILE, "the file is empty (0 bytes)")
    # A DICOM file has its mark behind a preamble of 128 bytes. Source: PS3.10 7.1.
    if data[128:132] == b"DICM":
        from edge_runtime.images.readers import dicom

        return dicom.read(data, min_size, MAX_PIXELS)
    format_name = raster.sniff(data)
    if format_name is None:
        raise ImageError(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"not a recognised image: the file begins with {data[:12]!r}; "
            f"readable formats are {', '.join(raster.FORMATS)} and DICOM",
        )
    return raster.read(data, format_name, min_size, MAX_PIXELS)
