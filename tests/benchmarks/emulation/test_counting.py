"""Instructions counted under emulation: exactly, and told with what they are good for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.emulation import counting
from benchmarks.emulation.boards import COUNTED_BOARDS
from benchmarks.speed.boards import STAGES, BoardRow, BoardsResult, Foretold, to_markdown
from edge_runtime.errors import InvalidValueError

QEMU = "qemu-x86_64"
_LOOP = """
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
    volatile long sum = 0;
    long rounds = count > 1 ? atol(words[1]) : 0;
    getpgid(0x00C0FFEE);
    for (long i = 0; i < rounds; i++) sum += i;
    getpgid(0x00C0FFEE + 1);
    return 0;
}
"""


def test_every_instruction_is_counted_once(tmp_path: Path) -> None:
    if lacking := counting.missing(QEMU):
        pytest.skip(lacking)
    plugin = counting.build_plugin(QEMU, tmp_path)
    source, program, counts = (tmp_path / name for name in ("loop.c", "loop", "counts"))
    source.write_text(_LOOP)
    subprocess.run(["cc", "-O1", "-o", program, source], check=True)
    found = []
    for rounds in (10_000, 20_000, 40_000):
        counts.unlink(missing_ok=True)
        command = [QEMU, "-plugin", f"{plugin},to={counts}", program, str(rounds)]
        subprocess.run(command, check=True)
        found.append(counting.read_counts(counts)[1])
    once = (found[1] - found[0]) / 10_000  # instructions of one round
    assert once == int(once) > 0
    assert found[2] - found[1] == 20_000 * once
    assert found[0] - 10_000 * once < 1000  # what lies beside the loop


def test_a_run_without_marks_is_no_count(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="no mark"):
        counting.read_counts(tmp_path / "nothing")


def test_the_page_begins_with_how_far_off_it_is() -> None:
    stages = dict.fromkeys(STAGES, 1_000_000)
    rows = [
        BoardRow(board, "default", "onnxruntime", weights, 5, stages)
        for board in COUNTED_BOARDS
        for weights in ("signed", "unsigned")
    ]
    foretold = (
        Foretold("small", "litert", "decode", 2.0, 1.0),
        Foretold("tiny", "litert", "decode", 1.0, 1.1),
    )
    text = to_markdown(BoardsResult("a film", tuple(rows), foretold))
    assert "off by 50% at worst and 30% in the median" in text
    assert "| small | litert | decode | 2.00 | 1.00 | -50% |" in text
    assert "cortex-a72 (Pi 4) | default" in text
