"""What one film costs on a Raspberry Pi's processor, in instructions: a board to estimate from.

The runtime's own Arm wheels run under QEMU as the processor of a board (`benchmarks.emulation`),
and a plugin counts the guest's instructions in each stage. Instructions are not time: how many a
processor finishes in a cycle depends on the work. How far that carries is measured on this machine,
where both can be had: instructions as a processor with AVX2, and time as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
from pathlib import Path

from tqdm import tqdm

from benchmarks.emulation import counting
from benchmarks.emulation.boards import (
    BOARDS,
    COUNT_TASK,
    COUNTED_BOARDS,
    Board,
    missing,
    prepare_board,
    run_here,
    run_task,
    with_processor,
)
from benchmarks.results import write_results
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.images.preprocess import decode

STAGES = ("decode", "resize", "inference", "bytes to record")
HERE = "haswell"  # the board that is this very machine, but for its newer instructions
BUNDLES = ("default", "small", "tiny")
ENGINES = ("litert", "onnxruntime")
_USED_BY = {
    "cortex-a53": "Pi 3, Pi Zero 2 W",
    "cortex-a72": "Pi 4",
    "cortex-a76": "Pi 5",
    HERE: "x86-64 with AVX2",
}


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """Instructions of one film, by stage; `start` is what a process needs before it."""

    board: str
    bundle: str
    engine: str
    weights: str  # of the .onnx file: "signed" or "unsigned"
    start: int
    instructions: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Foretold:
    """What the default's time and both numbers of instructions foretell, and what was measured."""

    bundle: str
    engine: str
    stage: str
    measured_ms: float
    foretold_ms: float

    @property
    def error(self) -> float:
        return self.foretold_ms / self.measured_ms - 1


@dataclasses.dataclass(frozen=True)
class BoardsResult:
    film: str
    rows: tuple[BoardRow, ...]
    foretold: tuple[Foretold, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks boards --image FILM.jpeg --output docs/results/boards"
    )
    parser.add_argument("--image", type=Path, help="a film; by default one is drawn, 900 x 1100")
    parser.add_argument(
        "--build", type=Path, default=Path("build/emulation"), help="where the boards' systems lie"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")


def run(arguments: argparse.Namespace) -> int:
    run_boards(arguments.image, arguments.build, arguments.output)
    return 0


def run_boards(image: Path | None, build: Path, output: Path) -> None:
    """Count on every board, time here, write boards.json and boards.md.

    Raises:
        InvalidValueError: This machine lacks what it takes, or a stage failed on a board.
    """
    for board in COUNTED_BOARDS.values():
        lacking = missing(board) or counting.missing(board.qemu)
        if lacking:
            raise InvalidValueError(lacking)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = image or folder / "drawn.jpeg"
        if image is None:
            film.write_bytes(phantom_jpeg(1, True, 900, 1100))
        result = measure(film, build, folder)
    write_results(output, "boards", result, to_markdown(result))


def measure(film: Path, build: Path, folder: Path) -> BoardsResult:
    system = prepare_board(BOARDS["aarch64"], build)
    pairs = list(itertools.product(BUNDLES, ENGINES))
    jobs = [
        (board, bundle, engine, weights)
        for board in COUNTED_BOARDS.values()
        for bundle, engine in pairs
        for weights in ("signed", "unsigned")
        # The question of the weights is asked once: it is the same for every network.
        if weights == "signed" or (engine == "onnxruntime" and bundle == "default")
    ]
    rows = []
    for board, jobs_of_board in itertools.groupby(tqdm(jobs, unit="run"), lambda job: job[0]):
        home = with_processor(board, system, build / "processors")
        plugin = counting.build_plugin(board.qemu, folder)
        rows += [_count(board, home, plugin, film, folder, *rest) for _, *rest in jobs_of_board]
    return BoardsResult(_words_of(film), tuple(rows), _foretell(film, rows))


def _count(
    board: Board, home: Path, plugin: Path, film: Path, folder: Path, bundle: str, engine: str,
    weights: str,
) -> BoardRow:  # fmt: skip
    counts = folder / "counts"
    counts.unlink(missing_ok=True)
    run_task(
        board, home, engine, [film.resolve(), bundle, "count", weights], task=COUNT_TASK,
        plugin=f"{plugin},to={counts}",
    )  # fmt: skip
    by_mark = counting.read_counts(counts)
    by_stage = {stage: by_mark[number] for number, stage in enumerate(STAGES, start=1)}
    return BoardRow(board.name, bundle, engine, weights, by_mark[0], by_stage)


def _foretell(film: Path, rows: list[BoardRow]) -> tuple[Foretold, ...]:
    """`small` and `tiny` from the default, and each stage from the whole film, on this machine."""
    counted = {
        (row.bundle, row.engine): row.instructions
        for row in rows
        if row.board == HERE and row.weights == "signed"
    }
    timed = {
        (bundle, engine): dict(
            zip(
                STAGES,
                run_here(engine, [film.resolve(), bundle, "time", "signed"], COUNT_TASK)["ns"],
                strict=True,
            )
        )
        for bundle, engine in counted
    }
    foretold = []
    for (bundle, engine), stages in counted.items():
        default, whole = ("default", engine), STAGES[-1]
        pace = timed[default][whole] / counted[default][whole]
        for stage in STAGES:
            if (bundle, stage) == ("default", whole):
                continue  # what the others are foretold from
            at = (bundle, engine)
            foretold.append(
                Foretold(bundle, engine, stage, timed[at][stage] / 1e6, stages[stage] * pace / 1e6)
            )
    return tuple(foretold)


def _words_of(film: Path) -> str:
    data = film.read_bytes()
    spec = load_bundle("default").manifest.input
    grey, facts = decode(data, spec)
    return (
        f"{facts.width} x {facts.height} pixels, {len(data) / 1000:.0f} kB, decoded at "
        f"{grey.width} x {grey.height} for the default"
    )


def to_markdown(result: BoardsResult) -> str:
    lines = [
        f"One film ({result.film}), one thread. Millions of instructions; the last column is what "
        "they take at 1 GHz with one instruction in a cycle, which is a unit and no promise: "
        "divide it by your board's GHz and by the instructions that it finishes in a cycle.",
        "",
        "| processor | model | engine | decode | resize | inference | bytes to record | "
        "before the first film | s at 1 GHz |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        if row.weights == "signed":
            cells = [f"{row.instructions[stage] / 1e6:.1f}" for stage in STAGES]
            lines.append(
                f"| {row.board} ({_USED_BY[row.board]}) | {row.bundle} | {row.engine} | "
                f"{' | '.join(cells)} | {row.start / 1e6:.0f} | "
                f"{row.instructions[STAGES[-1]] / 1e9:.3f} |"
            )
    errors = [abs(each.error) for each in result.foretold]
    lines += [
        "",
        "The least flattering first: on this machine, where time can be measured too, "
        f"instructions and the default's pace foretell a time that is off by {max(errors):.0%} at "
        f"worst and {statistics.median(errors):.0%} in the median.",
        "",
        "| model | engine | stage | measured, ms | foretold, ms | off by |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.bundle} | {each.engine} | {each.stage} | {each.measured_ms:.2f} | "
        f"{each.foretold_ms:.2f} | {each.error:+.0%} |"
        for each in result.foretold
    ]
    lines += [
        "",
        "ONNX Runtime with the default's weights signed, as they are shipped, and unsigned:",
        "",
        "| processor | signed | unsigned | signed / unsigned |",
        "|---|---|---|---|",
    ]
    for board in COUNTED_BOARDS:
        signed, unsigned = (
            next(
                row.instructions["inference"]
                for row in result.rows
                if (row.board, row.bundle, row.engine, row.weights)
                == (board, "default", "onnxruntime", weights)
            )
            for weights in ("signed", "unsigned")
        )
        note = " (kernels saturate: both run unsigned)" if board == HERE else ""
        lines.append(
            f"| {board}{note} | {signed / 1e6:.1f} | {unsigned / 1e6:.1f} | "
            f"{signed / unsigned:.2f} |"
        )
    return "\n".join([*lines, ""])
