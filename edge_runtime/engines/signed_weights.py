"""Signed int8 weights in .onnx files, and what is done where a processor's kernels spoil them.

ONNX Runtime and OpenVINO multiply uint8 activations by int8 weights about twice as fast as by uint8
ones where the processor has VNNI. On x86 without it, they add pairs of products in 16 bits, which
saturate: wrong scores, without a word (`saturation` asks the kernels whether they do).

The remedy is exact: w - 0 with int8 w is (w + 128) - 128 with uint8 w + 128, and adding 128 flips
the highest bit. So weights and their zero points are flipped in place, with the two numbers that
say their type; nothing else in the file changes, not even its length.

Source: ONNX Runtime, "Quantize ONNX Models", section on U8S8; onnx.proto3 for field numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

# Field numbers of onnx.proto3.
_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_DATA_TYPE, _RAW_DATA = 2, 9  # of TensorProto
_UINT8, _INT8 = 2, 3  # of TensorProto.DataType
_VARINT, _LENGTH = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}


def has_signed_weights(model: bytes) -> bool:
    """Whether a file holds int8 constants.

    Raises:
        ValueError: Not an .onnx file.
    """
    return any(True for _ in _int8_tensors(model))


def with_unsigned_weights(model: bytes) -> bytes:
    """The same network with uint8 constants in place of int8 ones.

    Raises:
        ValueError: Not an .onnx file, or one whose constants are stored in another way.
    """
    changed = bytearray(model)
    for at_type, (begin, end) in _int8_tensors(model):
        changed[at_type] = _UINT8
        changed[begin:end] = bytes(byte ^ 0x80 for byte in changed[begin:end])
    return bytes(changed)


def _int8_tensors(model: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Of every int8 constant: where its type stands, and where its bytes begin and end."""
    for number, begin, end in _fields(model, 0, len(model)):
        if number != _GRAPH:
            continue
        for inner, start, stop in _fields(model, begin, end):
            if inner != _INITIALIZER:
                continue
            places = {n: (b, e) for n, b, e in _fields(model, start, stop)}
            at_type = places.get(_DATA_TYPE)
            if at_type is None or model[at_type[0]] != _INT8:
                continue
            if _RAW_DATA not in places:
                raise ValueError("int8 constants that are not stored as raw data")
            yield at_type[0], places[_RAW_DATA]


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of the fields of a message; a length-delimited one without its length.

    Source: Protocol Buffers, "Encoding".
    """
    at = begin
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            start = at
            _, at = _varint(data, at, end)
        elif wire == _LENGTH:
            size, start = _varint(data, at, end)
            at = start + size
        elif wire in _FIXED:
            start = at
            at += _FIXED[wire]
        else:
            raise ValueError(f"not an .onnx file: wire type {wire}")
        if at > end:
            raise ValueError("not an .onnx file: a field goes beyond its end")
        yield number, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not an .onnx file: a number does not end")
