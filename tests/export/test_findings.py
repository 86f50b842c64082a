"""A model of several findings, from a table of drawn films to every way that a result is told."""

from __future__ import annotations

import csv
import ctypes
import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.manifest import dump_manifest, parse_manifest
from edge_runtime.errors import BundleError, InvalidValueError
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import prepare_pixels
from edge_runtime.judge.scores import disease_logit, disease_map, finding_probabilities
from edge_runtime.records.heatmap import overlay_jpeg
from edge_runtime.records.messages import LANGUAGES, meaning, told_findings
from edge_runtime.records.record import Record
from edge_runtime.records.report import Made, write_report
from edge_runtime.statistics.odds import probability
from tests.conftest import ROOT, workbench
from tests.edge_runtime.services.conftest import running
from train.data.dataset import Sample, has_findings, targets
from train.data.table import read_table
from train.evaluate.by_finding import measure_findings
from train.run.finished import open_run

LABELS = ("normal", "opacity", "effusion", "mass")


def draw(seed: int, kinds: Sequence[str]) -> Image.Image:
    """A drawn film with what it is said to show."""
    pixels = draw_phantom(seed, "opacity" in kinds).astype(np.float64)
    rng = np.random.default_rng((seed, 1))
    height, width = pixels.shape
    if "effusion" in kinds:  # the base of one lung is white
        side = slice(0, width // 2) if rng.random() < 0.5 else slice(width // 2, width)
        pixels[int(height * rng.uniform(0.6, 0.7)) : int(height * 0.85), side] += 110
    if "mass" in kinds:  # a round white spot in the upper half
        y, x = np.mgrid[:height, :width]
        cy, cx = height * rng.uniform(0.2, 0.4), width * rng.uniform(0.25, 0.75)
        pixels[(y - cy) ** 2 + (x - cx) ** 2 < (0.08 * height) ** 2] += 140
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def kinds_of(seed: int) -> tuple[str, ...]:
    one = LABELS[1:][seed // 2 % 3]
    if seed % 2 == 0:
        return ()
    return (one, LABELS[1:][(seed // 2 + 1) % 3]) if seed % 7 == 1 else (one,)


@dataclasses.dataclass(frozen=True)
class Made4:
    table: Path
    run: Path
    bundle: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made4:
    folder = tmp_path_factory.mktemp("findings")
    lines = ["path,finding,patient,source"]
    for seed in range(400):
        draw(seed, kinds_of(seed)).save(folder / f"{seed}.jpg", quality=90)
        lines.append(f"{seed}.jpg,{'|'.join(kinds_of(seed)) or 'No Finding'},p{seed},drawn")
    table = folder / "films.csv"
    table.write_text("\n".join(lines) + "\n")
    settings = [
        f"network.labels={json.dumps(LABELS)}", 'data.findings={"No Finding"="normal"}',
        "data.source=folder", "optimisation.epochs=8", "input.height=64", "input.width=64",
        "input.decode_oversampling=2",  # whether the gate lets these few drawings by is chance
    ]  # fmt: skip
    run, bundle = folder / "run", folder / "bundle"
    fit = workbench(
        "train", "fit", "--recipe", "smoke", "--weights", "none", "--data", table,
        *(text for change in settings for text in ("--set", change)), "--output", run,
    )  # fmt: skip
    assert fit.returncode == 0, fit.stderr
    exported = workbench("export", run, "--data", table, "--name", "four", "--output", bundle)
    assert exported.returncode == 0, exported.stderr
    return Made4(table, run, bundle)


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_manifest_states_findings_with_points_of_their_own(made: Made4) -> None:
    bundle = load_bundle(made.bundle)
    manifest = bundle.manifest
    assert manifest.positive == "abnormal" and manifest.outputs.activation == "sigmoid"
    assert manifest.outputs.map_shape[2] == 3
    assert [f.name for f in manifest.findings] == list(LABELS[1:])
    for finding in manifest.findings:
        assert finding.auc.value > 0.8, (finding.name, finding.auc)
        assert [p.name for p in finding.operating_points] == ["screening", "balanced", "triage"]
    by_file = {(row.model, row.finding) for row in manifest.metrics}
    assert len(by_file) == 5 * 4  # float and four files; of all, and of each finding
    text = (made.bundle / "manifest.json").read_bytes()
    schema = json.loads((ROOT / "edge_runtime/schemas/bundle-1.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads(text), schema)
    assert dump_manifest(parse_manifest(text)) == text
    card = (made.bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Findings" in card and "tells the hospital tells the finding" in card
    assert "pneumonia" not in card.lower()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(positive="sick"),
        lambda d: d["findings"].pop(),
        lambda d: d["findings"][0].update(name="other"),
        lambda d: d["findings"][0]["operating_points"].pop(),
        lambda d: d["findings"][0].update(temperature=0),
        lambda d: d["outputs"].update(activation="softmax"),
        lambda d: d.update(positive="pneumonia"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(made: Made4, change) -> None:  # type: ignore[no-untyped-def]
    document = json.loads((made.bundle / "manifest.json").read_bytes())
    change(document)
    with pytest.raises(BundleError):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
def test_a_film_may_show_several_and_each_is_told_by_its_own_threshold(
    made: Made4, engine: str
) -> None:
    screener = Screener.load(made.bundle, engine=engine, force=True, operating_point="balanced")
    schema = json.loads((ROOT / "edge_runtime/schemas/result-1.schema.json").read_text("utf-8"))
    right = 0
    for seed in range(1000, 1060):
        kinds = kinds_of(seed)
        record = screener.screen(np.asarray(draw(seed, kinds)))
        assert record.findings is not None and list(record.findings) == list(LABELS[1:])
        assert record.probabilities is None
        jsonschema.validate(json.loads(record.to_json()), schema)
        assert Record.from_json(record.to_json()) == record
        found = {name for name, one in record.findings.items() if one.decision == "present"}
        right += found == set(kinds)
        for name, one in record.findings.items():
            finding = next(f for f in screener.bundle.manifest.findings if f.name == name)
            assert one.threshold == finding.point("balanced", "screening").threshold
            assert (one.decision == "present") == (one.probability >= one.threshold)
        if record.decision == "normal":
            assert not found  # a film with a finding is never normal
    assert right >= 45, right


def test_the_score_of_any_finding_is_the_noisy_or_of_all() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (200, 3))
    each = 1 / (1 + np.exp(-logits))
    expected = 1 - np.prod(1 - each, axis=1)
    found = [probability(value) for value in disease_logit(logits, "sigmoid")]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    one = logits[:, :1]
    assert np.array_equal(disease_logit(one, "sigmoid"), one[:, 0])
    extreme = disease_logit(np.array([[-800.0, -900.0], [800.0, -900.0]]), "sigmoid")
    assert np.isfinite(extreme).all() and extreme[0] < -600 and extreme[1] == pytest.approx(800)
    own = finding_probabilities(logits[0], "sigmoid", (1.0, 2.0, 0.5), 3.0)
    assert own == [probability(z / t) for z, t in zip(logits[0], (1.0, 2.0, 0.5), strict=True)]
    maps = rng.normal(size=(4, 5, 3)).astype(np.float32)
    assert np.array_equal(disease_map(maps, "sigmoid"), maps.max(axis=2))
    assert np.array_equal(disease_map(maps, "softmax"), (maps[:, :, 1:] - maps[:, :, :1]).max(2))


def test_every_output_tells_the_findings(made: Made4, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    shown = {1: "opacity", 3: "effusion", 5: "mass", 2: ""}
    for seed, kind in shown.items():
        draw(2000 + seed, [kind]).save(films / f"{seed}-{kind or 'normal'}.png")
    options = ("--bundle", made.bundle, "--force", "--operating-point", "balanced")
    maps, page, table = tmp_path / "maps", tmp_path / "report.html", tmp_path / "r.csv"
    done = cli("screen", films, *options, "--heatmaps", maps, "--report", page)
    assert done.returncode == 0, done.stderr
    assert "of any finding" in done.stderr and "pneumonia" not in done.stderr + done.stdout
    assert "effusion present" in done.stdout and "abnormal" in done.stdout
    assert "Signs of disease" in done.stderr
    names = {path.name for path in maps.iterdir()}
    assert any(name.startswith("3-effusion-") and "-effusion.jpeg" in name for name in names)
    text = page.read_text(encoding="utf-8")
    assert "effusion: present" in text and "class=pick1" in text and "argue for a finding" in text
    assert "pneumonia" not in text.partition("</style>")[2].lower()
    written = cli("screen", films, *options, "--format", "csv", "--output", table)
    assert written.returncode == 0, written.stderr
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-1] == "findings"
    assert any("effusion present" in row["findings"] for row in rows)
    again = cli("screen", films, *options, "--format", "csv", "--output", table, "--resume")
    assert again.returncode == 0 and "4 skipped" in again.stderr, again.stderr
    # Results of another kind of model do not belong beside them.
    other = cli("screen", films, "--format", "csv", "--output", table, "--resume")
    assert other.returncode == 2 and "name another --output" in other.stderr
    info = cli("info", "--bundle", made.bundle)
    assert "normal, opacity, effusion, mass" in info.stdout
    demo = cli("demo", "--bundle", made.bundle, "--output", tmp_path / "demo")
    assert "pneumonia" not in demo.stdout + demo.stderr.replace("synthetic", "")


def test_people_are_told_in_every_language(made: Made4, tmp_path: Path) -> None:
    screener = Screener.load(made.bundle, force=True, operating_point="balanced")
    examinations = [
        screener.examine(np.asarray(draw(3000 + seed, kinds_of(seed)))) for seed in range(8)
    ]
    named = Made(screener.bundle.manifest, screener.operating_point, screener.engine_name)
    for language in LANGUAGES:
        for examination in examinations:
            record = examination.record
            lines = told_findings(record, language)
            assert len(lines) == 3 and all("{" not in line for line in lines)
            assert "pneum" not in meaning(record, language).lower()
        (path,) = write_report(
            tmp_path / f"{language}.html", examinations, named, None, None, language
        )
        text = Path(path).read_text(encoding="utf-8").partition("</style>")[2].lower()
        assert "pneum" not in text and "neumon" not in text


def test_the_colours_of_one_finding_are_its_own(made: Made4) -> None:
    screener = Screener.load(made.bundle, force=True)
    result = screener.examine(np.asarray(draw(4001, ["effusion", "mass"])))
    pictures = {name: overlay_jpeg(result, finding=name) for name in (None, *LABELS[1:])}
    assert len(set(pictures.values())) >= 3
    for picture in pictures.values():
        assert picture is not None and Image.open(io.BytesIO(picture)).size[0] > 100
    with pytest.raises(InvalidValueError, match="tells opacity, effusion, mass"):
        overlay_jpeg(result, finding="fracture")


def test_the_service_tells_them_and_draws_each(made: Made4) -> None:
    buffer = io.BytesIO()
    draw(5001, ["mass"]).save(buffer, "PNG")
    film = buffer.getvalue()
    with running("serve", "--port", 0, "--force", "--bundle", made.bundle) as process:
        url = process.ready["url"]  # type: ignore[attr-defined]
        known = httpx.get(f"{url}v1/info").json()
        assert known["positive"] == "abnormal" and known["findings"] == list(LABELS[1:])
        record = httpx.post(f"{url}v1/screen", content=film).json()
        assert set(record["findings"]) == set(LABELS[1:])
        drawn = [
            httpx.post(f"{url}v1/heatmap?layer=map&finding={name}", content=film).content
            for name in ("mass", "effusion")
        ]
        assert drawn[0] != drawn[1]
        strange = httpx.post(f"{url}v1/heatmap?finding=fracture", content=film)
        assert strange.status_code == 400 and "mass" in strange.json()["error"]["message"]


def test_evaluation_and_benchmark_tell_each_finding(made: Made4, tmp_path: Path) -> None:
    told = workbench("train", "evaluate", made.run, "--data", made.table)
    assert told.returncode == 0, told.stderr
    document = json.loads((made.run / "evaluation-validation/evaluation.json").read_text("utf-8"))
    found = {f["name"]: f for f in document["by_finding"]["figures"]}
    run = open_run(made.run)
    shown = has_findings(run.validation.samples, run.labels)
    for i, name in enumerate(LABELS[1:]):
        reached = roc_auc_score(shown[:, i], run.validation.logits[:, i])
        assert found[name]["auc"]["value"] == pytest.approx(reached, abs=1e-9)
    macro = document["by_finding"]["macro_auc"]
    assert macro["value"] == pytest.approx(roc_auc_score(shown, run.validation.logits), abs=1e-9)
    assert macro["low"] < macro["value"] <= macro["high"]
    confusion = document["by_finding"]["confusion"]
    assert set(confusion) == {*LABELS, "several"}
    assert sum(map(sum, confusion.values())) == len(shown)
    page = (made.run / "evaluation-validation/index.html").read_text(encoding="utf-8")
    assert "By finding" in page and "mean (macro)" in page and "pneumonia" not in page.lower()
    measured = workbench(
        "benchmarks", "accuracy", "--bundle", made.bundle, "--float", f"{made.bundle}-float",
        "--data", made.table, "--output", tmp_path / "accuracy",
    )  # fmt: skip
    assert measured.returncode in (0, 1), measured.stderr
    text = (tmp_path / "accuracy/accuracy.md").read_text(encoding="utf-8")
    assert "mean (macro)" in text and "| several |" in text and "| mass |" in text


def test_measures_by_finding_of_a_perfect_model(made: Made4) -> None:
    findings = load_bundle(made.bundle).manifest.findings
    shown = np.array([[0, 0, 0]] * 10 + [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]] * 5, bool)
    scores = np.where(shown, 1.0, 0.0)
    found = measure_findings(findings, shown, scores, [str(i) for i in range(len(shown))])
    assert [f.auc.value for f in found.figures if f.auc] == [1.0, 1.0, 1.0]
    assert found.columns == LABELS
    assert found.confusion["normal"] == (10, 0, 0, 0)
    assert found.confusion["mass"] == (0, 0, 0, 5)
    assert sum(found.confusion["several"]) == 5 and found.confusion["several"][0] == 0
    # A finding that nobody has is told as too few, and not in an error.
    nobody = measure_findings(findings, shown & [True, True, False], scores, ["p"] * len(shown))
    assert nobody.figures[2].auc is None and nobody.macro_auc is not None


def test_what_films_show_in_a_recipes_names(tmp_path: Path) -> None:
    rows = {"a": "Effusion|Mass", "b": "No Finding", "c": "Hernia", "d": "Hernia|Mass",
            "e": "Mass | Effusion", "f": "Fibrosis", "g": "Fibrosis|Hernia"}  # fmt: skip
    for name in rows:
        draw(1, ()).resize((40, 40)).save(tmp_path / f"{name}.png")
    table = tmp_path / "t.csv"
    table.write_text("path,finding\n" + "".join(f"{n}.png,{k}\n" for n, k in rows.items()))
    names = {"No Finding": "normal", "Hernia": "", "Fibrosis": "normal", "Effusion": "effusion",
             "Mass": "mass"}  # fmt: skip
    found = {f.sample.path[0]: f.sample.kind for f in read_table([table], names).films}
    assert found == {"a": "effusion|mass", "b": "normal", "d": "mass", "e": "mass|effusion",
                     "f": "normal", "g": "normal"}  # fmt: skip


def test_labels_that_exclude_each_other_refuse_films_of_several() -> None:
    samples = [Sample("a", "normal", "a"), Sample("b", "mass|effusion", "b")]
    labels = ("normal", "mass", "effusion")
    assert has_findings(samples, labels).tolist() == [[False, False], [True, True]]
    with pytest.raises(InvalidValueError, match=r"b shows mass\|effusion.*sigmoid"):
        targets(samples, labels)
    with pytest.raises(InvalidValueError, match="'effusion' have no place"):
        has_findings(samples, ("normal", "mass"))


def test_the_c_header_names_each_finding_with_its_thresholds(made: Made4, tmp_path: Path) -> None:
    done = workbench("export", "c-array", made.bundle, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "model.h").read_text(encoding="utf-8")
    assert '#define CXR_FINDING_NAMES {"opacity", "effusion", "mass"}' in header
    findings = load_bundle(made.bundle).manifest.findings
    told = ", ".join(f"{f.point('balanced', 'screening').threshold!r}f" for f in findings)
    assert f"#define CXR_FINDING_THRESHOLDS_BALANCED {{{told}}}" in header
    program = tmp_path / "all.c"
    program.write_text(
        '#include "model.h"\nstatic const char *const names[CXR_FINDINGS] = CXR_FINDING_NAMES;\n'
        "static const float own[CXR_FINDINGS] = CXR_FINDING_THRESHOLDS_TRIAGE;\n"
        "int main(void) { return names[0][0] != 'o' || own[2] <= 0; }\n"
    )
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    built = ["gcc", "-std=c99", "-Wall", "-Werror", "-Wno-unused-variable", program, "-o",
             tmp_path / "all"]  # fmt: skip
    subprocess.run(built, check=True)
    subprocess.run([tmp_path / "all"], check=True)


def test_a_structured_report_tells_each_finding_under_a_code_of_its_own(made: Made4) -> None:
    pydicom = pytest.importorskip("pydicom")
    from edge_runtime.services.dicom.objects import make_report

    source = pydicom.Dataset()
    source.PatientID, source.StudyInstanceUID = "p", "1.2.3"
    source.SeriesInstanceUID, source.SOPInstanceUID = "1.2.3.4", "1.2.3.4.5"
    source.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    screener = Screener.load(made.bundle, force=True, operating_point="balanced")
    examination = screener.examine(np.asarray(draw(6001, ["mass"])))
    report = make_report(source, examination)
    assert "neumonia" not in str(report)
    told = {}
    for item in report.ContentSequence:
        code = item.ConceptNameCodeSequence[0]
        assert len(code.CodeMeaning) <= 64
        assert (code.CodeValue, code.CodingSchemeDesignator) not in told
        told[code.CodeValue, code.CodingSchemeDesignator] = item
    found = examination.record.findings
    assert found is not None
    meanings = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in told.values()}
    for name, one in found.items():
        number = meanings[f"Probability of {name}"].MeasuredValueSequence[0].NumericValue
        assert float(number) == pytest.approx(one.probability, abs=1e-6)
        assert meanings[f"Decision on {name}"].TextValue.startswith(one.decision)


def test_the_c_sources_tell_each_finding_as_the_runtime_does(made: Made4, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    done = workbench("export", "c-array", made.bundle, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    library = tmp_path / "libcxr.so"
    sources = [tmp_path / "cxr_edge.c", tmp_path / "parameters.c"]
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, *sources, "-lm"], check=True)
    code = ctypes.CDLL(str(library))
    code.cxr_probability.restype = ctypes.c_double
    screener = Screener.load(made.bundle, engine="litert", force=True)
    manifest = screener.bundle.manifest
    file = manifest.model_file("tflite")
    assert file is not None
    offset = (ctypes.c_double * 3)(*file.logit_offset)
    for seed in range(7000, 7012):
        pixels = prepare_pixels(np.asarray(draw(seed, kinds_of(seed))), manifest.input)
        outputs = screener.run(pixels)
        cells = np.ascontiguousarray(outputs.evidence_map, np.float32)
        logits, told = (ctypes.c_double * 3)(), (ctypes.c_double * 3)()
        code.cxr_logits(cells.ctypes.data_as(ctypes.c_void_p), offset, logits)
        code.cxr_finding_probabilities(logits, told)
        record = screener.screen(np.asarray(draw(seed, kinds_of(seed))))
        assert record.findings is not None and record.probability is not None
        expected = [one.probability for one in record.findings.values()]
        assert list(told) == pytest.approx(expected, abs=1e-8)
        assert code.cxr_probability(logits, None) == pytest.approx(record.probability, abs=1e-8)
