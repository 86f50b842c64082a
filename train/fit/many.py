"""Several trainings: one after the other, or several at once as tasks of Ray.

    python -m train unseen hospitals … --ray --at-once 2
    python -m train fit --recipe default … --seeds 1,2,3 --ray ADDRESS

Each training has its own run folder, and resumes in it. On Ray each is a process of its own with
its share of the processors, so that two at once are the runs that they are one after the other
with the same share (`--threads`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.archive.cluster import ray_at
from edge_runtime.basics.processors import usable_processors
from edge_runtime.commands.options import positive_int
from edge_runtime.errors import InvalidValueError
from train.fit.training import fit_from

HERE = "here"
Job = tuple[Path, tuple[str, ...]]  # run folder, further changes of the recipe


def add_many_arguments(parser: argparse.ArgumentParser) -> None:
    """What verbs take that train more than once."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const=HERE,
        metavar="ADDRESS",
        help="train as tasks of Ray: on this machine, or on the cluster at ADDRESS, which has to "
        "see the same folders",
    )
    parser.add_argument(
        "--at-once",
        type=positive_int,
        default=2,
        metavar="N",
        help="with --ray on this machine: trainings at a time; default: 2",
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="processors of each training; default: all, with --ray a share",
    )


def fit_many(arguments: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Train into each folder.

    Args:
        arguments: Of the command; each job's changes come after theirs.
        jobs: Folders, each once.

    Raises:
        InvalidValueError: Ray does not start, or a training failed; the others are finished first.
    """
    if arguments.ray is None:
        _use_threads(arguments.threads)
        for folder, changes in jobs:
            fit_from(arguments, folder, changes)
        return
    is_here = arguments.ray == HERE
    threads = arguments.threads or max(1, usable_processors() // arguments.at_once)
    with ray_at(None if is_here else arguments.ray, threads * arguments.at_once) as ray:
        # A process that has trained is not used again: nothing of one run gets into another.
        train = ray.remote(num_cpus=threads, max_calls=1, max_retries=3)(_train)
        places = {train.remote(arguments, folder, changes, threads): folder
                  for folder, changes in jobs}  # fmt: skip
        failed = []
        while places:
            done, _ = ray.wait([*places], num_returns=1)
            folder = places.pop(done[0])
            try:
                error = ray.get(done[0])
            except Exception as lost:  # the machine, or the process, too often
                error = (str(lost).splitlines() or [type(lost).__name__])[0]
            print(f"{folder}: {error or 'trained'}", file=sys.stderr)
            failed += [f"{folder} ({error})"] if error else []
    if failed:
        raise InvalidValueError(f"not trained: {', '.join(failed)}; the same command resumes")


def _use_threads(threads: int | None) -> None:
    """Before Keras is imported; later it is too late."""
    if threads is None:
        return
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(threads)


def _train(
    arguments: argparse.Namespace, folder: Path, changes: Sequence[str], threads: int
) -> str:
    """One training, in a process of its own; what went wrong, or ""."""
    _use_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            (folder / "log.txt").open("a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            fit_from(arguments, folder, changes)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]
    return ""
