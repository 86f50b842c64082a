"""What a peer can make us hold while it sends: files on the disk, and little memory.

pynetdicom collects each object in memory, believes every length it is told, and takes objects
without end. Here objects go to a folder as they come, and what is larger than any film ends its
association.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import weakref
from collections.abc import Callable
from typing import Any

from pynetdicom import _config, evt
from pynetdicom.transport import AssociationSocket

from edge_runtime.images.file import MAX_FILE_BYTES

_LONGEST_PDU = 1 << 20  # bytes; peers are told to send 16 kB at most (PS3.8 D.1)
_ABANDONED_SECONDS = 300


class Reception:
    """The folder of objects that are on their way, and the limits."""

    def __init__(self, folder: str, on_problem: Callable[[str], None]) -> None:
        """Empty the folder, and make pynetdicom receive into it.

        Raises:
            OSError: The folder cannot be made.
        """
        self._folder, self._on_problem = folder, on_problem
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.clear(0)
        self._received: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._before = _config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir
        _config.STORE_RECV_CHUNKED_DATASET = True
        tempfile.tempdir = folder  # where pynetdicom has no setting of its own
        AssociationSocket.recv = _bounded(AssociationSocket.recv)

    def close(self) -> None:
        """Give back what is the whole process's."""
        _config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir = self._before

    @property
    def handlers(self) -> list[tuple[Any, Callable[[Any], None]]]:
        return [(evt.EVT_DATA_RECV, self._count)]

    def clear(self, seconds: float = _ABANDONED_SECONDS) -> None:
        """Remove what nobody has written to for so long: its association has ended."""
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime >= seconds:
                    os.unlink(entry.path)

    def begin(self, association: Any) -> None:
        """An object was whole: the count begins again."""
        self._received[association] = 0

    def _count(self, event: Any) -> None:
        association = event.assoc
        total = self._received.get(association, 0) + len(event.data)
        self._received[association] = total
        if total > MAX_FILE_BYTES + _LONGEST_PDU and association.dul.socket is not None:
            self._on_problem(f"an object of more than {MAX_FILE_BYTES} bytes was refused")
            # Not an A-ABORT, which would go on reading until the peer has heard it.
            association.dul.socket.close()


def _bounded(recv: Callable[[Any, int], bytearray]) -> Callable[[Any, int], bytearray]:
    if getattr(recv, "is_bounded", False):
        return recv

    def bounded(self: Any, nr_bytes: int) -> bytearray:
        # Fewer bytes than were asked for are a connection that ended.
        return bytearray() if nr_bytes > _LONGEST_PDU else recv(self, nr_bytes)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    return bounded
