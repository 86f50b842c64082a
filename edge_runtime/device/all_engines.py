"""Every engine that is installed here, on the same images: `cxr-edge bench --all-engines`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.parse import to_mapping
from edge_runtime.device.bench_result import BenchResult
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.errors import EngineError
from edge_runtime.screener import Screener

SCHEMA = "cxr-edge/bench-engines/1"
_HEAD = ("engine", "MB", "p50, ms", "p99, ms", "images/s", "cold, ms", "peak, MB", "decisions")


@frozen
class Benched:
    """One engine; `why` says why there is no result, where there is none."""

    engine: str
    result: BenchResult | None
    equal: int  # images that it decides as the first engine does
    why: str = ""


def bench_engines(
    bundle: str | None,
    images: Sequence[str],
    measure: Callable[[str], BenchResult],
) -> tuple[Benched, ...]:
    """A row for each engine, in the order in which `auto` would take them.

    Args:
        bundle: As for `run_bench`.
        images: Files whose decisions are compared.
        measure: `run_bench` of one engine.

    Raises:
        EngineError: There is none.
    """
    rows: list[Benched] = []
    first: list[str | None] = []
    for name in ENGINE_NAMES:
        try:
            screener = Screener.load(bundle, engine=name, threads=1, force=True)
            decided = [screener.screen(path).decision for path in images]
            first = first or decided
            equal = sum(a == b for a, b in zip(first, decided, strict=True))
            rows.append(Benched(screener.engine_name, measure(name), equal))
        except EngineError as error:
            rows.append(Benched(name, None, 0, str(error)))
    if all(row.result is None for row in rows):
        raise EngineError("; ".join(row.why for row in rows))
    return tuple(rows)


def document(rows: Sequence[Benched]) -> Mapping[str, object]:
    """What `--output` and `--json` write; each result by itself is one for `bench compare`."""
    return {"schema": SCHEMA, "engines": to_mapping(rows)}


def table(rows: Sequence[Benched], images: int) -> str:
    """A line for each engine: one image at a time on one thread, and as many as are allowed."""
    lines = [list(_HEAD)]
    for row in rows:
        if row.result is None:
            continue
        single = [s for s in row.result.scenarios if s.latency_ms is not None]
        offline = [s for s in row.result.scenarios if s.latency_ms is None]
        latency = min(single, key=lambda s: s.threads).latency_ms
        assert latency is not None
        cold = row.result.cold_start
        peak = None if cold is None else cold.peak_memory_mb
        lines.append(
            [
                row.engine,
                f"{row.result.model.size_bytes / 1e6:.2f}",
                f"{latency.p50:.2f}",
                f"{latency.p99:.2f}",
                f"{max(s.images_per_second for s in offline):.1f}",
                "" if cold is None else f"{cold.median_ms:.0f}",
                "" if peak is None else f"{peak:.0f}",
                f"{row.equal} of {images}",
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    text = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                  for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]  # fmt: skip
    text += [f"not measured: {row.engine}: {row.why}" for row in rows if row.result is None]
    text.append(
        "p50 and p99: one image from file to record, one thread; images/s: offline; decisions: as "
        "the first engine's"
    )
    return "\n".join(text) + "\n"
