"""Throw strange input at everything that reads: nothing but an answer or a named error comes back.

    python -m tests.fuzz --cases 1000000 [--seed 1] [--target dicom]

Each case follows from its number, so that a failure repeats with `--target T --only NUMBER`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.fuzz import dicom, documents, files, requests

SECONDS_PER_CASE = 10
# Of 100 cases, by how much there is to get wrong and how long one takes.
TARGETS: dict[str, tuple[int, Callable[[np.random.Generator], str]]] = {
    "files": (30, files.run_case),
    "dicom": (30, dicom.run_case),
    "manifest": (8, documents.manifest_case),
    "profile": (8, documents.profile_case),
    "record": (8, documents.record_case),
    "audit": (6, documents.audit_case),
    "options": (4, requests.options_case),
    "pipe": (6, requests.pipe_case),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--only", type=int, help="repeat one case of --target")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    total, begun = 0, time.monotonic()
    for place, (name, (share, case)) in enumerate(TARGETS.items()):
        if arguments.target not in (None, name):
            continue
        count = arguments.cases if arguments.target else arguments.cases * share // 100
        numbers = range(count) if arguments.only is None else [arguments.only]
        total += _run(name, case, numbers, (arguments.seed, place))
    print(f"{total} cases, none escaped, in {time.monotonic() - begun:.0f} s")
    return 0


def _run(
    name: str,
    case: Callable[[np.random.Generator], str],
    numbers: range | list[int],
    key: tuple[int, int],
) -> int:
    outcomes: Counter[str] = Counter()
    start, slowest = time.monotonic(), (0.0, -1)
    for number in numbers:
        begun = time.monotonic()
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS_PER_CASE)  # a hang kills the process, and CI sees it
        try:
            outcomes[case(np.random.default_rng((*key, number)))] += 1
        except BaseException:
            print(f"--target {name} --seed {key[0]} --only {number}", file=sys.stderr)
            raise
        slowest = max(slowest, (time.monotonic() - begun, number))
        if sys.stderr.isatty() and number % 500 == 0:
            print(f"\r{name}: {number}/{len(numbers)}", end="", file=sys.stderr)
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    print(
        f"{name}: {len(numbers)} cases in {time.monotonic() - start:.0f} s, slowest "
        f"{slowest[0]:.2f} s (case {slowest[1]}): {dict(outcomes.most_common())}",
        flush=True,
    )
    return len(numbers)


if __name__ == "__main__":
    sys.exit(main())
