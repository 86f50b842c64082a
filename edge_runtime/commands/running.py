"""What the verbs that keep running share: the self-test at the start, stopping, and their log."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import load_screener
from edge_runtime.records.output import printable
from edge_runtime.screener import Screener

_MOST_PLACES = 100


def add_log_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-json", action="store_true", help="log JSON lines on standard error, for a collector"
    )


def load_tested_screener(arguments: argparse.Namespace, parallel: int) -> Screener:
    """A screener that has met every known answer of its bundle on this machine.

    Raises:
        EngineError: An answer differs: a box that gives wrong scores must not go on working.
    """
    screener = load_screener(arguments, parallel)
    for answer in screener.bundle.manifest.known_answers[1:]:  # loading has checked the first
        screener.check_known_answer(answer)
    return screener


class Log:
    """One line per event on standard error, for people or as JSON."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._lock = threading.Lock()

    def say(self, event: str, text: str, **fields: object) -> None:
        """Log `text`; programs get the event's name and the fields. No patient data in either."""
        if self._json:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = json.dumps(
                {"time": stamp, "event": event, "text": text} | fields, ensure_ascii=False
            )
        else:
            line = printable(f"{time.strftime('%H:%M:%S')} {text}")
        with self._lock:
            tell(line)


def quiet_libraries(log: Log | None = None) -> None:
    """Warnings of libraries quote values of what they read, names of patients among them.

    Each place that warns is named once, without what it says.
    """
    told: set[tuple[str, int]] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        place = (os.path.basename(filename), lineno)
        if log is not None and place not in told and len(told) < _MOST_PLACES:
            told.add(place)
            log.say("library", f"{category.__name__} at {place[0]}:{lineno} (said once)")

    warnings.showwarning = show


class StopSignal:
    """Set by SIGTERM and Ctrl-C; a second one ends the process at once, as usual."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.event = threading.Event()
        self._then = then
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.event.set()
        self._then()
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_DFL)

    @property
    def is_set(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the signal; True if it has come."""
        return self.event.wait(seconds)
