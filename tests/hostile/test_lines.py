"""Lines that are read back: damage is named, and ends nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.basics.strict_json import strict_loads
from edge_runtime.records.audit_check import verify_log
from edge_runtime.records.audit_log import AuditLog, read_log
from tests.conftest import Run

DAMAGED = {
    "a key twice": b'{"a": 1, "a": 2}',
    "no number": b'{"a": NaN}',
    "endless": b'{"a": -Infinity}',
    "brackets": b"[" * 100_000,
    "deep": b'{"a": ' * 50_000,
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "no text": b"\xff\xfe{}",
    "nothing": b"",
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_what_is_no_plain_json_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        strict_loads(DAMAGED[name])


def test_plain_json_is_what_it_was() -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": -(10**17)}}
    assert strict_loads(json.dumps(value)) == value


@pytest.mark.parametrize("name", list(DAMAGED))
def test_an_audit_log_with_such_a_line_is_not_whole(
    name: str, tmp_path: Path, cxr_edge: Run
) -> None:
    log = AuditLog(str(tmp_path))
    for i in range(3):
        log.append("result", {"i": i})
    log.close()
    (file,) = tmp_path.glob("audit-*.jsonl")
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], DAMAGED[name], *lines[1:]]) + b"\n")
    count, problems = verify_log(str(tmp_path))
    assert count >= 3 and problems
    assert len(list(read_log(str(tmp_path)))) == len(lines)
    if name in ("brackets", "a key twice"):
        result = cxr_edge("audit", "verify", tmp_path)
        assert result.returncode == 1 and "Traceback" not in result.stderr


def test_a_key_that_was_doubled_is_found(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path))
    log.append("result", {"decision": "normal"})
    log.close()
    (file,) = tmp_path.glob("audit-*.jsonl")
    line = file.read_text()
    file.write_text('{"decision": "pneumonia", ' + line.lstrip()[1:])
    assert verify_log(str(tmp_path))[1]


def test_a_summary_counts_what_is_there(tmp_path: Path, cxr_edge: Run) -> None:
    log = AuditLog(str(tmp_path))
    for flags in (7, None, "x", ["colour"]):
        log.append("result", {"flags": flags})
    log.close()
    result = cxr_edge("audit", "summary", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["flags"] == {"colour": 1}


def test_a_request_that_is_no_plain_json_is_answered(cxr_edge: Run) -> None:
    lines = [b'{"id": NaN}', b'{"id": 1, "id": 2}', b"[" * 60_000, b'{"id": 5}']
    result = cxr_edge("pipe", input=b"\n".join(lines) + b"\n", text=False)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 4 and all("error" in answer for answer in answers)
    assert b"Traceback" not in result.stderr


def test_names_of_files_cannot_command_a_terminal(tmp_path: Path, cxr_edge: Run) -> None:
    for name in ("a\x1b[31mred.jpeg", "b\u202egpj.exe.jpeg", "c\u2028d.jpeg", "ü.jpeg"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff")
    result = cxr_edge("screen", tmp_path)
    assert result.returncode == 1
    assert all(line.isprintable() for line in result.stdout.split("\n"))
    for shown in (r"a\x1b[31mred.jpeg", r"b\u202egpj", r"c\u2028d", "ü.jpeg"):
        assert shown in result.stdout
    for language in ("fr", "pt"):
        told = cxr_edge("screen", tmp_path, "--lang", language).stdout
        assert all(line.isprintable() for line in told.split("\n"))
