"""Standard streams closed or broken, ASCII locales, cells that are formulas, names of anybody."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.cli import VERBS
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.output import csv_text, plain_text
from tests.conftest import ROOT

if os.name != "posix":
    pytest.skip("a shell is needed", allow_module_level=True)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    text = command.replace("cxr-edge", f"{shlex.quote(sys.executable)} -m edge_runtime")
    return subprocess.run(
        ["sh", "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.jpeg"
    path.write_bytes(phantom_jpeg(1, True))
    return path


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_messages_never_land_in_results(closed: str, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = shell(f"cxr-edge screen --force --format jsonl --output {out} {film} {closed}")
    assert done.returncode == 0, done.stderr
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["status"] == "ok"


def test_results_that_go_nowhere_are_an_error(film: Path) -> None:
    for verb in (f"screen --force {film}", "info"):
        done = shell(f"cxr-edge {verb} >&-")
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def test_messages_that_nobody_reads_stop_nothing(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = shell(f"cxr-edge screen --force --format jsonl --output {out} {film} {film} 2>/dev/full")
    assert done.returncode == 0
    assert len(out.read_text().splitlines()) == 2


def test_a_full_standard_output_is_an_error(film: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = shell(f"cxr-edge screen --force {film} >/dev/full")
    assert done.returncode == 2 and "No space left" in done.stderr


def test_any_name_in_a_locale_of_ascii(tmp_path: Path) -> None:
    names = ["pulmón.jpeg", "肺炎.jpeg", os.fsdecode(b"\xff\xfe.jpeg"), "=cmd|' calc'!A0.jpeg"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(phantom_jpeg(number, True))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for form in ("jsonl", "table", "csv"):
        done = shell(
            f"cd {tmp_path} && PYTHONPATH={ROOT} cxr-edge screen --force --format {form} *.jpeg "
            f"--heatmaps maps --report page.html --lang fr", **plain,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(names) + (form != "jsonl")
        assert len(list((tmp_path / "maps").iterdir())) == len(names)
    for verb in ("--help", *(f"{verb} --help" for verb in VERBS)):
        done = shell(f"cxr-edge {verb}", **plain)
        assert done.returncode == 0 and "Traceback" not in done.stderr, verb


def test_no_cell_is_a_formula_and_names_come_back(tmp_path: Path) -> None:
    names = ["=cmd|' calc'!A0.jpeg", "+1.jpeg", "-1.jpeg", "@a.jpeg", "'=a.jpeg", "'a.jpeg"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(phantom_jpeg(number, True))
    command = (
        f"cd {tmp_path} && PYTHONPATH={ROOT} cxr-edge screen --force --format csv --output out.csv "
        + " ".join(shlex.quote("./" * name.startswith("-") + name) for name in names)
    )
    assert shell(command).returncode == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert all(row["source"][0] not in "=+-@\t\r" for row in rows)
    found = [plain_text(row["source"]).removeprefix("./") for row in rows]
    assert found == names
    again = shell(command.replace("--output out.csv", "--output out.csv --resume"))
    assert again.returncode == 0 and "6 skipped" in again.stderr
    for text in ("=", "'", "''=", "a", "", "\t", "'a", "'-'"):
        assert plain_text(csv_text(text)) == text


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),  # carelessly, as is met with
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Ямада^Таро"),
        ("ISO_IR 100", "Buc^Jérôme"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_name_is_answered_as_it_came(
    characters: str | list[str], name: str, tmp_path: Path
) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.filewriter import dcmwrite

    from edge_runtime import Screener
    from edge_runtime.services.dicom.objects import make_report, make_secondary_capture
    from tests.edge_runtime.services.test_listen import make_dicom

    path = make_dicom(tmp_path / "a.dcm", 1)
    dataset = pydicom.dcmread(path)
    dataset.SpecificCharacterSet = characters
    dataset.PatientName = dataset.ReferringPhysicianName = name
    dataset.BurnedInAnnotation = "YES"
    dataset.save_as(path)
    received = path.read_bytes()
    examination = Screener.load(force=True).examine(received, "x")
    for make in (make_report, make_secondary_capture):
        source = pydicom.dcmread(io.BytesIO(received), stop_before_pixels=True)
        buffer = io.BytesIO()
        dcmwrite(buffer, make(source, examination), enforce_file_format=True)
        answered = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
        came = pydicom.dcmread(io.BytesIO(received))
        for keyword in ("PatientName", "ReferringPhysicianName", "SpecificCharacterSet"):
            assert answered.get_item(keyword).value == came.get_item(keyword).value
    assert answered.BurnedInAnnotation == "YES", "what is burned in stays in the picture"
