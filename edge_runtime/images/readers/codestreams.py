"""How large a compressed DICOM frame says that it is, before anybody decodes it.

A decoder believes its codestream, not the DICOM header: 2 kB of JPEG 2000 can ask for a gigabyte.

Source: frame headers of JPEG (ITU-T T.81 B.2.2), JPEG-LS (ITU-T T.87 C.2.2) and JPEG 2000 (ITU-T
T.800 A.5.1); RLE, DICOM PS3.5 Annex G.
"""

from __future__ import annotations

import struct
from typing import Any

from edge_runtime.errors import ErrorCode, ImageError

_SIZ = b"\xff\x51"
_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xDA)))  # markers that stand alone
# Start of frame: baseline to lossless, and JPEG-LS; not DHT, JPG and DAC.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}


def check_frame(dataset: Any) -> None:
    """Hold the first frame of encapsulated pixels against Rows and Columns.

    Raises:
        ImageError: It is of another size, has several components, or its size cannot be found.
    """
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        _check_rle(frame, rows * columns, int(dataset.BitsAllocated) // 8)
        return
    found = frame_size(frame)
    if found is None:
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE, "the compressed DICOM pixels do not begin with a frame's size"
        )
    if found != (rows, columns, 1):
        height, width, components = found
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"the compressed DICOM pixels are {width} x {height} with {components} components, the "
            f"header says {columns} x {rows} and one",
        )


def frame_size(data: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG, JPEG-LS or JPEG 2000 codestream; None if not found."""
    if data[:4] == b"\xff\x4f" + _SIZ:
        return _of_siz(data, 4)
    if data[4:8] == b"jP  ":  # a JP2 file around the codestream
        at = data.find(b"\xff\x4f" + _SIZ, 0, 4096)
        return _of_siz(data, at + 4) if at >= 0 else None
    return _of_jpeg(data) if data[:2] == b"\xff\xd8" else None


def _of_siz(data: bytes, at: int) -> tuple[int, int, int] | None:
    if len(data) < at + 38:
        return None
    right, bottom, left, top = struct.unpack(">4I", data[at + 4 : at + 20])
    (components,) = struct.unpack(">H", data[at + 36 : at + 38])
    return bottom - top, right - left, components


def _of_jpeg(data: bytes) -> tuple[int, int, int] | None:
    at = 2
    while at + 10 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in _FRAMES:
            rows, columns, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            return rows, columns, components
        elif marker in _NO_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _check_rle(frame: bytes, pixels: int, bytes_per_pixel: int) -> None:
    """Every segment unpacks to one byte of each pixel, and a byte of padding at most."""
    count, *offsets = struct.unpack("<16I", frame[:64])
    if count != bytes_per_pixel:
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"RLE of {count} segments, the DICOM header says {bytes_per_pixel} bytes per pixel",
        )
    ends = [*offsets[1:count], len(frame)]
    for begin, end in zip(offsets[:count], ends, strict=True):
        size, at = 0, begin
        while at < min(end, len(frame)):
            header = frame[at]
            if header < 128:
                size, at = size + header + 1, at + header + 2
            elif header > 128:
                size, at = size + 257 - header, at + 2
            else:
                at += 1
            if size > pixels + 256:
                raise ImageError(
                    ErrorCode.CORRUPT_IMAGE,
                    f"RLE unpacks to more than the {pixels} pixels of the DICOM header",
                )
