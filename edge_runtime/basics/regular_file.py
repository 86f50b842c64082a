"""Read a file that somebody named, and nothing that only looks like one."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

# Not blocking: opening a pipe would wait for somebody to write into it.
_READ_ONLY = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


class TooLargeError(Exception):
    """The file has more bytes than are wanted."""


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a regular file, as many as it has when it is opened.

    Raises:
        OSError: It cannot be opened or read, or is a folder, a pipe, a socket or a device.
        ValueError: No path at all.
        TooLargeError: More than `most` bytes.
    """
    descriptor = _opened(path)
    try:
        status = os.fstat(descriptor)
        if status.st_size > most:
            raise TooLargeError(f"{status.st_size} bytes is more than the limit of {most}")
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size:  # the system may give less than was asked for
            more = os.read(descriptor, status.st_size - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(descriptor)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, to be read.

    Raises:
        OSError: As for `read_regular`.
        ValueError: No path at all.
    """
    return os.fdopen(_opened(path), "rb")


def _opened(path: str | os.PathLike[str]) -> int:
    # Looked at first: some devices do something when they are opened.
    _check(os.stat(path), path)
    descriptor = os.open(path, _READ_ONLY)
    try:
        _check(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file but a pipe, a socket or a device")
