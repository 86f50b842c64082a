"""Throws damaged files at every reader: nothing but a tensor or an ImageError may come back.

    python -m tests.fuzz --cases 100000 [--seed 1]

The files are the golden ones and, where pydicom is installed, DICOM files; each case damages one
of them by its number, so that a failure repeats with `--only NUMBER`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import InputSpec, prepare

GOLDEN = Path(__file__).parent / "data" / "golden"
SPEC = InputSpec(96, 96)
SECONDS_PER_CASE = 20
_DICOM = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm",
          "MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm", "rtplan.dcm")  # fmt: skip


def load_seeds() -> list[bytes]:
    """The undamaged files, small ones only: a case should take a millisecond."""
    files = [f for f in sorted(GOLDEN.iterdir()) if f.suffix != ".json"]
    try:
        from pydicom.data import get_testdata_file

        found = [get_testdata_file(name, download=False) for name in _DICOM]
        files += [Path(str(path)) for path in found if path]
    except ImportError:
        pass
    return [content for f in files if len(content := f.read_bytes()) < 60_000]


def damage(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """One to four random injuries."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if len(data) < 8:
            break
        # Headers decide more than pixels: half of the injuries fall into the first 1024 bytes.
        reach = min(len(data), 1024) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(0, reach))
        length = int(rng.integers(1, 64))
        match rng.integers(0, 8):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                number = int(rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                order = "big" if rng.random() < 0.5 else "little"
                data[at : at + 4] = number.to_bytes(4, order)
            case 6:
                other = others[int(rng.integers(0, len(others)))]
                data[at:] = other[at:]
            case 7:
                data += rng.bytes(length)
    return bytes(data)


def run_case(number: int, seed: int, seeds: list[bytes]) -> str:
    """Outcome of one case: "ok" or an error code. Anything else escapes as an exception."""
    rng = np.random.default_rng((seed, number))
    content = damage(seeds[number % len(seeds)], seeds, rng)
    try:
        tensor = prepare(content, SPEC)
    except ImageError as error:
        assert str(error), "an error without a reason"
        return error.code.value
    assert tensor.shape == (96, 96, 1) and tensor.dtype == np.uint8
    return "ok"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="repeat one case")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    seeds = load_seeds()
    outcomes: Counter[str] = Counter()
    start, slowest = time.monotonic(), (0.0, -1)
    numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
    for number in numbers:
        begun = time.monotonic()
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS_PER_CASE)  # a hang kills the process, and CI sees it
        try:
            outcomes[run_case(number, arguments.seed, seeds)] += 1
        except Exception:
            print(f"case {number} of seed {arguments.seed}", file=sys.stderr)
            raise
        slowest = max(slowest, (time.monotonic() - begun, number))
        if sys.stderr.isatty() and number % 500 == 0:
            print(f"\r{number}/{arguments.cases}", end="", file=sys.stderr)
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    print(
        f"{sum(outcomes.values())} cases over {len(seeds)} files in "
        f"{time.monotonic() - start:.0f} s, slowest {slowest[0]:.2f} s (case {slowest[1]}): "
        f"{dict(outcomes.most_common())}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
