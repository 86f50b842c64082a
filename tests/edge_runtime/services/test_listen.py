"""`cxr-edge listen`: what a clinic's X-ray machine sends is screened, and nothing is lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    DigitalXRayImageStorageForPresentation,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from edge_runtime import Screener
from edge_runtime.cli import main
from edge_runtime.commands.listen import _destination
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.services.dicom.node import DicomNode, NodeSettings
from tests.edge_runtime.services.conftest import records, running


def make_dicom(path: Path, seed: int, corrupt: bool = False) -> Path:
    """A digital X-ray object of a made-up child, as valid as dciodvfy wants its source."""
    pixels = draw_phantom(seed, bool(seed % 2), 260, 280)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID = "Doe^Secret", "SECRET-7"
    dataset.PatientBirthDate, dataset.PatientSex = "20240101", "F"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StudyDate, dataset.StudyTime = "20261101", "120000"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "A1", ""
    dataset.Modality, dataset.ViewPosition, dataset.SeriesNumber = "DX", "AP", 1
    dataset.PatientAge, dataset.BodyPartExamined = "003Y", "CHEST"
    dataset.InstanceNumber = 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    content = pixels.tobytes()
    # Half the pixels are missing: it travels, and cannot be decoded.
    dataset.PixelData = content[: len(content) // 4 * 2] if corrupt else content
    dataset.save_as(path, enforce_file_format=True)
    return path


def listen(tmp_path: Path, *options: object) -> Any:
    return running(
        "listen", "--port", 0, "--spool", tmp_path / "spool", "--output", tmp_path / "out.jsonl",
        "--force", *options,
    )  # fmt: skip


def wait_for_records(path: Path, count: int, seconds: float = 90) -> list[dict[str, Any]]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return records(path)
        time.sleep(0.05)
    raise AssertionError(f"{path.read_bytes().count(10) if path.exists() else 0} of {count}")


def send(port: int, files: list[Path], title: str = "MODALITY") -> list[int]:
    """By pynetdicom's own client; the statuses."""
    entity = AE(ae_title=title)
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="CXREDGE")
    if not association.is_established:
        return []
    statuses = [association.send_c_store(str(file)).Status for file in files]
    association.release()
    return statuses


def test_echo_store_report_and_privacy(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", 1)
    with listen(tmp_path, "--objects", tmp_path / "objects") as process:
        port = process.ready["port"]
        entity = AE()
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", port)
        assert association.send_c_echo().Status == 0
        association.release()
        assert send(port, [path]) == [0]
        (record,) = wait_for_records(tmp_path / "out.jsonl", 1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    source = pydicom.dcmread(path)
    assert record["status"] == "ok" and record["source"] == str(source.SOPInstanceUID)
    assert "SECRET" not in log and "Doe" not in log and str(source.SOPInstanceUID) not in log
    assert not any(
        path.stat().st_size for path in (tmp_path / "spool").rglob("*") if path.is_file()
    )
    for path in (tmp_path / "out.jsonl", *(tmp_path / "objects").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, "results are the owner's alone"
    objects = {p.name[-6:-4]: pydicom.dcmread(p) for p in (tmp_path / "objects").iterdir()}
    report, capture = objects["sr"], objects["sc"]
    assert report.SOPClassUID == EnhancedSRStorage
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    for result in (report, capture):
        assert result.StudyInstanceUID == source.StudyInstanceUID
        assert result.PatientID == "SECRET-7"
    numbers = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in report.ContentSequence
        if item.ValueType == "NUM"
    ]
    assert numbers[0] == pytest.approx(record["probability"])
    assert capture.pixel_array.shape == (capture.Rows, capture.Columns, 3)
    assert np.ptp(capture.pixel_array) > 0


@pytest.mark.slow
def test_objects_pass_the_validators(tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None or shutil.which("dcmdump") is None:
        pytest.skip("no dciodvfy or dcmdump here (Debian: apt install dicom3tools dcmtk)")
    files = [make_dicom(tmp_path / f"{i}.dcm", i) for i in range(2)]
    with listen(tmp_path, "--objects", tmp_path / "objects") as process:
        assert send(process.ready["port"], files) == [0, 0]
        wait_for_records(tmp_path / "out.jsonl", 2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    objects = sorted((tmp_path / "objects").iterdir())
    assert len(objects) == 4
    for path in objects:
        dump = subprocess.run(["dcmdump", path], capture_output=True, check=True)
        assert b"SOPInstanceUID" in dump.stdout
        checked = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], path.name


@pytest.mark.slow
def test_200_images_over_8_associations_5_of_them_corrupt(tmp_path: Path) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("no storescu here (Debian: apt install dcmtk)")
    folders = [tmp_path / f"study{i}" for i in range(8)]
    for i, folder in enumerate(folders):
        folder.mkdir()
        for j in range(25):
            make_dicom(folder / f"{j}.dcm", 25 * i + j, corrupt=i < 5 and j == 12)
    with listen(tmp_path, "--objects", tmp_path / "objects") as process:
        port = process.ready["port"]

        def store(folder: Path) -> int:
            command = ["storescu", "-aec", "CXREDGE", "127.0.0.1", str(port), "+sd", str(folder)]
            return subprocess.run(command, capture_output=True, check=False).returncode

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(store, folders)) == [0] * 8
        found = wait_for_records(tmp_path / "out.jsonl", 200)
        if shutil.which("echoscu"):
            subprocess.run(["echoscu", "127.0.0.1", str(port)], check=True)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    statuses = [record["status"] for record in found]
    assert (statuses.count("ok"), statuses.count("error")) == (195, 5)
    assert len({record["source"] for record in found}) == 200
    names = [p.name for p in (tmp_path / "objects").iterdir()]
    assert sum(n.endswith("-sr.dcm") for n in names) == 195
    assert sum(n.endswith("-sc.dcm") for n in names) == 195


@contextlib.contextmanager
def archive(answer: Callable[[], int] = lambda: 0) -> Iterator[tuple[str, list[str]]]:
    """A node that takes results: its address, and the SOP Instance UIDs that came."""
    received: list[str] = []

    def store(event: Any) -> int:
        status = answer()
        if status == 0:
            received.append(str(event.request.AffectedSOPInstanceUID))
        return status

    entity = AE(ae_title="PACS")
    entity.add_supported_context(EnhancedSRStorage)
    entity.add_supported_context(SecondaryCaptureImageStorage)
    handlers = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"PACS@127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_kills_lose_nothing_and_answer_once(tmp_path: Path) -> None:
    """Killed at any moment: each accepted object has one record, its answers, and one UID each.

    CXR_EDGE_KILLS=100 is the full form.
    """
    rng = random.Random(1)
    accepted: list[str] = []
    number = 0
    with archive() as (target, received):
        options = ["--objects", tmp_path / "objects", "--send-to", target]
        for _ in range(int(os.environ.get("CXR_EDGE_KILLS", "4"))):
            with listen(tmp_path, *options) as process:
                end = time.monotonic() + rng.uniform(0.1, 1.0)
                while time.monotonic() < end:
                    number += 1
                    file = make_dicom(tmp_path / "a.dcm", number)
                    if send(process.ready["port"], [file]) == [0]:
                        accepted.append(str(pydicom.dcmread(file).SOPInstanceUID))
                process.kill()
                process.wait()
        with listen(tmp_path, *options):
            wait_until(lambda: not list((tmp_path / "spool").glob("*.dcm")))
    found = records(tmp_path / "out.jsonl")
    sources = [record["source"] for record in found]
    assert len(accepted) >= 4
    assert set(sources) >= set(accepted)
    assert len(sources) == len(set(sources)), "one record each"
    answered = {p.name for p in (tmp_path / "objects").iterdir()}
    assert all(name.endswith(".dcm") for name in answered), "nothing is left half written"
    for record in found:
        if record["status"] == "ok":
            assert {f"{record['sha256'][:16]}-{kind}.dcm" for kind in ("sr", "sc")} <= answered
    uids = {str(pydicom.dcmread(p).SOPInstanceUID) for p in (tmp_path / "objects").iterdir()}
    assert set(received) == uids, "what was sent twice has the same UID"


def test_what_cannot_be_delivered_waits_in_the_spool(tmp_path: Path) -> None:
    statuses = iter([0xA700, 0xA700])
    with archive(lambda: next(statuses, 0)) as (target, received):
        path = make_dicom(tmp_path / "a.dcm", 1)
        settings = NodeSettings(
            str(tmp_path / "spool"), str(tmp_path / "out.jsonl"), port=0, soonest_retry=0.2,
            destination=_destination(target),
        )  # fmt: skip
        problems: list[str] = []
        node = DicomNode(Screener.load(force=True), settings, on_problem=problems.append)
        node.start()
        try:
            assert send(node.port, [path]) == [0]
            wait_until(lambda: len(set(received)) == 2)
            wait_until(lambda: not list((tmp_path / "spool").glob("*.dcm")))
            assert send(node.port, [path]) == [0], "the sender comes again"
            wait_until(lambda: len(received) >= 4)
        finally:
            node.stop()
    assert len(records(tmp_path / "out.jsonl")) == 1
    assert len(set(received)) == 2 and any("refused" in text for text in problems)


def test_a_peer_cannot_make_it_hold_much(tmp_path: Path) -> None:
    """Lengths that lie, and an object without end: the association ends, memory stays small."""
    import socket

    with listen(tmp_path) as process:
        port = process.ready["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"\x01\0" + struct.pack(">I", 0xFFFFFF00))
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    connection.sendall(bytes(100_000))
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", port)
        dataset = pydicom.dcmread(make_dicom(tmp_path / "a.dcm", 1))
        dataset.PixelData = bytes(250_000_000)
        with contextlib.suppress(Exception):
            association.send_c_store(dataset)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
        assert peak < 250
        assert send(port, [make_dicom(tmp_path / "b.dcm", 2)]) == [0]
        wait_for_records(tmp_path / "out.jsonl", 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_warnings_of_libraries_quote_nothing(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", 1)
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.add_new("PatientBirthDate", "DA", "SECRET-DATE-19700101")
        dataset.add_new("StudyTime", "TM", "SECRET:TIME")
        dataset.add_new("AcquisitionTime", "TM", "SECRET-NUMBER")
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"SECRET-SET"))
    with listen(tmp_path, "--objects", tmp_path / "objects") as process:
        assert send(process.ready["port"], [path]) == [0]
        wait_for_records(tmp_path / "out.jsonl", 1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert "SECRET" not in log and "Traceback" not in log


def test_who_may_send_and_what_is_no_dicom(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", 1)
    with listen(tmp_path, "--allow", "XRAY1", "--max-associations", 2) as process:
        port = process.ready["port"]
        assert send(port, [path], "STRANGER") == []
        assert send(port, [path], "XRAY1") == [0]
        # Broken associations: noise, silence, an end in the middle.
        import socket

        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\0\0\xff" + b"\0" * 50, b""):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(noise)
        deadline = time.monotonic() + 90  # a machine may be busy
        while time.monotonic() < deadline:
            if send(port, [path], "XRAY1") == [0]:
                break
            time.sleep(0.5)
        else:
            raise AssertionError("broken associations block it")


def test_results_are_sent_to_a_node(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", 1)
    with (
        archive() as (target, received),
        listen(tmp_path, "--send-to", target) as process,
    ):
        assert send(process.ready["port"], [path]) == [0]
        wait_until(lambda: len(received) == 2)
    assert len(records(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--allow"),
        (["--send-to", "nonsense"], "AET@HOST:PORT"),
    ],
)
def test_wrong_usage(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["listen", "--spool", str(tmp_path / "s"), "--output", str(tmp_path / "o"), *options]
    )
    assert code == 2 and said in capsys.readouterr().err


def test_an_object_without_pixels_has_an_error_record(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", 1)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    with listen(tmp_path) as process:
        assert send(process.ready["port"], [path]) == [0]
        (record,) = wait_for_records(tmp_path / "out.jsonl", 1)
    assert record["status"] == "error" and record["error"]["code"]
