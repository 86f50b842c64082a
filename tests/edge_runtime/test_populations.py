"""Operating points by population: who decides, what the record says, what is refused."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import html
import io
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle.manifest import dump_manifest, parse_manifest
from edge_runtime.errors import BundleError, InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.judge.population import Population
from edge_runtime.records.figures import told_figures
from edge_runtime.records.messages import LANGUAGES, say, told_legend
from edge_runtime.records.report import Made, write_report
from edge_runtime.records.resume import open_output
from edge_runtime.screener import Screener
from edge_runtime.services.pipe import serve_pipe
from edge_runtime.services.web.app import ServeSettings, make_app
from tests.conftest import ROOT, Run

pydicom = pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def film() -> bytes:
    return phantom_jpeg(1, True)


@pytest.fixture(scope="module")
def own(bundle: Path, film: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which the film is pneumonia in a child, normal in an adult, else uncertain."""
    probability = Screener.load(bundle, force=True).screen(film).probability
    assert probability is not None
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    first = manifest.operating_points[0]

    def points(threshold: float, band: tuple[float, float] | None) -> tuple[Any, ...]:
        kind = {"threshold": threshold, "uncertain": band}
        return tuple(
            dataclasses.replace(first, name=p.name, **kind) for p in manifest.operating_points
        )

    edited = dataclasses.replace(
        manifest,
        operating_points=points(probability, (probability - 1e-4, probability + 1e-4)),
        populations=(
            Population("children", (0.0, 18.0), points(probability - 1e-3, None)),
            Population("adults", (18.0, 200.0), points(probability + 1e-3, None)),
        ),
        quality=None,
    )
    folder = tmp_path_factory.mktemp("populations") / "bundle"
    shutil.copytree(bundle, folder)
    (folder / "manifest.json").write_bytes(dump_manifest(edited))
    return folder


def dicom(film: bytes, age: str) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(film)).convert("L"))
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    ds.Modality, ds.ViewPosition, ds.PatientAge = "DX", "AP", age
    ds.PhotometricInterpretation, ds.SamplesPerPixel = "MONOCHROME2", 1
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.WindowCenter, ds.WindowWidth = 128, 256
    ds.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("age", "whose", "decision"),
    [
        ("004Y", "children", "pneumonia"),
        ("030M", "children", "pneumonia"),
        ("017Y", "children", "pneumonia"),
        ("018Y", "adults", "normal"),
        ("060Y", "adults", "normal"),
        ("", None, "uncertain"),
        ("999Y", None, "uncertain"),
    ],
)
def test_the_age_chooses_the_threshold(
    own: Path, film: bytes, age: str, whose: str | None, decision: str
) -> None:
    screener = Screener.load(own)
    record = screener.screen(dicom(film, age))
    assert (record.population, record.decision) == (whose, decision)
    point = screener.bundle.manifest.operating_point(None, whose)
    assert (record.operating_point, record.threshold) == (point.name, point.threshold)
    told = json.loads(record.to_json())
    assert told.get("population") == whose and ("population" in told) == (whose is not None)
    schema = json.loads((ROOT / "edge_runtime/schemas/result-1.schema.json").read_text())
    jsonschema.validate(told, schema)
    assert type(record).from_json(record.to_json()) == record


def test_one_that_is_named_decides_and_another_age_is_refused(own: Path, film: bytes) -> None:
    screener = Screener.load(own, population="children")
    assert screener.population == "children"
    assert screener.screen(film).decision == "pneumonia"
    assert screener.screen(dicom(film, "004Y")).decision == "pneumonia"
    refused = screener.screen(dicom(film, "044Y"))
    assert (refused.status, refused.quality.flags) == ("rejected", ("wrong_population",))
    assert {r.population for r in (refused, screener.screen(b""))} == {"children"}
    any_age = Screener.load(own, population="any").screen(dicom(film, "004Y"))
    assert (any_age.population, any_age.decision) == (None, "uncertain")


def test_a_threshold_of_ones_own_decides_of_all(own: Path, film: bytes) -> None:
    record = Screener.load(own, threshold=0.5).screen(dicom(film, "004Y"))
    assert (record.population, record.operating_point) == (None, "custom")
    with pytest.raises(InvalidValueError, match="leave one of the two out"):
        Screener.load(own, threshold=0.5, population="adults")


def test_a_point_that_is_set_decides_of_all(own: Path, film: bytes) -> None:
    screener = Screener.load(own, population="children")
    screener.operating_point = dataclasses.replace(screener.operating_point, name="mine")
    record = screener.screen(dicom(film, "044Y"))
    assert (record.status, record.population, record.operating_point) == ("ok", None, "mine")


def test_no_such_population(own: Path, smoke_like: Path, film: bytes) -> None:
    with pytest.raises(InvalidValueError, match="it has auto, any, children, adults"):
        Screener.load(own, population="elders")
    with pytest.raises(InvalidValueError, match=r"it has auto, any$"):
        Screener.load(smoke_like, population="children")
    with pytest.raises(InvalidValueError, match="there is children, adults"):
        Screener.load(own).examine(film, population="elders")
    with pytest.raises(InvalidValueError, match=r"^.{1,120}$"):  # not all that a stranger wrote
        Screener.load(own).check_population("x" * 10_000_000)
    with pytest.raises(InvalidValueError, match="there is none"):
        Screener.load(own, threshold=0.5).examine(film, population="adults")


@pytest.fixture(scope="module")
def smoke_like(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without populations, as they were up to 5.0.0."""
    folder = tmp_path_factory.mktemp("plain") / "bundle"
    shutil.copytree(bundle, folder)
    document = json.loads((folder / "manifest.json").read_bytes())
    document.pop("populations", None)
    document.pop("expected", None)
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def test_bundles_without_populations_go_on_as_before(smoke_like: Path, film: bytes) -> None:
    record = Screener.load(smoke_like, force=True).screen(dicom(film, "004Y"))
    assert record.population is None and '"population"' not in record.to_json()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "elders"}, "none of children, adults"),
        ({"age_years": [18, 18]}, "are none"),
        ({"age_years": [-1, 18]}, "are none"),
        ({"operating_points": []}, "has the operating points"),
        ({"name": "adults"}, "listed twice"),
    ],
)
def test_a_manifest_with_wrong_populations_is_refused(
    own: Path, change: dict[str, object], told: str
) -> None:
    document = json.loads((own / "manifest.json").read_bytes())
    document["populations"][0] |= change
    with pytest.raises(BundleError, match=told):
        parse_manifest(json.dumps(document).encode())


def test_results_of_both_go_into_one_file_and_resume(
    own: Path, film: bytes, tmp_path: Path, cxr_edge: Run
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for age in ("004Y", "044Y", ""):
        (images / f"{age or 'none'}.dcm").write_bytes(dicom(film, age))
    for form in ("jsonl", "csv"):
        output = tmp_path / f"out.{form}"
        command = ["screen", images, "--bundle", own, "--format", form, "--output", output]
        assert cxr_edge(*command).returncode == 0
        lines = output.read_text().splitlines()
        again = cxr_edge(*command, "--resume")
        assert again.returncode == 0 and output.read_text().splitlines() == lines
        for named in ("children", "any"):
            other = cxr_edge(*command, "--resume", "--population", named)
            assert other.returncode == 2 and "made with" in other.stderr
        with pytest.raises(InvalidValueError, match="population"):
            conditions = Screener.load(own, population="adults").conditions
            open_output(str(output), form, conditions)


def test_a_request_may_name_it(own: Path, film: bytes) -> None:
    encoded = base64.b64encode(film).decode()
    requests = [
        {"id": whose, "base64": encoded, "population": whose}
        for whose in ("children", "adults", None, "elders", 7)
    ]
    answers = io.BytesIO()
    source = io.BytesIO(b"".join(json.dumps(r).encode() + b"\n" for r in requests))
    serve_pipe(Screener.load(own), source, answers, 1)
    told = {a["id"]: a for a in map(json.loads, answers.getvalue().splitlines())}
    found = {k: (a["result"]["decision"], a["result"].get("population"))
             for k, a in told.items() if "result" in a}  # fmt: skip
    assert found == {
        "children": ("pneumonia", "children"),
        "adults": ("normal", "adults"),
        None: ("uncertain", None),
    }
    for wrong in ("elders", 7):
        assert told[wrong]["error"]["code"] == "bad_request"


def test_the_web_takes_it_too(own: Path, film: bytes) -> None:
    app = make_app(Screener.load(own), ServeSettings(hosts=("testserver",)))

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            for whose, decision in (
                ("children", "pneumonia"),
                ("adults", "normal"),
                ("", "uncertain"),
            ):
                answer = await client.post(f"/v1/screen?population={whose}", content=film)
                assert answer.json()["decision"] == decision
            refused = await client.post("/v1/screen?population=elders", content=film)
            assert refused.status_code == 400
            info = (await client.get("/v1/info")).json()
            assert set(info["populations"]) == {"children", "adults"}

    asyncio.run(ask())


@pytest.mark.parametrize("language", LANGUAGES)
def test_people_are_told_whose_threshold_it_is(
    own: Path, film: bytes, tmp_path: Path, language: str
) -> None:
    screener = Screener.load(own)
    legend = told_legend(screener.operating_point, language, screener.points_by_population)
    child = screener.points_by_population["children"]
    assert f"{child.threshold:.4f}" in legend
    made = Made(
        screener.bundle.manifest,
        screener.operating_point,
        screener.engine_name,
        by_population=screener.points_by_population,
    )
    shown = [screener.examine(dicom(film, age)) for age in ("004Y", "")]
    path = tmp_path / "report.html"
    write_report(path, shown, made, language=language)
    whose = say("population.decided", language).format(
        population=say("population.children", language)
    )
    page = path.read_text(encoding="utf-8")
    assert page.count(f"; {whose}") == 1
    # The worst of every point in force is in sight, not folded.
    sight = page[: page.index("<details>")]
    for name in (None, *screener.points_by_population):
        point = screener.points_by_population.get(name or "", screener.operating_point)
        told = told_figures(screener.bundle.manifest, point, language, name)
        assert html.escape(told[0]) in sight
