"""What a client can hold without asking for anything: one of so many connections, for seconds.

uvicorn waits for the rest of a request's head without end, and takes connections until the system
gives no more descriptors.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS = 10.0  # from the connection, or the first byte of a further request, to its body
_MOST_CONNECTIONS = 1000
_OWN_DESCRIPTORS = 64  # model, logs, audit, uploads that wait on the disk
_LINES_PER_MINUTE = 10


def most_connections() -> int:
    """Fewer than there are descriptors."""
    try:
        import resource
    except ImportError:  # not on Windows
        return _MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(8, min(_MOST_CONNECTIONS, soft - _OWN_DESCRIPTORS))


def bounded_protocol(limit: int, head_seconds: float = HEAD_SECONDS) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol with both limits, for `uvicorn.Config(http=...)`."""
    base: Any = AutoHTTPProtocol

    class Bounded(base):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > limit:
                transport.abort()
            else:
                self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._is_idle():
                self._forget_deadline()
            elif self._deadline is None:
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_deadline()
            super().connection_lost(exc)

        def _is_idle(self) -> bool:
            return self.cycle is None or bool(self.cycle.response_complete)

        def _await_head(self) -> None:
            self._deadline = self.loop.call_later(head_seconds, self._is_late)

        def _forget_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _is_late(self) -> None:
            self._deadline = None
            if self._is_idle():
                self.transport.abort()

    return Bounded


class LimitedLog(logging.Handler):
    """What uvicorn and asyncio have to say: its first line, a few a minute, without tracebacks."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._minute, self._lines, self._left_out = 0.0, 0, 0

    def attach(self) -> None:
        """Take the place of what these loggers would do by themselves."""
        for name in ("uvicorn", "uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], False
            logger.setLevel(logging.WARNING)
        for name in ("uvicorn", "asyncio"):
            logging.getLogger(name).addHandler(self)
        logging.getLogger("uvicorn.error").propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._minute >= 60:
            if self._left_out:
                self._say(f"{self._left_out} further lines of the server were left out")
            self._minute, self._lines, self._left_out = now, 0, 0
        self._lines += 1
        if self._lines > _LINES_PER_MINUTE:
            self._left_out += 1
            return
        first = (record.getMessage().splitlines() or [""])[0][:200]
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        self._say(f"{first} {error}".strip())
