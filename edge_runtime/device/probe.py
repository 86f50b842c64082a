"""Try one engine and say how it went, as JSON; `doctor` runs this in a process of its own.

    python -m edge_runtime.device.probe ENGINE [BUNDLE]

An engine that was built for another processor ends the process with an illegal instruction, and a
missing library can end it at import: both must be reported, not suffered.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

_RUNS = 20


def probe(engine: str, bundle: str | None) -> dict[str, object]:
    """Load, check every known answer, measure.

    Raises:
        CxrEdgeError: The engine or the bundle is unusable; the message says why.
    """
    from edge_runtime.images.preprocess import prepare
    from edge_runtime.screener import Screener

    start = time.perf_counter()
    screener = Screener.load(bundle, engine=engine, threads=1, check=False)
    loaded = time.perf_counter()
    answers = screener.bundle.manifest.known_answers
    differences = [screener.check_known_answer(answer) for answer in answers]
    known = [d for d in differences if d is not None]
    pixels = prepare(answers[0].image, screener.bundle.manifest.input)
    times = []
    for _ in range(_RUNS):
        begun = time.perf_counter()
        screener.run(pixels)
        times.append(time.perf_counter() - begun)
    return {
        "engine": screener.engine_name,
        "load_ms": round((loaded - start) * 1e3, 1),
        "infer_ms": round(statistics.median(times) * 1e3, 3),
        "known_answers": len(known),
        "largest_difference": max(known) if known else None,
    }


def main() -> None:
    engine, bundle = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    try:
        result = probe(engine, bundle)
    except BaseException as error:  # whatever it is, the parent shall read it
        result = {"fault": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
