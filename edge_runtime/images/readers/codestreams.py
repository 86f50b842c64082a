"""What a compressed frame says of itself, before anybody decodes it.

A decoder believes its codestream, not the DICOM header: 2 kB of JPEG 2000 can ask for a gigabyte.

Source: frame headers of JPEG (ITU-T T.81 B.2.2), JPEG-LS (ITU-T T.87 C.2.2) and JPEG 2000 (ITU-T
T.800 A.5.1); RLE, DICOM PS3.5 Annex G.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import ErrorCode, ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SOC_SIZ = b"\xff\x4f\xff\x51"
_CODING = 0x52
_SCAN = 0xDA
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_MOST_PIXELS_PER_BYTE = 2000  # films have noise: they reach a hundredth of it
_MOST_RUNS = 16_000_000  # some seconds of work
_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xDA)))  # markers that stand alone
# Start of frame: baseline to lossless, and JPEG-LS; not DHT, JPG and DAC.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}


def check_frame(frame: bytes, rows: int, columns: int) -> None:
    """Hold the codestream's own size against that of the DICOM header.

    Raises:
        ImageError: It is of another size, has several components, its size cannot be found, or it
            is so short that it would be decoded for long and show nothing.
    """
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
    if rows * columns > _MOST_PIXELS_PER_BYTE * len(frame):
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"truncated: {len(frame)} compressed bytes cannot hold {columns} x {rows} pixels",
        )


def frame_size(data: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG, JPEG-LS or JPEG 2000 codestream; None if not found."""
    if data[:2] == b"\xff\xd8":
        return _of_jpeg(data)
    at = _codestream(data)
    if at is None:
        return None
    right, bottom, left, top = struct.unpack(">4I", data[at + 8 : at + 24])
    (components,) = struct.unpack(">H", data[at + 40 : at + 42])
    return bottom - top, right - left, components


@frozen
class Jpeg2000Form:
    precision: int  # bits of a pixel
    signed: bool
    levels: int  # how often it can be halved


def jpeg2000_form(data: bytes) -> Jpeg2000Form | None:
    """How the first component of a JPEG 2000 codestream is coded; None where it is none.

    Source: ITU-T T.800 A.5.1 (SIZ) and A.6.1 (COD).
    """
    begin = _codestream(data)
    if begin is None:
        return None
    depth = data[begin + 42]
    at = begin + 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _CODING:
            return Jpeg2000Form((depth & 0x7F) + 1, bool(depth >> 7), min(32, data[at + 9]))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _codestream(data: bytes) -> int | None:
    """Where a JPEG 2000 codestream begins: at once, or in a JP2 file around it."""
    if data[:4] == _SOC_SIZ:
        at = 0
    elif data[4:8] == b"jP  ":
        at = data.find(_SOC_SIZ, 0, 4096)
    else:
        return None
    return at if at >= 0 and len(data) >= at + 45 else None


def _of_jpeg(data: bytes) -> tuple[int, int, int] | None:
    for marker, at in _segments(data):
        if marker in _FRAMES:
            rows, columns, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            return rows, columns, components
    return None


def several_scans(data: bytes) -> bool:
    """Whether a JPEG is progressive, or its components come one after the other.

    Source: ITU-T T.81 B.2.2 and B.2.3.
    """
    components = 0
    for marker, at in _segments(data):
        if marker in _PROGRESSIVE:
            return True
        if marker in _FRAMES:
            components = data[at + 9]
        elif marker == _SCAN:
            return data[at + 4] < components
    return False


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, position) of each segment up to the first scan, or to where there is none."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        yield marker, at
        if marker == _SCAN:
            return
        at += 2 if marker in _NO_LENGTH else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def unpack_rle(frame: bytes, rows: int, columns: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """(rows, columns) of one greyscale RLE frame.

    Args:
        frame: Header and segments, one for each byte of a pixel, the highest first.
        rows: By the DICOM header, as the columns.
        columns: Of the frame.
        kind: Type of a pixel.

    Raises:
        ImageError: The frame holds more or less than that, or is packed so badly that unpacking
            would take long.

    Source: DICOM PS3.5 Annex G.
    """
    count, *offsets = struct.unpack("<16I", frame[:64])
    if count != kind.itemsize:
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"RLE of {count} segments, the DICOM header says {kind.itemsize} bytes per pixel",
        )
    planes = np.zeros((rows * columns, count), np.uint8)
    ends = [*offsets[1:count], len(frame)]
    runs = _MOST_RUNS
    for plane, (begin, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        unpacked, runs = _unpack_segment(frame, begin, min(end, len(frame)), rows * columns, runs)
        planes[:, plane] = unpacked
    return planes.view(kind.newbyteorder(">")).reshape(rows, columns)


def _unpack_segment(
    frame: bytes, at: int, end: int, pixels: int, runs: int
) -> tuple[NDArray[np.uint8], int]:
    """(pixels,) bytes and how many runs are left of `runs`. Source: PS3.5 G.3.1."""
    out = bytearray()
    while at < end:
        header = frame[at]
        if header < 128:
            out += frame[at + 1 : at + 2 + header]
            at += header + 2
        elif header > 128:
            out += frame[at + 1 : at + 2] * (257 - header)
            at += 2
        else:
            at += 1
        runs -= 1
        if runs < 0:
            raise ImageError(
                ErrorCode.CORRUPT_IMAGE, f"RLE of more than {_MOST_RUNS // 10**6} million runs"
            )
        if len(out) > pixels + 256:
            raise ImageError(
                ErrorCode.CORRUPT_IMAGE,
                f"RLE unpacks to more than the {pixels} pixels of the DICOM header",
            )
    if len(out) < pixels:
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"truncated RLE: {len(out)} of {pixels} pixels in a segment",
        )
    return np.frombuffer(out, np.uint8, pixels), runs
