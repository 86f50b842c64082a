"""Structured report and evidence map of a record: into a folder, and to a node.

The UIDs follow from the image and from what judged it, so that an answer that is made or sent
again, after a crash or because the sender came twice, is known as the same object.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable
from typing import Any

import pydicom
from pydicom.filewriter import dcmwrite
from pynetdicom import AE
from pynetdicom.sop_class import EnhancedSRStorage, SecondaryCaptureImageStorage

from edge_runtime.basics.files import write_whole
from edge_runtime.basics.frozen import frozen
from edge_runtime.records.record import Examination
from edge_runtime.services.dicom.objects import make_report, make_secondary_capture

SUCCESS = 0x0000
_SENT = (SecondaryCaptureImageStorage, EnhancedSRStorage)
_NETWORK_SECONDS = 30


@frozen
class Destination:
    """Where results are sent to."""

    host: str
    port: int
    ae_title: str


class Answers:
    """What is answered to an image."""

    def __init__(
        self,
        folder: str | None,
        destination: Destination | None,
        ae_title: str,
        on_problem: Callable[[str], None],
    ) -> None:
        """As asked for.

        Args:
            folder: For SR and Secondary Capture; None: no files.
            destination: A node for them; None: they are not sent.
            ae_title: Of ours.
            on_problem: Called with what an operator should know.

        Raises:
            OSError: What an earlier process left half written cannot be removed.
        """
        self._folder, self._destination, self._title = folder, destination, ae_title
        self._on_problem = on_problem
        if folder:
            for path in glob.glob(os.path.join(glob.escape(folder), "*.dcm.*.part")):
                os.unlink(path)  # the end came while it was written

    @property
    def wanted(self) -> bool:
        return bool(self._folder or self._destination)

    def give(self, path: str, examination: Examination) -> bool:
        """Answer the image in a file; nothing where it gave an error.

        Returns:
            Whether all that is wanted is on the disk and delivered.

        Raises:
            OSError: The folder cannot be written.
        """
        if examination.record.status == "error" or not self.wanted:
            return True
        try:
            source = pydicom.dcmread(path, stop_before_pixels=True)
            objects = {"sr": make_report(source, examination)}
            if examination.record.status == "ok":
                objects["sc"] = make_secondary_capture(source, examination)
        except Exception as error:  # an object without the attributes a PACS files by
            # The class alone: messages of the DICOM library quote values.
            self._on_problem(f"no report could be made ({type(error).__name__})")
            return True  # nor can it be another time
        if self._folder:
            stem = (examination.record.sha256 or "")[:16]
            for kind, dataset in objects.items():
                target = os.path.join(self._folder, f"{stem}-{kind}.dcm")
                if not os.path.exists(target):
                    buffer = io.BytesIO()
                    dcmwrite(buffer, dataset, enforce_file_format=True)
                    write_whole(target, buffer.getvalue())
        return self._destination is None or self._send(list(objects.values()), self._destination)

    def _send(self, objects: list[Any], destination: Destination) -> bool:
        entity = AE(ae_title=self._title)
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = _NETWORK_SECONDS
        entity.connection_timeout = _NETWORK_SECONDS
        for uid in _SENT:
            entity.add_requested_context(uid)
        association = entity.associate(
            destination.host, destination.port, ae_title=destination.ae_title
        )
        if not association.is_established:
            self._on_problem(f"{destination.ae_title} does not take results now; tried again later")
            return False
        try:
            for dataset in objects:
                status = association.send_c_store(dataset)
                if not status or status.Status != SUCCESS:
                    self._on_problem(f"{destination.ae_title} refused a result; tried again later")
                    return False
        finally:
            association.release()
        return True
