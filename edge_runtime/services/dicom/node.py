"""A DICOM storage SCP that screens what it receives.

    C-STORE -> spool (written whole, synced) -> success to the sender -> screened -> record
            -> Secondary Capture and SR into a folder, and to a node if one is configured

The sender hears "success" only when the object is on the disk here. What lies in the spool when the
process ends is screened by the next one; an object leaves the spool after its record is written.

Source: DICOM PS3.4 B (storage), A (verification); PS3.7 for status codes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import pydicom
from pydicom.filewriter import dcmwrite
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from edge_runtime.basics.files import write_whole
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import ErrorCode, ImageError, InvalidValueError
from edge_runtime.images.file import MAX_FILE_BYTES, read_file
from edge_runtime.records.record import Examination, Record
from edge_runtime.records.resume import open_output
from edge_runtime.screener import Screener
from edge_runtime.services.dicom.objects import make_report, make_secondary_capture

_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700
_CANNOT_UNDERSTAND = 0xC000
_RECEIVED = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
_SENT = (SecondaryCaptureImageStorage, EnhancedSRStorage)


@frozen
class Destination:
    """Where results are sent to."""

    host: str
    port: int
    ae_title: str


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
        try:
            for folder in (settings.spool, settings.objects, settings.keep):
                if folder:
                    os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise InvalidValueError(f"{error.filename}: {error.strerror}") from error
        self._writer, done = open_output(
            settings.output, "jsonl", screener.conditions, before_record
        )
        self._done = {sha256 for _, sha256 in done}  # content that has its record already
        self._writing = threading.Lock()
        self._todo: queue.Queue[str | None] = queue.Queue()
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
        for name in sorted(os.listdir(settings.spool)):
            path = os.path.join(settings.spool, name)
            if name.removesuffix(".dcm") in self._done:
                self._put_away(path)  # the end came between its record and this
            elif name.endswith(".dcm"):
                self._todo.put(path)
            elif name.endswith(".part"):  # its sender was told nothing
                os.unlink(path)
        for number in range(settings.workers):
            thread = threading.Thread(target=self._work, name=f"dicom-{number}")
            thread.start()
            self._threads.append(thread)
        entity = AE(ae_title=settings.ae_title)
        entity.maximum_associations = settings.associations
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = 30
        entity.require_called_aet = False
        if settings.allowed:
            entity.require_calling_aet = list(settings.allowed)
        entity.add_supported_context(Verification)
        for uid in _RECEIVED:
            entity.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
        try:
            self._server = entity.start_server(
                (settings.host, settings.port),
                block=False,
                evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _: _SUCCESS)],
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
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._writer.close()

    def wait_until_idle(self) -> None:
        """Until everything that was accepted so far has its record."""
        self._todo.join()

    def _store(self, event: Any) -> int:
        """One C-STORE: on the disk before the sender hears of success."""
        try:
            data = _file_bytes(event)
        except Exception:  # whatever a malformed request makes pynetdicom raise
            self._on_problem("a C-STORE request could not be understood")
            return _CANNOT_UNDERSTAND
        if len(data) > MAX_FILE_BYTES:
            self._on_problem(f"an object of {len(data)} bytes was refused")
            return _OUT_OF_RESOURCES
        digest = hashlib.sha256(data).hexdigest()
        path = os.path.join(self._settings.spool, f"{digest}.dcm")
        try:
            write_whole(path, data)
        except OSError as error:
            self._on_problem(f"the spool cannot be written: {error.strerror}")
            return _OUT_OF_RESOURCES
        self._todo.put(path)
        return _SUCCESS

    def _work(self) -> None:
        while (path := self._todo.get()) is not None:
            try:
                self._screen(path)
            except Exception as error:  # one object must not end the worker; it stays in the spool
                self._on_problem(f"{os.path.basename(path)[:16]}: {type(error).__name__}: {error}")
            finally:
                self._todo.task_done()
        self._todo.task_done()

    def _screen(self, path: str) -> None:
        try:
            data = read_file(path)
        except ImageError as error:
            if error.code is ErrorCode.UNREADABLE_FILE and not os.path.exists(path):
                return  # the same object came twice and is done
            raise
        source = _instance_uid(data) or os.path.basename(path)
        examination = self._screener.examine(data, source)
        with self._writing:
            self._writer.write(examination.record)
            self._writer.sync()
        self._on_record(examination.record)
        self._answer(data, examination)
        self._put_away(path)

    def _put_away(self, path: str) -> None:
        keep = self._settings.keep
        with contextlib.suppress(FileNotFoundError):  # the same object came twice
            if keep:
                os.replace(path, os.path.join(keep, os.path.basename(path)))
            else:
                os.unlink(path)

    def _answer(self, data: bytes, examination: Examination) -> None:
        """SR and Secondary Capture of what could be screened; a failure here is only reported."""
        settings = self._settings
        if examination.record.status == "error" or not (settings.objects or settings.destination):
            return
        try:
            source = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            objects = {"sr": make_report(source, examination)}
            if examination.record.status == "ok":
                objects["sc"] = make_secondary_capture(source, examination)
        except Exception as error:  # an object without the attributes a PACS files by
            self._on_problem(f"no report could be made: {type(error).__name__}: {error}")
            return
        if settings.objects:
            stem = (examination.record.sha256 or "")[:16]
            for kind, dataset in objects.items():
                buffer = io.BytesIO()
                dcmwrite(buffer, dataset, enforce_file_format=True)
                target = os.path.join(settings.objects, f"{stem}-{kind}.dcm")
                write_whole(target, buffer.getvalue())
        if settings.destination:
            self._send(list(objects.values()), settings.destination)

    def _send(self, objects: list[Any], destination: Destination) -> None:
        entity = AE(ae_title=self._settings.ae_title)
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = 30
        for uid in _SENT:
            entity.add_requested_context(uid)
        association = entity.associate(
            destination.host, destination.port, ae_title=destination.ae_title
        )
        if not association.is_established:
            self._on_problem(f"{destination.ae_title} does not take results; they are not sent")
            return
        try:
            for dataset in objects:
                status = association.send_c_store(dataset)
                if not status or status.Status != _SUCCESS:
                    self._on_problem(f"{destination.ae_title} refused a result")
        finally:
            association.release()


def _file_bytes(event: Any) -> bytes:
    """The received data set as a DICOM file, byte for byte as it came: nothing is decoded here."""
    meta = event.file_meta
    buffer = io.BytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(buffer, meta)
    buffer.write(event.request.DataSet.getvalue())
    return buffer.getvalue()


def _instance_uid(data: bytes) -> str | None:
    with contextlib.suppress(Exception):  # damaged: the record is then named after the content
        meta = pydicom.dcmread(io.BytesIO(data), specific_tags=["SOPInstanceUID"]).file_meta
        return str(meta.MediaStorageSOPInstanceUID)
    return None
