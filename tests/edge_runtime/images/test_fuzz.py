"""A fixed number of strange inputs; `make fuzz` throws many more."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT
from tests.fuzz.files import damage, load_seeds


def test_damage_repeats() -> None:
    import numpy as np

    seeds = load_seeds()
    assert len(seeds) >= 12
    once, again = (damage(seeds[0], seeds, np.random.default_rng(5)) for _ in range(2))
    assert once == again != seeds[0]


def test_strange_input_is_a_named_error_and_never_a_crash() -> None:
    # In a process of its own: a crash of a decoder must fail the test, not end the run.
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--cases", "3000", "--seed", "7"],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-1].startswith("3000 cases, none escaped")
