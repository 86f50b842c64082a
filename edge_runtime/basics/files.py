"""Files that are whole or not there, and that one process holds at a time."""

from __future__ import annotations

import contextlib
import os
import threading

# To open a file that lines are appended to: bytes as they are, on Windows too.
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


def write_whole(path: str, data: bytes) -> None:
    """Write so that after a power cut the file is the old one, the new one, or not there.

    Raises:
        OSError: It cannot be written; what stood there stays.
    """
    temporary = f"{path}.{threading.get_ident()}.part"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(os.path.dirname(path) or ".")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync_folder(path: str) -> None:
    """Make sure that the names in a folder are on the disk."""
    if os.name == "nt":  # cannot open a folder, and does so by itself
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def hold(path: str) -> int | None:
    """Hold a lock file until its descriptor is closed or the process ends.

    Returns:
        The descriptor, or None where another process holds it.

    Raises:
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if hold_descriptor(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def hold_descriptor(descriptor: int) -> bool:
    """Hold an open file until its descriptor is closed; False where another process holds it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
