"""DICOM objects that are well formed and say strange things: headers, window, LUTs, frames.

Elements are replaced by values of any type and length, written as they are, so that what is strange
is read by us and not refused by the parser.
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np

from tests.fuzz.files import outcome

# (group, element): the elements that reading looks at, and some that it should not mind.
_LOOKED_AT = (
    (0x0028, 0x0002), (0x0028, 0x0004), (0x0028, 0x0008), (0x0028, 0x0010), (0x0028, 0x0011),
    (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102), (0x0028, 0x0103), (0x0028, 0x1050),
    (0x0028, 0x1051), (0x0028, 0x1052), (0x0028, 0x1053), (0x0028, 0x1055), (0x0028, 0x1056),
    (0x0028, 0x3000), (0x0028, 0x3010), (0x0028, 0x0106), (0x0028, 0x0107), (0x0028, 0x0120),
    (0x0008, 0x0005), (0x0008, 0x0016), (0x0008, 0x0018), (0x0008, 0x0020), (0x0008, 0x0060),
    (0x0010, 0x0010), (0x0010, 0x0030), (0x0010, 0x1010), (0x0018, 0x0015), (0x0018, 0x5101),
    (0x0054, 0x0220), (0x7FE0, 0x0008), (0x7FE0, 0x0009),
)  # fmt: skip
_SHORT = (b"AE", b"AS", b"CS", b"DA", b"DS", b"FD", b"FL", b"IS", b"LO", b"PN", b"SH", b"SL",
          b"SS", b"TM", b"UI", b"UL", b"US")  # fmt: skip
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"OF")
_TEXTS = (b"", b"0", b"1", b"-1", b"8", b"16", b"32", b"65535", b"1e400", b"nan", b"-inf", b"1\\2",
          b"\\\\\\", b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"PALETTE COLOR", b"060Y", b"999Y",
          b"19700101", b"99999999", b"SIGMOID", b"LINEAR_EXACT", b"LINEAR", b"AP", b"LL", b"DX",
          b"CT", b"HAND", b"ISO 2022 IR 87", b"NONE", b"\xff\xfe\x00\x01", b"A" * 300)  # fmt: skip
_NUMBERS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 32, 64, 255, 256, 4096, 32767, 32768, 65535)
_SYNTAXES = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2",
             b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.51",
             b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.90",
             b"1.2.840.10008.1.2.1.99", b"1.2.3", b"")  # fmt: skip


def run_case(rng: np.random.Generator) -> str:
    """Outcome of one case, as `files.run_case`."""
    elements = dict(_plain())
    for _ in range(int(rng.integers(1, 6))):
        tag = _LOOKED_AT[int(rng.integers(len(_LOOKED_AT)))]
        if rng.random() < 0.1:
            elements.pop(tag, None)
        else:
            elements[tag] = _element(tag, *_value(rng))
    syntax = b"1.2.840.10008.1.2.1"
    if rng.random() < 0.25:
        syntax = _SYNTAXES[int(rng.integers(len(_SYNTAXES)))]
    pixels = rng.bytes(int(rng.choice([0, 1, 2, 4095, 4096, 8192, 20_000])))
    if rng.random() < 0.3:  # encapsulated: an offset table, fragments, perhaps no end
        fragments = b"".join(
            struct.pack("<HHI", 0xFFFE, 0xE000, int(rng.choice([len(part), 0, 2**32 - 1]))) + part
            for part in (b"", pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :])
        )
        end = b"" if rng.random() < 0.3 else struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        data = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + fragments + end
    else:
        data = _element((0x7FE0, 0x0010), b"OW", pixels)
    body = b"".join(elements[tag] for tag in sorted(elements)) + data
    return outcome(_file(syntax, body))


def _value(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """(VR, bytes) of anything."""
    kind = rng.integers(0, 4)
    if kind == 0:
        return b"US", struct.pack("<H", int(rng.choice(_NUMBERS)))
    if kind == 1:
        number = struct.pack("<H", int(rng.choice(_NUMBERS)))
        return bytes(rng.choice([b"US", b"SS"])), number * int(rng.integers(0, 4))
    if kind == 2:
        text = _TEXTS[int(rng.integers(len(_TEXTS)))]
        return bytes(rng.choice(_SHORT)), text
    names = _LONG + _SHORT
    return names[int(rng.integers(len(names)))], rng.bytes(int(rng.integers(0, 80)))


def _element(tag: tuple[int, int], kind: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    if kind in _LONG:
        return struct.pack("<HH2sHI", *tag, kind, 0, len(value)) + value
    return struct.pack("<HH2sH", *tag, kind, len(value)) + value


@cache
def _plain() -> dict[tuple[int, int], bytes]:
    """An ordinary film of 64 x 32 pixels of 12 bits in 16."""
    values = {
        (0x0008, 0x0016): (b"UI", b"1.2.840.10008.5.1.4.1.1.1.1\0"),
        (0x0008, 0x0018): (b"UI", b"1.2.3.4"),
        (0x0008, 0x0060): (b"CS", b"DX"),
        (0x0028, 0x0002): (b"US", struct.pack("<H", 1)),
        (0x0028, 0x0004): (b"CS", b"MONOCHROME2 "),
        (0x0028, 0x0010): (b"US", struct.pack("<H", 64)),
        (0x0028, 0x0011): (b"US", struct.pack("<H", 32)),
        (0x0028, 0x0100): (b"US", struct.pack("<H", 16)),
        (0x0028, 0x0101): (b"US", struct.pack("<H", 12)),
        (0x0028, 0x0102): (b"US", struct.pack("<H", 11)),
        (0x0028, 0x0103): (b"US", struct.pack("<H", 0)),
    }
    return {tag: _element(tag, *value) for tag, value in values.items()}


def _file(syntax: bytes, body: bytes) -> bytes:
    syntax += b"\0" * (len(syntax) % 2)
    meta = _element((0x0002, 0x0010), b"UI", syntax)
    length = _element((0x0002, 0x0000), b"UL", struct.pack("<I", len(meta)))
    return b"\0" * 128 + b"DICM" + length + meta + body
