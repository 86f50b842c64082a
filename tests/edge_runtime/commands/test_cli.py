"""The command line as a user types it: real processes, exit codes, files on disk."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle.folder import load_bundle
from edge_runtime.images.phantom import draw_phantom, phantom_jpeg
from edge_runtime.records.output import CSV_COLUMNS, RecordWriter
from tests.conftest import ROOT, Run

VERBS = ["screen", "info", "verify", "demo"]


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A folder as it comes from a ward: one good radiograph among what else lies about."""
    folder = tmp_path / "ward"
    folder.mkdir()
    pixels = draw_phantom(1, True, 240, 256)
    grey = Image.fromarray(pixels)
    good = phantom_jpeg(1, True)
    (folder / "good.jpeg").write_bytes(good)
    (folder / "truncated.jpeg").write_bytes(good[: len(good) // 2])
    (folder / "empty.jpeg").write_bytes(b"")
    (folder / "text.png").write_text("not a picture", encoding="utf-8")
    Image.fromarray(pixels.astype(np.uint16) * 16).save(folder / "deep.png")
    grey.convert("RGB").convert("CMYK").save(folder / "cmyk.jpeg")
    grey.convert("RGBA").save(folder / "rgba.png")
    return folder


def test_every_file_of_a_mixed_folder_gets_its_record(cxr_edge: Run, ward: Path) -> None:
    result = cxr_edge("screen", "--force", ward, "--format", "jsonl")
    assert result.returncode == 1
    found = {Path(str(r["source"])).name: r for r in records(result.stdout)}
    assert sorted(found) == sorted(p.name for p in ward.iterdir())
    failed = {name: r["error"]["code"] for name, r in found.items() if r["error"]}  # type: ignore[index]
    assert failed == {
        "truncated.jpeg": "corrupt_image",
        "empty.jpeg": "empty_file",
        "text.png": "unsupported_format",
    }
    good = found["good.jpeg"]
    assert good["status"] == "ok" and isinstance(good["probability"], float)
    # The same picture, however it is stored, gives nearly the same probability.
    for name in ("deep.png", "cmyk.jpeg", "rgba.png"):
        assert found[name]["status"] == "ok"
    assert "7 files" in result.stderr and "3 error" in result.stderr


def test_all_good_is_exit_0_and_people_are_told_on_stderr(cxr_edge: Run, phantoms: Path) -> None:
    result = cxr_edge("screen", "--force", phantoms)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 1 + 6  # a heading and the images, nothing else
    assert "not a diagnosis" in result.stderr and "6 files" in result.stderr


def test_csv_has_a_row_per_file(cxr_edge: Run, ward: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.csv"
    assert (
        cxr_edge("screen", "--force", ward, "--format", "csv", "--output", output).returncode == 1
    )
    rows = list(csv.DictReader(io.StringIO(output.read_text(encoding="utf-8"))))
    assert len(rows) == 7
    assert tuple(rows[0]) == CSV_COLUMNS
    assert {r["status"] for r in rows} == {"ok", "error"}


def test_paths_from_standard_input(cxr_edge: Run, phantoms: Path) -> None:
    paths = "\n".join(str(p) for p in sorted(phantoms.iterdir())[:3])
    result = cxr_edge("screen", "--force", "-", "--format", "jsonl", input=paths)
    assert [r["source"] for r in records(result.stdout)] == paths.split("\n")


def test_a_missing_path_has_its_record_and_stops_nothing(cxr_edge: Run, phantoms: Path) -> None:
    result = cxr_edge("screen", "--force", "nowhere.jpeg", phantoms / "1.jpeg", "--format", "jsonl")
    assert result.returncode == 1
    assert [r["status"] for r in records(result.stdout)] == ["error", "ok"]


def test_resume_screens_only_what_is_missing(cxr_edge: Run, phantoms: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    options = ("screen", "--force", phantoms, "--format", "jsonl", "--output", output)
    assert cxr_edge(*options).returncode == 0
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 6
    # As a power cut leaves it: three whole lines and a half one.
    output.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    result = cxr_edge(*options, "--resume")
    assert result.returncode == 0 and "3 skipped" in result.stderr
    assert output.read_bytes() == whole


def test_resume_repeats_what_the_skipped_results_said(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(phantoms, tmp_path / "images")
    (folder / "broken.jpeg").write_bytes((folder / "0.jpeg").read_bytes()[:500])
    options = ("screen", "--force", folder, "--format", "jsonl", "--output", tmp_path / "r.jsonl")
    assert cxr_edge(*options).returncode == 1
    again = cxr_edge(*options, "--resume")
    assert again.returncode == 1 and "6 skipped, 1 skipped, an error before" in again.stderr


def test_resume_screens_a_file_again_whose_content_changed(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(phantoms, tmp_path / "images")
    output = tmp_path / "results.csv"
    options = ("screen", "--force", folder, "--format", "csv", "--output", output)
    cxr_edge(*options)
    (folder / "0.jpeg").write_bytes(phantom_jpeg(77, True))
    assert "5 skipped" in cxr_edge(*options, "--resume").stderr
    rows = list(csv.DictReader(io.StringIO(output.read_text(encoding="utf-8"))))
    assert len(rows) == 7


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("other", "said"),
    [(("--threshold", "0.9"), "operating_point"), (("--engine", "onnxruntime"), "engine")],
)
def test_one_file_holds_results_of_one_kind(
    cxr_edge: Run,
    phantoms: Path,
    tmp_path: Path,
    format_name: str,
    other: tuple[str, ...],
    said: str,
) -> None:
    output = tmp_path / "results"
    options = ("screen", "--force", phantoms, "--format", format_name, "--output", output)
    assert cxr_edge(*options, "--engine", "litert").returncode == 0
    before = output.read_bytes()
    result = cxr_edge(*options, "--resume", *other)
    assert result.returncode == 2 and said in result.stderr and "now it is" in result.stderr
    assert output.read_bytes() == before


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
def test_a_name_with_a_line_break_is_one_line_and_resumes(
    cxr_edge: Run, phantoms: Path, tmp_path: Path, format_name: str
) -> None:
    folder, output = tmp_path / "images", tmp_path / "results"
    folder.mkdir()
    for i in range(3):
        shutil.copy(phantoms / f"{i}.jpeg", folder / f"two\nlines {i}.jpeg")
    options = ("screen", "--force", folder, "--format", format_name, "--output", output)
    assert cxr_edge(*options).returncode == 0
    whole = output.read_bytes()
    assert len(whole.splitlines()) == 3 + (format_name == "csv")
    # Cut anywhere in the last line, as a power failure may: it is screened again, nothing else.
    start = whole[:-1].rfind(b"\n") + 1
    for cut in (start + 1, start + 30, len(whole) - 1):
        output.write_bytes(whole[:cut])
        result = cxr_edge(*options, "--resume")
        assert result.returncode == 0 and "2 skipped" in result.stderr
        assert output.read_bytes() == whole


def test_written_results_are_never_overwritten(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    output.write_text("precious\n", encoding="utf-8")
    result = cxr_edge("screen", "--force", phantoms, "--format", "jsonl", "--output", output)
    assert result.returncode == 2 and "--resume" in result.stderr
    assert output.read_text(encoding="utf-8") == "precious\n"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_batch_leaves_whole_lines_and_goes_on(
    cxr_edge: Run, tmp_path: Path, sent: signal.Signals
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    drawn = phantom_jpeg(1, True, 900, 1000)
    count = 1000  # seconds of work: the signal comes while there is some left
    for i in range(count):
        # A comment in each, so that no two have the same hash.
        comment = b"\xff\xfe\x00\x06" + f"{i:04}".encode()
        (folder / f"{i:04}.jpeg").write_bytes(drawn[:2] + comment + drawn[2:])
    output = tmp_path / "results.jsonl"
    options = [
        "screen",
        "--force",
        str(folder),
        "--format",
        "jsonl",
        "--output",
        str(output),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(
        # What a shell starts in the background inherits an ignored SIGINT.
        ["env", "--default-signal=INT", sys.executable, "-m", "edge_runtime", *options],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (output.exists() and output.stat().st_size > 2000):
        time.sleep(0.005)
    process.send_signal(sent)
    code = process.wait(60)
    assert code == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    written = output.read_bytes()
    before = [json.loads(line) for line in written.splitlines(keepends=True) if line[-1:] == b"\n"]
    assert 0 < len(before) < count
    assert cxr_edge(*options, "--resume").returncode == 0
    after = records(output.read_text(encoding="utf-8"))
    assert len(after) == count
    assert after[: len(before)] == before


def test_a_full_disk_keeps_what_was_written(cxr_edge: Run, phantoms: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    result = cxr_edge("screen", "--force", phantoms, "--format", "jsonl", "--output", "/dev/full")
    assert result.returncode == 2
    assert "No space left" in result.stderr and "--resume" in result.stderr


def test_a_closed_pipe_is_no_traceback(phantoms: Path) -> None:
    command = f"{sys.executable} -m edge_runtime screen --force {phantoms} {phantoms} | head -n 1"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "Traceback" not in result.stderr


def test_heatmaps_and_report(cxr_edge: Run, ward: Path, tmp_path: Path) -> None:
    maps, report = tmp_path / "maps", tmp_path / "report.html"
    cxr_edge("screen", "--force", ward, "--heatmaps", maps, "--report", report)
    pictures = sorted(maps.iterdir())
    assert len(pictures) == 4
    with Image.open(pictures[0]) as picture:
        longer, (width, height) = 3 * load_bundle().manifest.input.width, (256, 240)  # of cmyk.jpeg
        assert (picture.mode, picture.size) == ("RGB", (longer, round(longer * height / width)))
    page = report.read_text(encoding="utf-8")
    assert page.count("<figure") == 4 and "truncated.jpeg" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_names_that_are_not_utf8_and_names_with_markup(cxr_edge: Run, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)
    for name in (b"caf\xe9.jpeg", "naïve.jpeg".encode(), b"<b>.jpeg", b"new\nline.jpeg"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(phantom_jpeg(1, True))
    result = cxr_edge("screen", "--force", os.fsdecode(folder), "--format", "jsonl", "--report",
                      tmp_path / "report.html")  # fmt: skip
    assert result.returncode == 0
    names = [str(r["source"]).rpartition("odd/")[2] for r in records(result.stdout)]
    assert sorted(names) == sorted(["caf\\xe9.jpeg", "naïve.jpeg", "<b>.jpeg", r"new\nline.jpeg"])
    assert "<b>.jpeg" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_loop_of_links_and_own_output_inside_the_folder(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(phantoms, tmp_path / "images")
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden").write_text("x", encoding="utf-8")
    output = folder / "results.jsonl"
    result = cxr_edge("screen", "--force", folder, "--format", "jsonl", "--output", output,
                      "--heatmaps", folder / "maps")  # fmt: skip
    assert result.returncode == 0
    assert len(records(output.read_text(encoding="utf-8"))) == 6


def test_operating_point_and_threshold(cxr_edge: Run, phantoms: Path) -> None:
    balanced = cxr_edge(
        "screen", "--force", phantoms, "--format", "jsonl", "--operating-point", "balanced"
    )
    assert {r["operating_point"] for r in records(balanced.stdout)} == {"balanced"}
    custom = cxr_edge("screen", "--force", phantoms, "--format", "jsonl", "--threshold", "0.999999")
    assert {r["decision"] for r in records(custom.stdout)} == {"normal"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["screen"], "PATH"),
        (["screen", "x", "--format", "xml"], "xml"),
        (["screen", "x", "--threads", "0"], "at least 1"),
        (["screen", "x", "--resume"], "--output"),
        (["screen", "x", "--resume", "--output", "y"], "jsonl"),
        (["screen", "x", "--threshold", "7"], "between 0 and 1"),
        (["screen", "x", "--operating-point", "no"], "no operating point"),
        (["screen", "x", "--bundle", "/nowhere"], "not a model bundle"),
        (["verify", "/nowhere"], "not a model bundle"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_reason(
    cxr_edge: Run, arguments: list[str], said: str
) -> None:
    result = cxr_edge(*arguments)
    assert result.returncode == 2 and said in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_an_empty_folder_is_not_a_success(cxr_edge: Run, tmp_path: Path) -> None:
    result = cxr_edge("screen", "--force", tmp_path)
    assert result.returncode == 2 and "no files found" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(cxr_edge: Run, verb: str) -> None:
    result = cxr_edge(verb, "--help")
    assert result.returncode == 0 and "example: cxr-edge " + verb in result.stdout


def test_info_names_what_is_used(cxr_edge: Run) -> None:
    facts = json.loads(cxr_edge("info", "--json").stdout)
    assert facts["engine auto"] in ("litert", "onnxruntime")
    assert facts["optional"]["dicom"].startswith(("installed", "missing: pip install"))
    points = load_bundle().manifest.operating_points
    assert set(facts["operating_points"]) == {p.name for p in points}
    assert "tflite-runtime" in cxr_edge("info").stdout


def test_verify_meets_the_known_answers(cxr_edge: Run) -> None:
    result = cxr_edge("verify")
    assert result.returncode == 0 and "3 known answers met" in result.stdout


def test_verify_finds_a_changed_model(cxr_edge: Run, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    with open(copy / "model.onnx", "r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    result = cxr_edge("verify", copy)
    assert result.returncode == 2 and "model.onnx" in result.stderr


def test_the_demo_shows_every_kind_of_answer(cxr_edge: Run, tmp_path: Path) -> None:
    result = cxr_edge("demo", "--output", tmp_path / "demo", "--count", "6")
    assert result.returncode == 0, result.stderr
    found = records((tmp_path / "demo" / "results.jsonl").read_text(encoding="utf-8"))
    assert len(found) == 8
    assert {r["decision"] for r in found} == {"normal", "pneumonia", "uncertain", None}
    (turned,) = (r for r in found if r["status"] == "rejected")
    (cut,) = (r for r in found if r["status"] == "error")
    assert "turned" in str(turned["source"]) and "rotated" in turned["quality"]["flags"]  # type: ignore[index]
    assert "cut" in str(cut["source"])
    assert "SYNTHETIC" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "demo" / "heatmaps").iterdir())) == 6


def test_a_progress_bar_only_on_a_terminal(phantoms: Path) -> None:
    pty = pytest.importorskip("pty")
    command = [sys.executable, "-m", "edge_runtime", "screen", "--force", str(phantoms)]
    leader, follower = pty.openpty()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=follower, check=True)
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    assert "#] 6/6" in shown
    silent = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "#]" not in silent.stderr


def test_a_report_or_heatmap_that_cannot_be_written_is_no_traceback(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.jsonl"
    result = cxr_edge("screen", "--force", phantoms, "--format", "jsonl", "--output", output,
                      "--report", tmp_path / "nowhere" / "report.html")  # fmt: skip
    assert result.returncode == 2 and "nowhere" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(records(output.read_text(encoding="utf-8"))) == 6


def test_a_name_as_long_as_names_can_be_has_its_heatmap(cxr_edge: Run, tmp_path: Path) -> None:
    file = tmp_path / ("ä" * 120 + ".jpeg")
    file.write_bytes(phantom_jpeg(1, True))
    result = cxr_edge("screen", "--force", file, "--heatmaps", tmp_path / "maps")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_resuming_a_file_that_is_no_result_is_refused(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    other = tmp_path / "picture.jsonl"
    content = phantom_jpeg(1, True)
    other.write_bytes(content)
    for format_name in ("jsonl", "csv"):
        result = cxr_edge(
            "screen", phantoms, "--format", format_name, "--output", other, "--resume"
        )
        assert result.returncode == 2 and "of ours" in result.stderr
        assert "Traceback" not in result.stderr
    assert other.read_bytes() == content, "nothing of it may be cut"


def test_two_processes_cannot_write_one_file(cxr_edge: Run, phantoms: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.jsonl"
    writer = RecordWriter(str(output), "jsonl")
    result = cxr_edge("screen", phantoms, "--format", "jsonl", "--output", output)
    assert result.returncode == 2 and "another process" in result.stderr
    writer.close()
    assert output.read_bytes() == b""
    result = cxr_edge("screen", phantoms, "--format", "jsonl", "--output", output, "--force")
    assert result.returncode == 0 and len(output.read_text().splitlines()) == 6


def test_own_files_inside_the_folder_are_left_out(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    shutil.copy(phantoms / "1.jpeg", tmp_path / "a.jpeg")
    (tmp_path / "z").symlink_to(tmp_path / "o.jsonl")
    result = cxr_edge(
        "screen", tmp_path, "--format", "jsonl", "--output", tmp_path / "o.jsonl", "--force",
        "--audit", tmp_path / "log", "--heatmaps", tmp_path / "maps",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 1


def test_a_csv_that_a_spreadsheet_saved_is_gone_on_with(
    cxr_edge: Run, phantoms: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    options = ("screen", phantoms, "--format", "csv", "--output", file, "--force")
    assert cxr_edge(*options).returncode == 0
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    again = cxr_edge(*options, "--resume")
    assert again.returncode == 0 and "skipped" in again.stderr, again.stderr
