"""The bytes of a file, and the hash by which records know them."""

from __future__ import annotations

import hashlib
import os
import stat

from edge_runtime.errors import ErrorCode, ImageError

MAX_FILE_BYTES = 256_000_000
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file as records show it.

    Raises:
        ImageError: It cannot be read.
    """
    return sha256(read_file(path))


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The whole file.

    Raises:
        ImageError: It cannot be read, or is larger than any radiograph.
    """
    try:
        descriptor = os.open(path, _READ_ONLY)
        try:
            status = os.fstat(descriptor)
            if status.st_size > MAX_FILE_BYTES:
                raise ImageError(
                    ErrorCode.FILE_TOO_LARGE,
                    f"{status.st_size} bytes is more than the limit of {MAX_FILE_BYTES}",
                )
            # One byte more than there are: where they come without it, that was the whole file.
            data = os.read(descriptor, status.st_size + 1)
            if len(data) != status.st_size or not stat.S_ISREG(status.st_mode):
                # A pipe or a device has no size and may have no end.
                with open(descriptor, "rb", closefd=False) as file:
                    data += file.read(MAX_FILE_BYTES + 1 - len(data))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageError(
            ErrorCode.UNREADABLE_FILE, error.strerror or type(error).__name__
        ) from error
    except ValueError as error:  # a path with a NUL in it
        raise ImageError(ErrorCode.UNREADABLE_FILE, str(error)) from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(ErrorCode.FILE_TOO_LARGE, f"more than the limit of {MAX_FILE_BYTES} bytes")
    return data
