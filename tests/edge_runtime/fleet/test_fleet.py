"""Many boxes: only whole logs are taken, nothing is lost or doubled, and changes are told apart."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.errors import InvalidValueError
from edge_runtime.fleet.changes import report_boxes
from edge_runtime.fleet.collect import collect, find_logs
from edge_runtime.fleet.days import DISTANCE_EDGES, SCORE_EDGES, Day, days_of, histogram
from edge_runtime.fleet.page import render_page, render_text
from edge_runtime.judge.quality import Quality
from edge_runtime.judge.reference import make_reference
from edge_runtime.records.audit_log import AuditLog
from edge_runtime.records.messages import LANGUAGES
from edge_runtime.records.record import ModelIdentity, Record
from edge_runtime.statistics.odds import probability
from tests.languages import foreign_words

pytest.importorskip("pyarrow")
from edge_runtime.fleet.store import FILE, read_boxes, read_days, write_store

MODEL = ModelIdentity("m", "1", "b" * 64, "litert 2")


def record(seed: int, status: str = "ok") -> Record:
    rng = np.random.default_rng(seed)
    p = round(probability(float(rng.normal())), 8)
    judged = status == "ok"
    return Record(
        source="-",
        sha256=f"{seed:064x}",
        status=status,
        probability=p if judged else None,
        decision=("pneumonia" if p > 0.7 else "uncertain" if p > 0.5 else "normal")
        if judged
        else None,
        operating_point="triage",
        threshold=0.7,
        quality=Quality(judged, (), round(float(rng.gamma(4, 0.1)), 4)),
        model=MODEL,
    )


def write_log(folder: Path, seeds: range, **options: int) -> None:
    log = AuditLog(str(folder), **options)
    for seed in seeds:
        log.record(record(seed, "rejected" if seed % 10 == 9 else "ok"))
    log.close()


def simulated(
    boxes: int, rng: np.random.Generator, past: int = 1500, shift: float = 0.0, odd: str = ""
) -> list[Day]:
    """Boxes of a year, 300 films on the last day; the odd one has another machine on that day."""
    days = []
    begin = datetime.date(2026, 1, 1)
    for i in range(boxes):
        name = f"box {i:03}"
        for k in range(6):
            films = 300 if k == 5 else past // 5
            moved = shift if name == odd and k == 5 else 0.0
            scores = rng.normal(-1 + moved, 1.5, films)
            distances = rng.gamma(4, 0.1 * (1 + moved), films)
            day = (begin + datetime.timedelta(days=60 * k)).isoformat()
            rejected = int(rng.binomial(films, 0.02))
            days.append(
                Day(
                    name, day, "b" * 64, "litert 2", "", films, films // 3, 0,
                    films - films // 3 - rejected, rejected, 0,
                    histogram(scores, SCORE_EDGES), histogram(distances, DISTANCE_EDGES),
                )
            )  # fmt: skip
    return days


def test_whole_logs_are_taken_and_broken_ones_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usb, store = tmp_path / "usb", str(tmp_path / "store")
    write_log(usb / "north" / "audit", range(40))
    write_log(usb / "south", range(100, 130))
    write_log(usb / "east", range(200, 220))
    file = usb / "east" / "audit-000001.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:5], lines[5].replace('"ok"', '"no"'), *lines[6:]]))
    assert main(["fleet", "collect", str(usb), "--store", store]) == 1
    told = capsys.readouterr()
    assert "REFUSED east: the log is not whole" in told.err and "line 6" in told.err
    assert "2 boxes, 2 days; 1 refused" in told.out
    days = {day.box: day for day in read_days(store)}
    assert set(days) == {"north", "south"}
    north = days["north"]
    expected = [record(s, "rejected" if s % 10 == 9 else "ok") for s in range(40)]
    assert north.results == 40 and north.rejected == 4 and north.errors == 0
    assert north.positive == sum(r.decision == "pneumonia" for r in expected)
    assert north.positive + north.uncertain + north.normal + north.rejected == 40
    assert sum(north.scores) == 36 and sum(north.distances) == 40
    # Nothing but counts leaves a log.
    assert "sha256" not in json.dumps(dataclasses.asdict(north))


def test_collected_again_nothing_is_doubled_and_nothing_lost(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    log = tmp_path / "box" / "audit"
    write_log(log, range(30))
    collect([str(log)], store)
    collect([str(log)], store)
    assert sum(d.results for d in read_days(store)) == 30
    write_log(log, range(30, 50))
    write_log(log, range(45, 50))  # the same films once more, as after a crash
    assert collect([str(tmp_path)], store).refused == ()
    assert sum(d.results for d in read_days(store)) == 50
    assert read_boxes(store)["box"].last_n >= 55


def test_another_log_under_an_old_name_is_refused(tmp_path: Path) -> None:
    store, log = str(tmp_path / "store"), tmp_path / "box" / "audit"
    write_log(log, range(30))
    collect([str(log)], store)
    shutil.rmtree(log)
    write_log(log, range(500, 540))
    (refused,) = collect([str(log)], store).refused
    assert refused[0] == "box" and "not the log that was collected before" in refused[1]
    assert sum(d.results for d in read_days(store)) == 30


def test_a_log_that_drops_its_oldest_files_goes_on(tmp_path: Path) -> None:
    store, log = str(tmp_path / "store"), tmp_path / "box" / "audit"
    options = {"max_file_bytes": 4000, "keep_files": 3}
    write_log(log, range(12), **options)
    collect([str(log)], store)
    write_log(log, range(12, 15), **options)
    assert collect([str(log)], store).refused == ()
    write_log(log, range(15, 400), **options)
    (refused,) = collect([str(log)], store).refused
    assert "were never collected" in refused[1] and "--audit-keep" in refused[1]


def test_folders_that_hold_no_box(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_log(tmp_path / "a" / "box", range(3))
    write_log(tmp_path / "b" / "box", range(3))
    for folders, told in (
        ([tmp_path / "empty"], "no audit log"),
        ([tmp_path / "gone"], "gone"),
        ([tmp_path], "two boxes are called 'box'"),
    ):
        with pytest.raises(InvalidValueError, match=told):
            find_logs([str(f) for f in folders])
    assert main(["fleet", "report", "--store", str(tmp_path / "none")]) == 2
    assert main(["fleet", "collect", "--store", str(tmp_path / "none")]) == 2


def test_a_store_that_is_not_ours_is_refused_and_stays(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    store = tmp_path / "store"
    store.mkdir()
    parquet.write_table(pyarrow.table({"a": [1]}), store / FILE)
    with pytest.raises(InvalidValueError, match="holds no days of boxes"):
        read_days(str(store))
    (store / FILE).write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InvalidValueError, match=FILE):
        read_days(str(store))


def test_what_stands_in_a_log_cannot_break_a_day() -> None:
    strange = [
        {"event": "result", "time": 5, "probability": "x", "ood_score": True, "image": None},
        {"event": "result", "time": "2026-01-01T", "probability": float("nan"), "image": ["a"]},
        {"event": "retention"},
        {"event": "result", "decision": {"a": 1}, "status": 3},
    ]
    days = days_of("x", strange)
    assert sum(d.results for d in days) == 3 and all(sum(d.scores) == 0 for d in days)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_said() -> None:
    """Forty months of 200 boxes in which nothing changes."""
    rng = np.random.default_rng(0)
    alarms = [any(b.changed for b in report_boxes(simulated(200, rng))) for _ in range(40)]
    assert sum(alarms) / len(alarms) <= 0.1  # 0.05 is the level, on forty reports
    assert sum(alarms) <= 4


@pytest.mark.slow
def test_a_machine_that_was_replaced_is_found_among_200() -> None:
    """Half a standard deviation after 300 films."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(40):
        first = report_boxes(simulated(200, rng, shift=0.8, odd="box 007"))[0]
        found += first.box == "box 007" and first.changed
    assert found >= 38


def test_models_engines_and_profiles_are_no_past_of_each_other() -> None:
    days = simulated(1, np.random.default_rng(0))
    other = [dataclasses.replace(d, bundle="c" * 64) for d in days[:-1]]
    (box,) = report_boxes([*other, days[-1]])
    assert box.own_past == () and not box.changed and box.films == 1800
    known = make_reference("validation", np.full(500, 3.0), np.full(500, 0.05), 0)
    (box,) = report_boxes(days, {"b" * 64: known})
    assert all(c.changed for c in box.calibration if c.what != "refusals")


def test_pages_in_every_language(tmp_path: Path) -> None:
    days = simulated(4, np.random.default_rng(2), shift=2.0, odd="box 002")
    evil = [dataclasses.replace(d, box="<script>alert(1)</script>") for d in days[:3]]
    boxes = report_boxes([*days, *evil])
    assert boxes[0].box == "box 002" and "Changed" in render_text(boxes)
    for language in LANGUAGES:
        page = render_page(boxes, language)
        assert "<script>" not in page and "<svg" in page and "{" not in page.split("<body>")[1]
        if language != "en":
            assert not foreign_words(
                " ".join(render_page(boxes, language).split("<h1>")[1].split("<")[0:1]), language
            )
    store = str(tmp_path / "store")
    write_store(store, days, [])
    out = tmp_path / "fleet.html"
    assert main(["fleet", "report", "--store", store, "--output", str(out)]) == 1
    assert "box 002" in out.read_text(encoding="utf-8")


def test_what_a_stick_can_hold_makes_nothing_wait_and_no_terminal_obey(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe in place of a log or its head, a line without end, names that are commands."""
    store, usb = str(tmp_path / "store"), tmp_path / "usb"
    write_log(usb / "good", range(12))
    (usb / "pipe").mkdir()
    os.mkfifo(usb / "pipe" / "audit-000001.jsonl")
    write_log(usb / "head", range(20, 32))
    (usb / "head" / "head.json").unlink()
    os.mkfifo(usb / "head" / "head.json")
    (usb / "endless").mkdir()
    with open(usb / "endless" / "audit-000001.jsonl", "wb") as file:
        file.truncate(40_000_000)
    evil = usb / "\x1b[2J\udcff"
    write_log(evil, range(40, 52))
    (evil / "head.json").write_text("{}")
    assert main(["fleet", "collect", str(usb), "--store", store]) == 1
    told = capsys.readouterr()
    assert "1 boxes, 1 days; 4 refused" in told.out and "\x1b" not in told.err
    for box in ("pipe", "head", "endless", r"\x1b[2J\xff"):
        assert f"REFUSED {box}: " in told.err
    assert [day.box for day in read_days(store)] == ["good"]


def test_a_first_day_that_lost_its_beginning_takes_nothing_back(tmp_path: Path) -> None:
    store, log = str(tmp_path / "store"), tmp_path / "box" / "audit"
    options = {"max_file_bytes": 4000, "keep_files": 4}
    total = 0
    for step in range(12):  # all on one day, in a log that forgets it
        write_log(log, range(step * 5, step * 5 + 5), **options)
        assert collect([str(log)], store).refused == ()
        (day,) = read_days(store)
        assert day.results >= total
        total = day.results
    assert total >= 20
