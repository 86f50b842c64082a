"""What an archive holds after a run, whatever was in it and whatever happened."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from edge_runtime.archive.folder import ArchiveFolder
from edge_runtime.archive.plan import Plan
from edge_runtime.archive.rows import SCHEMA, check_keywords, row_of
from edge_runtime.archive.sources import list_inputs, parse_source
from edge_runtime.archive.stores import divide
from edge_runtime.archive.supervisor import ProcessError, Row, Settings, Supervisor
from edge_runtime.archive.tar import films_of
from edge_runtime.errors import ImageError, InvalidValueError
from edge_runtime.records.record import FindingResult
from edge_runtime.screener import Screener
from tests.edge_runtime.archive.conftest import rows_of, small_films
from tests.edge_runtime.services.test_listen import make_dicom

Screen = Callable[..., Plan]


def test_rows_are_the_records(tmp_path: Path, screen_here: Screen, screener: Screener) -> None:
    small_films(tmp_path / "films", [f"{i}.png" for i in range(5)])
    (tmp_path / "films" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "films" / "empty.jpg").write_bytes(b"")
    (tmp_path / "films" / ".hidden.png").write_bytes(b"not listed")
    plan = screen_here(str(tmp_path / "out"), str(tmp_path / "films"), str(tmp_path / "none.png"))
    rows = rows_of(tmp_path / "out")
    assert (plan.inputs, len(rows)) == (8, 8)
    for row in rows:
        record = screener.screen(row["source"])
        told = {
            "sha256": record.sha256,
            "status": record.status,
            "probability": record.probability,
            "decision": record.decision,
            "operating_point": record.operating_point,
            "threshold": record.threshold,
            "accepted": record.quality.accepted,
            "ood_score": record.quality.ood_score,
            "model_sha256": record.model.sha256,
            "engine": record.model.engine,
            "error_code": record.error.code if record.error else None,
        }
        assert {name: row[name] for name in told} == told
        assert tuple(row["flags"]) == record.quality.flags
        assert row["shard"] is None and row["run"] == plan.run
    assert {row["origin"] for row in rows} == {"films", "none.png"}
    files = [*(tmp_path / "out" / "results").rglob("*.parquet")]
    schema = pyarrow.parquet.read_schema(files[0])
    assert schema.metadata[b"schema"] == SCHEMA.encode()
    assert all(path.stat().st_mode & 0o077 == 0 for path in files), "the owner's alone"
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700


def test_models_of_several_labels_and_findings_have_their_columns(
    tmp_path: Path, screener: Screener
) -> None:
    import dataclasses
    import json

    record = dataclasses.replace(
        screener.screen("none.png"),
        probabilities={"normal": 0.25, "bacterial": 0.75},
        findings={"opacity": FindingResult(0.7, 0.5, "present")},
    )
    folder = ArchiveFolder(str(tmp_path))
    row = json.loads(json.dumps(row_of(record)))  # as it comes from the screening process
    folder.begin({}, ())
    folder.commit(folder.result_path("a", "run", 0), [row], ())
    (found,) = rows_of(tmp_path)
    assert dict(found["probabilities"]) == {"normal": 0.25, "bacterial": 0.75}
    assert found["findings"] == [
        {"name": "opacity", "probability": 0.7, "threshold": 0.5, "decision": "present"}
    ]
    folder.end()


def test_a_second_run_does_what_is_new(tmp_path: Path, screen_here: Screen) -> None:
    films, out = tmp_path / "films", str(tmp_path / "out")
    paths = small_films(films, [f"{i}.png" for i in range(6)])
    small_films(films / "more", ["x.png"])
    assert screen_here(out, str(films), str(films / "more")).inputs == 7, "listed twice, once done"
    first = rows_of(out)
    assert screen_here(out, str(films)).parts == 0
    os.utime(paths[0])  # touched: read again, the same content, no second row
    paths[1].write_bytes(paths[2].read_bytes() + b" ")  # changed
    small_films(films, ["new.png"])
    plan = screen_here(out, str(films))
    assert (plan.inputs, plan.done) == (3, 5)
    rows = rows_of(out)
    assert len(rows) == len(first) + 2
    of_changed = [row["sha256"] for row in rows if row["source"] == str(paths[1])]
    assert len(set(of_changed)) == 2
    assert screen_here(out, str(films), check_content=True).inputs == 8
    assert rows_of(out) == rows


def test_what_could_not_be_read_is_tried_again(tmp_path: Path, screen_here: Screen) -> None:
    films, out = tmp_path / "films", str(tmp_path / "out")
    small_films(films, ["a.png", "b.png"])
    late = tmp_path / "late.png"
    (tmp_path / "list").write_text(f"{films}\n{late}\n\n{tmp_path / 'gone.png'}\r\n")
    screen_here(out, f"site-a=@{tmp_path / 'list'}")
    rows = rows_of(out)
    assert [row["error_code"] for row in rows] == [None, None, "unreadable_file", "unreadable_file"]
    assert {row["origin"] for row in rows} == {"site-a"}
    late.write_bytes((films / "a.png").read_bytes())
    screen_here(out, f"site-a={late}")
    rows = rows_of(out)
    assert len(rows) == 4, "one row each"
    assert {row["source"]: row["status"] for row in rows}[str(late)] == "ok"
    assert sum(row["error_code"] == "unreadable_file" for row in rows) == 1, "gone.png's stays"


def test_what_a_killed_actor_left_is_no_row(tmp_path: Path, screen_here: Screen) -> None:
    small_films(tmp_path / "films", ["a.png", "b.png"])
    out = tmp_path / "out"
    screen_here(str(out), str(tmp_path / "films"))
    (whole,) = out.glob("results/*/*.parquet")
    whole.with_name(f"{whole.name}.123.part").write_bytes(whole.read_bytes())
    assert len(rows_of(out)) == 2, "written to its end, and not yet renamed"


def test_other_conditions_and_other_folders_are_refused(
    tmp_path: Path, screen_here: Screen, settings: Settings
) -> None:
    import dataclasses

    small_films(tmp_path / "films", ["a.png"])
    films, out = str(tmp_path / "films"), str(tmp_path / "out")
    screen_here(out, films)
    other = dataclasses.replace(settings, made_with={**settings.made_with, "engine": "other 1"})
    with pytest.raises(InvalidValueError, match="engine"):
        screen_here(out, films, using=other)
    with pytest.raises(InvalidValueError, match="--column"):
        screen_here(out, films, using=dataclasses.replace(settings, columns=("PatientSex",)))
    with pytest.raises(InvalidValueError, match="other files"):
        screen_here(films, out)
    held = ArchiveFolder(out)
    held.begin(settings.made_with, ())
    with pytest.raises(InvalidValueError, match="another run"):
        screen_here(out, films)
    held.end()


def tar_of(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_shards(tmp_path: Path, screen_here: Screen) -> None:
    films = [
        p.read_bytes() for p in small_films(tmp_path / "films", [f"{i}.png" for i in range(4)])
    ]
    shards = tmp_path / "shards"
    shards.mkdir()
    members = [("000.png", films[0]), ("000.json", b"{}"), ("000.cls", b"1"), ("001.png", films[1]),
               ("d/001.png", films[1]), ("001.png", films[2]), ("bad.png", b"no")]  # fmt: skip
    whole = tar_of(shards / "a.tar", members)
    tar_of(shards / "b.tar.gz", [("x.png", films[3])], "w:gz")
    cut = tar_of(shards / "cut.tar", [("1.png", films[0]), ("2.png", films[1])])
    cut.write_bytes(cut.read_bytes()[:-11000])
    (shards / "no.tar").write_bytes(os.urandom(5000))
    out = str(tmp_path / "out")
    plan = screen_here(out, f"x={shards}")
    rows = {row["source"].removeprefix(f"{shards}/"): row for row in rows_of(out)}
    assert plan.shards == 4
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {
        "a.tar#000.png", "a.tar#001.png", "a.tar#d/001.png", "a.tar#001.png#2", "b.tar.gz#x.png",
        "cut.tar#1.png",
    }  # fmt: skip
    errors = {name: row["error_code"] for name, row in rows.items() if row["status"] == "error"}
    assert errors == {"a.tar#bad.png": "unsupported_format", "cut.tar": "corrupt_image",
                      "no.tar": "corrupt_image"}  # fmt: skip
    assert rows["a.tar#000.png"]["shard"] == str(whole)
    assert rows["a.tar#000.png"]["size"] == len(films[0])
    assert screen_here(out, f"x={shards}").parts == 0
    tar_of(whole, [*members, ("new.png", films[3])])
    assert screen_here(out, f"x={shards}").inputs == 1
    assert len(rows_of(out)) == len(rows) + 1, "of a shard that grew only what is new"


def test_hostile_shards(tmp_path: Path, screen_here: Screen) -> None:
    """Headers that promise gigabytes, sparse members, names of others."""
    (film,) = small_films(tmp_path / "films", ["a.png"])
    shards = tmp_path / "shards"
    shards.mkdir()
    pax = tarfile.TarInfo("x")
    pax.type, pax.size = tarfile.XHDTYPE, 8 << 30
    (shards / "pax.tar").write_bytes(pax.tobuf() + bytes(10_000))
    large = tarfile.TarInfo("large.png")
    large.size = 4 << 30
    (shards / "large.tar").write_bytes(large.tobuf() + bytes(2_000_000))
    names = [("../../etc/passwd.png", film.read_bytes()), ("/abs.png", film.read_bytes()),
             ("a\nb.png", film.read_bytes())]  # fmt: skip
    tar_of(shards / "names.tar", names)
    os.mkfifo(shards / "pipe.tar")
    strange = shards / os.fsdecode(b"strange\xff.tar")
    strange.write_bytes((shards / "names.tar").read_bytes())
    screen_here(str(tmp_path / "out"), str(shards))
    rows = {row["source"].rpartition("/shards/")[2]: row for row in rows_of(tmp_path / "out")}
    assert rows["pax.tar"]["error_code"] == "corrupt_image"
    assert rows["large.tar#large.png"]["error_code"] == "file_too_large"
    assert rows["names.tar#../../etc/passwd.png"]["status"] == "ok"
    assert r"names.tar#a\nb.png" in rows
    assert rows["pipe.tar"]["error_code"] == "unreadable_file", "nobody waits for a writer"
    assert rows[r"strange\xff.tar#/abs.png"]["status"] == "ok"


def test_damaged_shards_end_in_an_error_of_ours(tmp_path: Path) -> None:
    """Bytes turned, cut out or doubled anywhere, in plain and packed shards."""
    import random

    draw = random.Random(1)
    members = [("a.png", bytes(range(256)) * 20), ("x" * 150 + ".png", b"1" * 700), ("c.dcm", b"")]
    whole = [tar_of(tmp_path / "a.tar", members), tar_of(tmp_path / "b.tar.gz", members, "w:gz")]
    outcomes = set()
    for number in range(400):
        original = whole[number % 2]
        data = bytearray(original.read_bytes())
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                del data[at : at + draw.randrange(1, 600)]
            elif kind == 2:
                data[at:at] = data[at : at + draw.randrange(1, 600)]
            else:  # where sizes stand
                data[min(len(data) - 1, 124 + draw.randrange(12))] = draw.choice(b"7x \x80\xff")
            data = data or bytearray(b"x")
        path = tmp_path / f"damaged{''.join(original.suffixes)}"
        path.write_bytes(data)
        try:
            with path.open("rb") as stream:
                films = [*films_of(stream, str(path))]
            outcomes.add("read")
            assert len(films) <= 10
        except ImageError as error:
            outcomes.add(error.code.value)
    assert outcomes >= {"read", "corrupt_image"} and outcomes <= {
        "read", "corrupt_image", "unreadable_file",
    }  # fmt: skip


def test_a_poisonous_film_fails_alone(
    tmp_path: Path, screen_here: Screen, settings: Settings, poison: Callable[[], list[str]]
) -> None:
    import dataclasses

    films = tmp_path / "films"
    small_films(films, ["a.png", "hang.png", "poison-1.png", "poison-2.png", "z.png"])
    tar_of(tmp_path / "films" / "s.tar", [(n, (films / "a.png").read_bytes())
                                          for n in ("1.png", "poison.png", "3.png")])  # fmt: skip
    quick = dataclasses.replace(settings, seconds=3.0)
    screen_here(str(tmp_path / "out"), str(films), using=quick)
    rows = {row["source"].rpartition("/")[2]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == 8
    aside = {name for name, row in rows.items() if row["error_code"] == "set_aside"}
    assert aside == {"hang.png", "poison-1.png", "poison-2.png", "s.tar#poison.png"}
    assert all(rows[name]["sha256"] for name in aside)
    assert {row["status"] for name, row in rows.items() if name not in aside} == {"ok"}
    assert sorted(poison()) == sorted([*aside] * 2), "twice at most"


def test_what_no_process_can_do_is_said_at_once(settings: Settings) -> None:
    import dataclasses

    other = dataclasses.replace(settings, made_with={**settings.made_with, "site": "other"})
    with pytest.raises(ProcessError, match="on this machine"):
        [*Supervisor(other).screen([{"source": "x", "shard": False}])]
    broken = dataclasses.replace(settings, screener={"bundle": "nowhere"})
    with pytest.raises(ProcessError, match="nowhere"):
        [*Supervisor(broken).screen([{"source": "x", "shard": False}])]


def test_a_screening_process_ends_with_its_actor(settings: Settings, tmp_path: Path) -> None:
    import time

    (film,) = small_films(tmp_path, ["a.png"])
    supervisor = Supervisor(settings)
    item = {"number": 0, "source": "a", "path": str(film), "store": "", "shard": False, "skip": 0,
            "size": 1, "known": [], "error": ""}  # fmt: skip
    (found,) = supervisor.screen([item])
    assert isinstance(found, Row) and found.row["status"] == "ok"
    process = supervisor._process._process  # type: ignore[union-attr]
    assert process.stdin is not None
    process.stdin.close()
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.returncode is not None
    supervisor.close()


def test_dicom_columns_name_nobody_unless_asked(
    tmp_path: Path, screen_here: Screen, settings: Settings
) -> None:
    import dataclasses

    films = tmp_path / "films"
    films.mkdir()
    make_dicom(films / "a.dcm", 1)
    screen_here(str(tmp_path / "out"), str(films))
    (row,) = rows_of(tmp_path / "out")
    assert (row["view"], row["age_years"], row["month"], row["modality"]) == (
        "AP",
        3,
        "2026-11",
        "DX",
    )
    assert not any("SECRET" in str(value) or "Doe" in str(value) for value in row.values())
    named = dataclasses.replace(settings, columns=("PatientID", "AccessionNumber"))
    screen_here(str(tmp_path / "named"), str(films), using=named)
    (row,) = rows_of(tmp_path / "named")
    assert (row["dicom_PatientID"], row["dicom_AccessionNumber"]) == ("SECRET-7", "A1")
    for wrong in ("PatientsName", "PixelData"):
        with pytest.raises(InvalidValueError, match=wrong):
            check_keywords([wrong])


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    assert parse_source(str(tmp_path / "a=b")).origin == "a-b"
    assert parse_source("ward.3=/data/x").origin == "ward.3"
    assert parse_source("s3://bucket/films/2024?region=x").origin == "2024"
    for wrong in ("", "x=@", "@"):
        with pytest.raises(InvalidValueError):
            parse_source(wrong)
    with pytest.raises(InvalidValueError, match="environment") as told:
        divide("s3://key:secret@bucket/films")
    assert "secret" not in str(told.value)
    with pytest.raises(InvalidValueError, match="nowhere"):
        [*list_inputs([parse_source(f"@{tmp_path}/nowhere")])]
    with pytest.raises(InvalidValueError):
        [*list_inputs([parse_source("nosuchscheme://bucket/films")])]
    strange = os.fsdecode(b"b\xff.png")
    (tmp_path / strange).write_bytes(b"x")
    (found,) = list_inputs([parse_source(str(tmp_path / strange))])
    assert found.source.endswith(r"b\xff.png") and found.path.endswith(strange)
