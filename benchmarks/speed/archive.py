"""What an archive costs, in one run: films a second beside `screen`, by workers and by where films
lie, memory over many films, and the time of a report.

Rates are slopes: two sizes of the same films, the time between them; what it takes to start is told
by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.arguments import add_data
from benchmarks.results import files_of, median_ratio, write_results
from edge_runtime.archive.folder import ArchiveFolder, made_with, new_run
from edge_runtime.archive.rows import arrow_schema
from edge_runtime.basics.processors import usable_processors
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.screener import Screener
from edge_runtime.statistics.estimates import Estimate

_SMALL, _LARGE = 2, 10  # copies of the films
_SHARD = 500  # films
_SIDE = 128  # pixels of a small film
_PART = 1024  # rows of a made-up part
_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclasses.dataclass(frozen=True)
class Rate:
    """One way through the same films, medians over the repetitions."""

    name: str
    rate: float  # films per second, start left out
    start: float  # seconds
    to_screen: Estimate | None = None  # ratio of the rates, in one repetition


@dataclasses.dataclass(frozen=True)
class Memory:
    """Of many small films: resident, all processes of Ray's together and the largest of ours."""

    films: int
    seconds: float
    first_mb: float  # of everything, after a tenth of the films
    last_mb: float  # at the end
    peak_mb: float
    driver_mb: float  # peaks of single processes
    actor_mb: float
    screening_mb: float


@dataclasses.dataclass(frozen=True)
class ArchiveCost:
    engine: str
    processors: int
    films: int
    repetitions: int
    megabytes: float  # of a film, mean
    row_bytes: float  # of a row, Parquet
    rates: tuple[Rate, ...]
    memory: Memory | None
    report_rows: int
    report_seconds: float | None
    report_mb: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = (
        "example: python -m benchmarks archive --data chest_xray_originals "
        "--output docs/results/archive --many 200000 --rows 1000000"
    )
    add_data(parser, "folder of radiographs")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--many", type=int, default=0, metavar="N", help="small films, for memory")
    parser.add_argument("--rows", type=int, default=0, metavar="N", help="made-up rows to report")


def run(arguments: argparse.Namespace) -> int:
    paths = files_of(arguments.data)
    screener = Screener.load(force=True)
    with tempfile.TemporaryDirectory(prefix="cxr-edge-") as temporary:
        folder = Path(temporary)
        rates, row_bytes = _rates(paths, folder, arguments.repetitions)
        memory = _many(folder / "many", arguments.many) if arguments.many else None
        seconds, megabytes = (
            _report(folder / "rows", arguments.rows, screener) if arguments.rows else (None, None)
        )
    result = ArchiveCost(
        screener.engine_name,
        usable_processors(),
        len(paths) * _LARGE,
        arguments.repetitions,
        sum(os.path.getsize(p) for p in paths) / len(paths) / 1e6,
        row_bytes,
        rates,
        memory,
        arguments.rows,
        seconds,
        megabytes,
    )
    write_results(arguments.output, "archive", result, _markdown(result))
    return 0


# ---- rates


def _rates(paths: list[str], folder: Path, repetitions: int) -> tuple[tuple[Rate, ...], float]:
    small, large = (_copies(paths, folder / f"films-{n}", n) for n in (_SMALL, _LARGE))
    shards = tuple(_shards(each, folder / f"shards-{each.name}") for each in (small, large))
    between = len(paths) * (_LARGE - _SMALL)
    found: dict[str, list[tuple[float, float]]] = {}
    with _object_store() as upload:
        ways: dict[str, tuple[object, object, tuple[object, ...]]] = {
            "screen": (small, large, ()),
            "archive": (small, large, ()),
            "archive, one worker": (small, large, ("--workers", 1)),
            "archive, tar shards": (shards[0], shards[1], ()),
        }
        if upload is not None:
            for kind, (few, many) in {"films": (small, large), "tar shards": shards}.items():
                there = (upload(few, f"small-{kind[:3]}"), upload(many, f"large-{kind[:3]}"), ())
                ways[f"archive, s3:// (a server in Python beside it), {kind}"] = there
        for _ in tqdm(range(repetitions), "repetitions", disable=None):
            for name, (fewer, more, options) in ways.items():
                times = [_timed(name, source, folder, options) for source in (fewer, more)]
                rate = between / (times[1] - times[0])
                start = times[0] - len(paths) * _SMALL / rate
                found.setdefault(name, []).append((rate, start))
    reference = [rate for rate, _ in found["screen"]]
    rates = tuple(
        Rate(
            name,
            float(np.median([rate for rate, _ in each])),
            float(np.median([start for _, start in each])),
            None if name == "screen"
            else median_ratio([r / s for (r, _), s in zip(each, reference, strict=True)]),
        )
        for name, each in found.items()
    )  # fmt: skip
    results = [*(folder / "archive-rows").glob("results/*/*.parquet")]
    row_bytes = sum(p.stat().st_size for p in results) / (len(paths) * _LARGE)
    return rates, row_bytes


def _copies(paths: list[str], folder: Path, count: int) -> Path:
    """Links to the films, several of each."""
    folder.mkdir(parents=True)
    for copy in range(count):
        for number, path in enumerate(paths):
            (folder / f"{copy:03}-{number:05}{Path(path).suffix}").symlink_to(Path(path).resolve())
    return folder


def _shards(films: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    paths = sorted(films.iterdir())
    for begin in range(0, len(paths), _SHARD):
        with tarfile.open(folder / f"{begin:06}.tar", "w", dereference=True) as shard:
            for path in paths[begin : begin + _SHARD]:
                shard.add(path, path.name)
    return folder


@contextlib.contextmanager
def _object_store() -> Iterator[Callable[[Path, str], str] | None]:
    """What uploads a folder and says its address; None where there is no moto."""
    try:
        import moto  # noqa: F401
    except ImportError:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.environ.update(_KEYS)
    options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"

    def upload(folder: Path, name: str) -> str:
        from pyarrow import fs

        store = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http",
                                region="us-east-1", allow_bucket_creation=True)  # fmt: skip
        store.create_dir("films")
        for path in sorted(folder.iterdir()):
            with store.open_output_stream(f"films/{name}/{path.name}") as stream:
                stream.write(path.read_bytes())
        return f"s3://films/{name}?{options}"

    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        yield upload
    finally:
        server.kill()
        server.wait()


def _timed(name: str, source: object, folder: Path, options: tuple[object, ...]) -> float:
    rows, records = folder / "archive-rows", folder / "records.jsonl"
    shutil.rmtree(rows, ignore_errors=True)
    records.unlink(missing_ok=True)
    begin = time.perf_counter()
    if name == "screen":
        _run("screen", source, "--format", "jsonl", "--output", records, "--force")
    else:
        _run("archive", source, "--output", rows, "--force", *options)
    return time.perf_counter() - begin


def _run(*arguments: object) -> None:
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-500:]}")


# ---- memory


def _many(folder: Path, count: int) -> Memory:
    from PIL import Image

    films = folder / "films"
    for number in range(count):
        part = films / f"{number // 1000:04}"
        if number % 1000 == 0:
            part.mkdir(parents=True)
        path = part / f"{number:07}.png"
        if number < 4:
            pixels = draw_phantom(number, bool(number % 2), _SIDE, _SIDE)
            Image.fromarray(pixels).save(films.parent / f"{number}.png")
        path.symlink_to(films.parent / f"{number % 4}.png")
    command = [sys.executable, "-m", "edge_runtime", "archive", str(films), "--output",
               str(folder / "out"), "--bundle", "tiny", "--force"]  # fmt: skip
    begin = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    watched = _Watched(process.pid, folder / "out", count)
    watcher = threading.Thread(target=watched.watch, daemon=True)
    watcher.start()
    process.wait()
    watched.is_done = True
    watcher.join()
    seconds = time.perf_counter() - begin
    return Memory(count, seconds, watched.first, watched.last, watched.peak, *watched.single)


class _Watched:
    """Resident memory of a process and all that it started, twice a second."""

    def __init__(self, pid: int, out: Path, count: int) -> None:
        self._pid, self._out, self._count = pid, out, count
        self.is_done = False
        self.first = self.last = self.peak = 0.0
        self.single = (0.0, 0.0, 0.0)  # driver, actor, screening process

    def watch(self) -> None:
        while not self.is_done:
            found = _resident(self._pid)
            total = sum(mb for _, mb in found)
            kinds = [
                max((mb for name, mb in found if is_one(name)), default=0.0)
                for is_one in (
                    lambda name: "edge_runtime archive" in name,
                    lambda name: name.startswith("ray::MapWorker"),
                    lambda name: "edge_runtime.archive.process" in name,
                )
            ]
            self.single = tuple(map(max, self.single, kinds))  # type: ignore[assignment]
            self.peak = max(self.peak, total)
            done = sum(1 for _ in self._out.glob("results/*/*.parquet")) * _PART / self._count
            if kinds[2]:
                self.last = total
                if not self.first and done > 0.1:
                    self.first = total
            time.sleep(0.5)


def _resident(pid: int) -> list[tuple[str, float]]:
    """Command lines and own megabytes (PSS, where the system tells) of a process's descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
    own = {pid}
    while more := {p for p, parent in parents.items() if parent in own} - own:
        own |= more
    found = []
    for one in own:
        with contextlib.suppress(OSError, StopIteration, IndexError):
            name = Path(f"/proc/{one}/cmdline").read_text().replace("\0", " ")
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            pss = next(line for line in lines if line.startswith("Pss:"))
            found.append((name, int(pss.split()[1]) / 1024))
    return found


# ---- a report


def _report(folder: Path, count: int, screener: Screener) -> tuple[float, float]:
    """Seconds and megabytes of a report over made-up rows."""
    from pyarrow import parquet

    archive = ArchiveFolder(str(folder))
    archive.begin(made_with(screener.conditions), ())
    archive.end()
    rng, run = np.random.default_rng(1), new_run()
    for part, begin in enumerate(range(0, count, _PART)):
        table = _rows(rng, begin, min(_PART, count - begin), run)
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        origin = ("huye", "kigali", "muhanga")[part % 3]
        archive.write(archive.result_path(origin, run, part), buffer.getvalue())
    begin_time = time.perf_counter()
    command = [sys.executable, "-m", "edge_runtime", "archive", "report", str(folder),
               "--output", str(folder / "page.html")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError("the report failed")
    return time.perf_counter() - begin_time, usage.ru_maxrss / 1024


def _rows(rng: np.random.Generator, begin: int, count: int, run: str) -> object:
    import pyarrow as pa

    probability = 1 / (1 + np.exp(-rng.normal(0, 2, count)))
    months = rng.integers(1, 13, count)
    columns = {
        "source": [f"s3://films/{begin + i:08}.dcm" for i in range(count)],
        "run": [run] * count,
        "sha256": [f"{rng.integers(2**63):064x}" for _ in range(count)],
        "status": ["ok"] * count,
        "probability": probability,
        "decision": np.where(probability > 0.7, "pneumonia",
                             np.where(probability > 0.4, "uncertain", "normal")).tolist(),
        "flags": [["out_of_distribution"] if x < 0.02 else [] for x in rng.random(count)],
        "machine": [f"ACME {i}" for i in rng.integers(0, 30, count)],
        "view": np.where(rng.random(count) < 0.5, "AP", "PA").tolist(),
        "age_years": rng.integers(0, 90, count),
        "month": [f"2025-{m:02}" for m in months],
    }  # fmt: skip
    schema = arrow_schema()
    arrays = [
        pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type)
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def _markdown(result: ArchiveCost) -> str:
    by_name = {rate.name: rate for rate in result.rates}
    one = by_name["archive, one worker"]
    lines = [
        f"{result.films} films of {result.megabytes:.2f} MB in the mean, {result.processors} "
        f"processors, {result.engine}; medians of {result.repetitions} repetitions, ratios with "
        "their 95 % bootstrap intervals.",
        "",
        "| | films/s | start, s | to `screen` |",
        "|---|---|---|---|",
        *(
            f"| {rate.name} | {rate.rate:.0f} | {rate.start:.1f} | "
            f"{'1' if rate.to_screen is None else format(rate.to_screen, '.2f')} |"
            for rate in result.rates
        ),
        "",
        f"Two workers to one: {by_name['archive'].rate / one.rate:.2f}.",
        "",
        "| films | core-hours | rows, GB | films, TB |",
        "|---|---|---|---|",
        *(
            f"| {count:.0e} | {count / one.rate / 3600:.1f} | "
            f"{count * result.row_bytes / 1e9:.2f} | {count * result.megabytes / 1e6:.1f} |"
            for count in (1e6, 1e8)
        ),
        "",
    ]
    if result.memory is not None:
        m = result.memory
        lines += [
            f"{m.films} films of {_SIDE} × {_SIDE} pixels, model `tiny`: {m.seconds:.0f} s. Memory "
            f"of all processes together {m.first_mb:.0f} MB after a tenth of them, "
            f"{m.last_mb:.0f} MB at the end, {m.peak_mb:.0f} MB at most; the driver "
            f"{m.driver_mb:.0f}, an actor {m.actor_mb:.0f}, a screening process "
            f"{m.screening_mb:.0f}.",
            "",
        ]
    if result.report_seconds is not None and result.report_mb is not None:
        lines += [
            f"Report of {result.report_rows} rows (made up): {result.report_seconds:.1f} s, "
            f"{result.report_mb:.0f} MB.",
            "",
        ]
    return "\n".join(lines)
