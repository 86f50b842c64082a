"""The bytes of a file, and the hash by which records know them."""

from __future__ import annotations

import hashlib
import os

from edge_runtime.basics.regular_file import TooLargeError, read_regular
from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.memory import MOST_BYTES

MAX_FILE_BYTES = MOST_BYTES  # a larger one could not be decoded


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file as records show it.

    Raises:
        ImageError: It cannot be read.
    """
    return sha256(read_file(path))


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The whole file, as long as it is now.

    Raises:
        ImageError: It cannot be read, is no regular file (a pipe or a device may have no end), or
            is larger than any radiograph.
    """
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ImageError(
            ErrorCode.UNREADABLE_FILE, error.strerror or type(error).__name__
        ) from error
    except ValueError as error:  # a path with a NUL in it
        raise ImageError(ErrorCode.UNREADABLE_FILE, str(error)) from error
    except TooLargeError as error:
        raise ImageError(ErrorCode.FILE_TOO_LARGE, str(error)) from error
