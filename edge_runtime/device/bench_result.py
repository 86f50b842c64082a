"""What `cxr-edge bench` measured, in types and as text; `schemas/bench-1.schema.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.device.machine import Condition, Machine

SCHEMA = "cxr-edge/bench/1"


@frozen
class Latency:
    """Milliseconds over all queries; percentiles by nearest rank."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    minimum: float
    maximum: float
    jitter: float  # p99 - p50

    @staticmethod
    def of(seconds: Sequence[float]) -> Latency:
        values = np.sort(np.asarray(seconds)) * 1e3

        def rank(share: float) -> float:
            return round(float(values[max(0, math.ceil(share * len(values)) - 1)]), 4)

        p50, p99 = rank(0.5), rank(0.99)
        return Latency(
            p50,
            rank(0.9),
            rank(0.95),
            p99,
            round(float(values.mean()), 4),
            round(float(values[0]), 4),
            round(float(values[-1]), 4),
            round(p99 - p50, 4),
        )


@frozen
class Scenario:
    """One scenario at one number of threads."""

    name: str  # single-stream | offline
    threads: int
    queries: int
    seconds: float
    images_per_second: float
    latency_ms: Latency | None  # single-stream only
    stages_ms: Mapping[str, float]  # median by stage, single-stream only
    # Per block: seconds per image over seconds of the reference work beside it.
    relative: tuple[float, ...]


@frozen
class ColdStart:
    """Whole processes, from start to the record of one image."""

    processes: int
    median_ms: float
    relative: tuple[float, ...]  # over a process that only imports numpy and Pillow, in turn
    peak_memory_mb: float | None  # largest resident size; None where the system does not tell


@frozen
class Environment:
    machine: Machine
    before: Condition
    after: Condition
    versions: Mapping[str, str]
    engine: str


@frozen
class BenchedModel:
    name: str
    version: str
    sha256: str
    size_bytes: int


@frozen
class BenchedImages:
    count: int
    synthetic: bool
    mean_bytes: int


@frozen
class BenchResult:
    """All of a result file; `schemas/bench-1.schema.json` in types."""

    schema: str
    environment: Environment
    model: BenchedModel
    images: BenchedImages
    min_seconds: float
    min_queries: int
    reference_ms: float  # median of the reference work
    scenarios: tuple[Scenario, ...]
    cold_start: ColdStart | None


def table(result: BenchResult) -> str:
    """The result as text for people."""
    environment, machine = result.environment, result.environment.machine
    where = machine.board or machine.processor or machine.system
    lines = [
        f"{result.model.name} {result.model.version} on {environment.engine}, {where}, "
        f"{machine.processors} processors ({machine.system})",
        f"{result.images.count} {'SYNTHETIC ' if result.images.synthetic else ''}images, "
        f"{result.images.mean_bytes / 1e3:.0f} kB on average; at least {result.min_seconds:g} s "
        f"and {result.min_queries} queries each; milliseconds",
        "",
        f"{'scenario':14} {'threads':>7} {'images/s':>9} "
        + " ".join(f"{p:>8}" for p in ("p50", "p90", "p95", "p99", "jitter")),
    ]
    for s in result.scenarios:
        cells = ""
        if s.latency_ms:
            latency = s.latency_ms
            values = (latency.p50, latency.p90, latency.p95, latency.p99, latency.jitter)
            cells = " ".join(f"{v:8.2f}" for v in values)
        lines.append(f"{s.name:14} {s.threads:7} {s.images_per_second:9.1f} {cells}".rstrip())
    lines += ["", "medians by stage, single-stream: "]
    for s in result.scenarios:
        if s.stages_ms:
            stages = ", ".join(f"{name} {ms:.2f}" for name, ms in s.stages_ms.items())
            lines.append(f"  {s.threads} thread{'s' * (s.threads > 1)}: {stages}")
    if result.cold_start:
        cold = result.cold_start
        memory = "" if cold.peak_memory_mb is None else f", peak {cold.peak_memory_mb:.0f} MB"
        lines.append(f"cold start of a process: {cold.median_ms:.0f} ms{memory}")
    lines.append(f"model file: {result.model.size_bytes / 1e6:.2f} MB")
    lines += _conditions(environment)
    return "\n".join(lines) + "\n"


def _conditions(environment: Environment) -> list[str]:
    before, after, lines = environment.before, environment.after, []
    if after.temperature_c is not None and before.temperature_c is not None:
        lines.append(f"temperature: {before.temperature_c:.0f} to {after.temperature_c:.0f} °C")
    if environment.machine.governor:
        lines.append(f"governor: {environment.machine.governor}")
    if after.throttling:
        lines.append(f"THROTTLED: {', '.join(after.throttling)}; cool the board, measure again")
    if before.load is not None and before.load > 0.5:
        lines.append(f"the machine was not idle: load average {before.load}")
    return lines


def metrics_of(result: BenchResult) -> dict[str, tuple[float, ...]]:
    """What two results are compared by: a value per block or process, smaller is better."""
    found: dict[str, tuple[float, ...]] = {
        f"{s.name}, {s.threads} thread{'s' * (s.threads > 1)}": s.relative for s in result.scenarios
    }
    if result.cold_start:
        found["cold start"] = result.cold_start.relative
        if result.cold_start.peak_memory_mb:
            found["peak memory"] = (result.cold_start.peak_memory_mb,)
    found["model size"] = (float(result.model.size_bytes),)
    return found
