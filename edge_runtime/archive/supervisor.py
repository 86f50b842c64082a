"""Feeds a screening process, and knows which film it was when that process ends or hangs.

Films are screened one after the other, so the guilty one is the one begun last. It gets a second
try in a fresh process; then it is set aside under its name, and the part goes on behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import CxrEdgeError

SECONDS = 300.0  # a film may take
_STARTING = 120.0  # a process may take until it is ready
_TRIES = 2
_READ = 1 << 16


class ProcessError(CxrEdgeError):
    """No screening process can be had: nothing can be screened on this machine."""


@frozen
class Settings:
    """What a screening process is started with; plain values, for it travels."""

    screener: Mapping[str, Any]  # arguments of `Screener.load`
    columns: tuple[str, ...]
    made_with: Mapping[str, Any]  # what every process has to find too
    seconds: float = SECONDS


@frozen
class Row:
    """A film's row."""

    item: Mapping[str, Any]
    row: Mapping[str, Any]


@frozen
class Same:
    """A film that has its row already, by content."""

    item: Mapping[str, Any]


class _EndedError(Exception):
    """The process is gone, or was ended for taking too long."""

    def __init__(self, hung: bool) -> None:
        super().__init__()
        self.hung = hung


class Supervisor:
    """One screening process at a time, started when it is needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: _Process | None = None

    def screen(self, items: Sequence[Mapping[str, Any]]) -> Iterator[Row | Same]:
        """One result for every film of the items, in their order.

        Raises:
            ProcessError: No process starts here, or it finds another model or engine.
        """
        at = _Position(items)
        while not at.is_done:
            try:
                process = self._ready()
                process.send({"items": at.rest()})
                while not at.is_done:
                    message = process.receive(self._settings.seconds)
                    if "row" in message:
                        item = at.item
                        at.film_done()
                        yield Row(item, message["row"])
                    elif "same" in message:
                        item = at.item
                        at.film_done()
                        yield Same(item)
                    elif "film" in message:
                        at.begin(message["film"])
                    elif "end" in message:
                        at.item_done()
            except _EndedError as error:
                self.close()
                if at.failed() < _TRIES:
                    continue
                yield Row(at.item, self._set_aside(at, error.hung))
                at.give_up()

    def _set_aside(self, at: _Position, hung: bool) -> Mapping[str, Any]:
        """The row of a film that has ended its process as often as it may."""
        for read in (True, False):  # to read it may be what ends it
            try:
                process = self._ready()
                process.send({"items": [at.only()], "set_aside": at.source, "read": read,
                              "seconds": self._settings.seconds if hung else None})  # fmt: skip
                row: Mapping[str, Any] = process.receive(self._settings.seconds)["row"]
            except _EndedError:
                self.close()
                continue
            return row
        raise ProcessError("the screening process ends whatever it is asked")

    def _ready(self) -> _Process:
        if self._process is None:
            for last in range(_TRIES, 0, -1):
                process = _Process()
                try:
                    process.send({"screener": self._settings.screener,
                                  "columns": self._settings.columns})  # fmt: skip
                    answer = process.receive(_STARTING)
                except _EndedError:
                    process.close()
                    if last == 1:
                        raise ProcessError("the screening process ends as it starts") from None
                    continue
                try:
                    if "fatal" in answer:
                        raise ProcessError(answer["fatal"])
                    self._check(answer["ready"])
                except ProcessError:
                    process.close()
                    raise
                self._process = process
                break
        assert self._process is not None
        return self._process

    def _check(self, found: Mapping[str, Any]) -> None:
        for name, wanted in self._settings.made_with.items():
            if found.get(name) != wanted:
                raise ProcessError(
                    f"{name} is {found.get(name)} on this machine, and {wanted} where the run was "
                    "started; the results would not belong together"
                )

    def close(self) -> None:
        """End the process; the next film starts another."""
        if self._process is not None:
            self._process.close()
            self._process = None


class _Position:
    """Where in the items a process is, or was when it ended."""

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._items, self._index = items, 0
        self._films = 0  # of the current item that are done
        self._failures = 0  # since the last film or item was done
        self.source, self.begun = "", False
        self._enter()

    def _enter(self) -> None:
        self._films, self._failures, self.begun = 0, 0, False
        if not self.is_done:
            self.source = self.item["source"]

    @property
    def is_done(self) -> bool:
        return self._index >= len(self._items)

    @property
    def item(self) -> Mapping[str, Any]:
        return self._items[self._index]

    def rest(self) -> list[Mapping[str, Any]]:
        """What is still to be done; of a shard that was begun, from its next film on."""
        self.begun = False
        first = {**self.item, "skip": self._films}
        return [first, *self._items[self._index + 1 :]]

    def only(self) -> Mapping[str, Any]:
        """The film that was begun last."""
        return {**self.item, "skip": self._films}

    def begin(self, source: str) -> None:
        self.source, self.begun = source, True

    def film_done(self) -> None:
        self._films += 1
        self._failures, self.begun = 0, False
        self.source = self.item["source"]

    def item_done(self) -> None:
        self._index += 1
        self._enter()

    def give_up(self) -> None:
        """Go on behind the film; behind the item, where it ended before a film of it began."""
        if self.begun and self.item["shard"]:
            self.film_done()
        else:
            self.item_done()

    def failed(self) -> int:
        """Count a process that ended here; how often that was."""
        self._failures += 1
        return self._failures


class _Process:
    """A screening process with its pipes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.archive.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is its actor's
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._lines: list[bytes] = []
        self._rest = b""

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise _EndedError(hung=False) from None

    def receive(self, seconds: float) -> dict[str, Any]:
        """The next message, waited for so long."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while not self._lines:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise _EndedError(hung=True)
            data = os.read(descriptor, _READ)
            if not data:
                raise _EndedError(hung=False)
            *self._lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.reverse()
        found: dict[str, Any] = json.loads(self._lines.pop())
        return found

    def close(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.wait()
