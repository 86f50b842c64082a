"""A run: list, plan, and let Ray Data bring every part to an actor that screens it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from edge_runtime.archive.cluster import ray_at
from edge_runtime.archive.folder import ArchiveFolder, new_run
from edge_runtime.archive.part import PartScreener, Task
from edge_runtime.archive.plan import Plan, make_plan
from edge_runtime.archive.sources import Source, list_inputs
from edge_runtime.archive.supervisor import Settings
from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.processors import usable_processors
from edge_runtime.errors import InvalidValueError

_MOST_BLOCKS = 4096


@frozen
class Done:
    """What a run did."""

    plan: Plan
    counts: Mapping[str, int]  # rows by decision, or by status where there is none
    same: int  # films that had their row already, by content


@frozen
class Cluster:
    """Where it is done."""

    address: str | None = None  # of a Ray cluster; None: on this machine, by ourselves
    workers: int | None = None  # None: one a processor


def screen_archive(
    sources: Sequence[Source],
    folder: ArchiveFolder,
    settings: Settings,
    cluster: Cluster,
    check_content: bool = False,
    on_listed: Callable[[int], object] = lambda count: None,
    on_plan: Callable[[Plan], object] = lambda plan: None,
    on_part: Callable[[int, int], object] = lambda inputs, films: None,
) -> Done:
    """Screen everything that has no row yet.

    Args:
        sources: What to screen.
        folder: Where the rows go.
        settings: For the screening processes.
        cluster: Where.
        check_content: See `make_plan`.
        on_listed: Told how many inputs were listed so far.
        on_plan: Told what there is to do.
        on_part: Told how many more inputs, and rows, are done.

    Raises:
        InvalidValueError: The archive belongs to another run, or was made otherwise; or a part
            could not be done at all, and why.
    """
    folder.begin(settings.made_with, settings.columns)
    try:
        folder.delete_plans()
        run = new_run()
        exclude = [folder.location] if folder.is_local else []
        workers = cluster.workers or usable_processors()
        listed = list_inputs(sources, exclude)
        plan = make_plan(folder, run, listed, workers, check_content, on_listed)
        on_plan(plan)
        counts: Counter[str] = Counter()
        same = 0
        if plan.parts:
            task = Task(folder.location, run, settings, _umask())
            # One processor more, for what brings the parts: it takes no time.
            with (
                ray_at(cluster.address, workers + 1) as ray,
                contextlib.closing(_parts(ray, plan.parts, task, cluster)) as parts,
            ):
                for part in parts:
                    if part["error"]:
                        raise InvalidValueError(part["error"])
                    found = _counted(part["counts"])
                    counts.update(found)
                    same += part["same"]
                    on_part(part["inputs"], sum(found.values()))
        folder.delete_plans()
        return Done(plan, counts, same)
    finally:
        folder.end()


def _counted(text: str) -> Counter[str]:
    pairs = (pair.rpartition(":") for pair in text.split())
    return Counter({name: int(count) for name, _, count in pairs})


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


def _parts(
    ray: Any, count: int, task: Task, cluster: Cluster
) -> Generator[dict[str, Any], None, None]:
    from ray.data import ActorPoolStrategy, DataContext

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    processors = int(ray.cluster_resources().get("CPU", 1)) - 1
    workers = max(1, min(cluster.workers or processors, count))
    # Parts are many and light to carry; each is screened alone, and committed alone.
    numbers = ray.data.range(count, override_num_blocks=min(count, _MOST_BLOCKS))
    results = numbers.map_batches(
        PartScreener,
        fn_constructor_args=(task,),
        batch_size=1,
        num_cpus=1,
        compute=ActorPoolStrategy(size=workers),
    )
    yield from results.iter_rows()
