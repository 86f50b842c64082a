"""A DICOM storage SCP that screens what it receives.

    C-STORE -> spool (written whole, synced) -> success to the sender -> screened -> record
            -> Secondary Capture and SR into a folder, and to a node if one is configured

The sender hears "success" only when the object is on the disk here. What lies in the spool when the
process ends is screened by the next one. An object leaves the spool when its record and its answers
are on the disk, and delivered where that is asked for: what cannot be delivered is tried again. An
object on which the process ended twice is set aside (edge_runtime.services.attempts).

Source: DICOM PS3.4 B (storage), A (verification); PS3.7 for status codes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import pydicom
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    Verification,
)

from edge_runtime.basics.files import sync_folder
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import CxrEdgeError, InvalidValueError
from edge_runtime.records.record import Examination, Record
from edge_runtime.records.resume import open_output
from edge_runtime.screener import Screener
from edge_runtime.services.attempts import Attempts, given_up
from edge_runtime.services.dicom.answers import SUCCESS, Answers, Destination
from edge_runtime.services.dicom.reception import Reception

_OUT_OF_RESOURCES = 0xA700
_CANNOT_UNDERSTAND = 0xC000
_RECEIVED = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
_SOONEST_RETRY, _LATEST_RETRY = 15.0, 600.0  # seconds


@frozen
class NodeSettings:
    spool: str
    output: str
    host: str = "127.0.0.1"
    port: int = 11112
    ae_title: str = "CXREDGE"
    allowed: tuple[str, ...] = ()  # calling AE titles; empty: any
    associations: int = 16
    objects: str | None = None  # folder for SR and Secondary Capture
    keep: str | None = None  # folder for received objects; None: they are removed
    destination: Destination | None = None
    workers: int = 2
    soonest_retry: float = _SOONEST_RETRY  # seconds until what could not be delivered goes again


class DicomNode:
    """Receives, screens, answers. `start`, then `stop`."""

    def __init__(
        self,
        screener: Screener,
        settings: NodeSettings,
        on_record: Callable[[Record], None] = lambda record: None,
        on_problem: Callable[[str], None] = lambda text: None,
        before_record: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """Open spool and output.

        Args:
            screener: Judges the objects.
            settings: Addresses, folders, limits.
            on_record: Called when a record is on the disk.
            on_problem: Called with what an operator should know.
            before_record: Called before a record is written (an audit log).

        Raises:
            InvalidValueError: A folder cannot be made, or the output is of another model.
            OutputError: The output cannot be written.
        """
        self._screener, self._settings = screener, settings
        self._on_record, self._on_problem = on_record, on_problem
        self._aside = os.path.join(settings.spool, "set-aside")
        self._writer, done = open_output(
            settings.output, "jsonl", screener.conditions, before_record
        )
        self._done = {sha256 for _, sha256 in done}  # content that has its record already
        try:
            for folder in (settings.spool, settings.objects, settings.keep):
                if folder:
                    os.makedirs(folder, exist_ok=True)
            self._attempts = Attempts(os.path.join(settings.spool, "attempts"))
            self._answers = Answers(
                settings.objects, settings.destination, settings.ae_title, on_problem
            )
            self._reception = Reception(os.path.join(settings.spool, "incoming"), on_problem)
        except OSError as error:
            self._writer.close()
            raise InvalidValueError(f"{error.filename}: {error.strerror}") from error
        self._writing = threading.Lock()
        self._in_hand: set[str] = set()
        self._todo: queue.Queue[str | None] = queue.Queue()
        self._later: list[str] = []  # what has its record and could not be delivered
        self._stopping = threading.Event()
        self._server: Any = None
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The port in use, also where 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen, and take up what lies in the spool.

        Raises:
            InvalidValueError: The address is in use.
        """
        settings = self._settings
        alone = []
        for name in sorted(os.listdir(settings.spool)):
            path = os.path.join(settings.spool, name)
            if not name.endswith(".dcm"):
                continue
            if name.removesuffix(".dcm") in self._attempts.suspects():
                alone.append(path)
            else:
                self._todo.put(path)
        cleared = threading.Event()
        for number in range(settings.workers):
            thread = threading.Thread(
                target=self._work, args=(number == 0, alone, cleared), name=f"dicom-{number}"
            )
            thread.start()
            self._threads.append(thread)
        retrying = threading.Thread(target=self._retry, name="dicom-retry")
        retrying.start()
        self._threads.append(retrying)
        entity = AE(ae_title=settings.ae_title)
        entity.maximum_associations = settings.associations
        entity.network_timeout = entity.dimse_timeout = 30
        entity.acse_timeout = 10  # who connects and asks for nothing keeps others out for so long
        entity.require_called_aet = False
        if settings.allowed:
            entity.require_calling_aet = list(settings.allowed)
        entity.add_supported_context(Verification)
        for uid in _RECEIVED:
            entity.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            *self._reception.handlers,
        ]
        try:
            self._server = entity.start_server(
                (settings.host, settings.port), block=False, evt_handlers=handlers
            )
        except OSError as error:
            self.stop()
            raise InvalidValueError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
            ) from error

    def stop(self) -> None:
        """End associations, screen what was accepted, close the output."""
        if self._server is not None:
            self._server.shutdown()
        self._stopping.set()
        for _ in range(self._settings.workers):
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._writer.close()
        self._attempts.close()
        self._reception.close()

    def wait_until_idle(self) -> None:
        """Until everything that was accepted so far has its record."""
        self._todo.join()

    def _store(self, event: Any) -> int:
        """One C-STORE: on the disk before the sender hears of success."""
        self._reception.begin(event.assoc)
        try:
            received = os.fspath(event.dataset_path)
        except Exception:  # whatever a malformed request makes pynetdicom raise
            self._on_problem("a C-STORE request could not be understood")
            return _CANNOT_UNDERSTAND
        try:
            path = os.path.join(self._settings.spool, f"{_sync_and_hash(received)}.dcm")
            os.replace(received, path)
            sync_folder(self._settings.spool)
        except OSError as error:
            self._on_problem(f"the spool cannot be written: {error.strerror}")
            return _OUT_OF_RESOURCES
        self._todo.put(path)
        return SUCCESS

    def _work(self, first: bool, alone: list[str], cleared: threading.Event) -> None:
        """Screen until told to stop; the first worker begins with what may end the process."""
        if first:
            for path in alone:
                self._screen_one(path)
            cleared.set()
        cleared.wait()
        while (path := self._todo.get()) is not None:  # type: ignore[assignment]
            try:
                self._screen_one(path)
            finally:
                self._todo.task_done()
        self._todo.task_done()

    def _screen_one(self, path: str) -> None:
        with self._writing:
            if path in self._in_hand:
                return  # the same object came twice, and another worker has it
            self._in_hand.add(path)
        try:
            self._screen(path)
        except Exception as error:  # one object must not end the worker; it stays in the spool
            # What is ours to say keeps values to itself; what others say may quote them.
            said = error if isinstance(error, (CxrEdgeError, OSError)) else "tried again later"
            self._on_problem(f"{os.path.basename(path)[:16]}: {type(error).__name__}: {said}")
            self._postpone(path)
        finally:
            with self._writing:
                self._in_hand.discard(path)

    def _screen(self, path: str) -> None:
        digest = os.path.basename(path).removesuffix(".dcm")
        if self._attempts.is_given_up(digest):
            self._set_aside(path, digest)
            return
        if not os.path.exists(path):
            return  # the same object came twice and is done
        if digest in self._done and not self._answers.wanted:
            self._put_away(path)
            return
        with self._attempts.attempt(digest):
            # By its path, so that of a large film not more is in memory than decoding needs.
            source = _instance_uid(path) or os.path.basename(path)
            examination = self._screener.examine(path, source)
        self._record(examination, digest)
        if self._answers.give(path, examination):
            self._put_away(path)
        else:
            self._postpone(path)

    def _record(self, examination: Examination, digest: str) -> None:
        with self._writing:
            if digest in self._done:
                return
            self._writer.write(examination.record)
            self._writer.sync()
            self._done.add(digest)
        self._on_record(examination.record)

    def _set_aside(self, path: str, digest: str) -> None:
        os.makedirs(self._aside, exist_ok=True)
        kept = os.path.join(self._aside, os.path.basename(path))
        # Recorded before it is moved: whatever comes between is made up for by the next start.
        record = self._screener.error_record(os.path.basename(path), digest, given_up())
        self._record(Examination(record), digest)
        os.replace(path, kept)
        self._attempts.done(digest)
        self._on_problem(f"{digest[:16]} ended the program twice: set aside as {kept}")

    def _postpone(self, path: str) -> None:
        with self._writing:
            self._later.append(path)

    def _retry(self) -> None:
        """Now and then take up what could not be delivered, and forget what was never finished."""
        pause = self._settings.soonest_retry
        while not self._stopping.wait(pause):
            self._reception.clear()
            with self._writing:
                waiting, self._later = self._later, []
            pause = min(2 * pause, _LATEST_RETRY) if waiting else self._settings.soonest_retry
            for path in waiting:
                self._todo.put(path)

    def _put_away(self, path: str) -> None:
        keep = self._settings.keep
        with contextlib.suppress(FileNotFoundError):  # the same object came twice
            if keep:
                os.replace(path, os.path.join(keep, os.path.basename(path)))
            else:
                os.unlink(path)


def _sync_and_hash(path: str) -> str:
    """SHA-256 of a file that is on the disk when this returns."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _instance_uid(path: str) -> str | None:
    with contextlib.suppress(Exception):  # damaged: the record is then named after the content
        return str(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPInstanceUID)
    return None
