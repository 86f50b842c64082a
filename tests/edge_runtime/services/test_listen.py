"""`cxr-edge listen`: what a clinic's X-ray machine sends is screened, and nothing is lost."""

from __future__ import annotations

import concurrent.futures
import io
import os
import shutil
import signal
import subprocess
import time
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

from edge_runtime.cli import main
from edge_runtime.images.phantom import draw_phantom
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
    assert list((tmp_path / "spool").iterdir()) == []
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


@pytest.mark.slow
def test_kill_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    files = [make_dicom(tmp_path / f"{i}.dcm", i) for i in range(30)]
    accepted: list[str] = []
    for part in (files[:15], files[15:]):
        with listen(tmp_path) as process:
            port = process.ready["port"]
            for file in part:
                if send(port, [file]) == [0]:
                    accepted.append(str(pydicom.dcmread(file).SOPInstanceUID))
                if len(accepted) % 15 == 12:
                    break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert len(accepted) >= 20
    with listen(tmp_path) as process:
        deadline = time.monotonic() + 60
        while list((tmp_path / "spool").glob("*.dcm")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    sources = [record["source"] for record in records(tmp_path / "out.jsonl")]
    assert set(sources) >= set(accepted)
    assert len(sources) == len(set(sources)), "one record each"


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
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if send(port, [path], "XRAY1") == [0]:
                break
            time.sleep(0.5)
        else:
            raise AssertionError("broken associations block it")


def test_results_are_sent_to_a_node(tmp_path: Path) -> None:
    received: list[str] = []

    def store(event: Any) -> int:
        received.append(str(event.request.AffectedSOPClassUID))
        return 0

    archive = AE(ae_title="PACS")
    archive.add_supported_context(EnhancedSRStorage)
    archive.add_supported_context(SecondaryCaptureImageStorage)
    server = archive.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    path = make_dicom(tmp_path / "a.dcm", 1)
    target = f"PACS@127.0.0.1:{server.server_address[1]}"
    try:
        with listen(tmp_path, "--send-to", target) as process:
            assert send(process.ready["port"], [path]) == [0]
            wait_for_records(tmp_path / "out.jsonl", 1)
            deadline = time.monotonic() + 30
            while len(received) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
    finally:
        server.shutdown()
    assert sorted(received) == sorted([EnhancedSRStorage, SecondaryCaptureImageStorage])


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
