"""The actor: takes a part, has its films screened, writes its rows as one file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from edge_runtime.archive.folder import ArchiveFolder
from edge_runtime.archive.plan import PlanReader
from edge_runtime.archive.supervisor import Row, Settings, Supervisor
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import CxrEdgeError


@frozen
class Task:
    """What all parts of a run share; plain values, for it travels."""

    location: str  # of the archive
    run: str
    settings: Settings
    umask: int


class PartScreener:
    """One of a pool of actors (`ray.data.Dataset.map_batches`).

    A part may be given to it again, or to another, when an actor or its machine dies: its file has
    the same name then, and the same rows.
    """

    def __init__(self, task: Task) -> None:
        os.umask(task.umask)
        self._task = task
        self._folder = ArchiveFolder(task.location)
        self._plans = PlanReader(self._folder, task.run)
        self._supervisor = Supervisor(task.settings)

    def close(self) -> None:
        """End the screening process; it ends with its actor anyhow."""
        self._supervisor.close()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Numbers of parts to what became of them: columns part, inputs, same, counts, error."""
        found = [self._screen(int(part)) for part in batch["id"]]
        return {name: [one[name] for one in found] for name in found[0]}

    def _screen(self, part: int) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        same = 0
        result: dict[str, Any] = {"part": part, "inputs": 0, "error": ""}
        try:
            items = self._plans.items(part)
            result["inputs"] = len(items)
            path = self._folder.result_path(items[0]["origin"], self._task.run, part)
            rows = []
            for found in self._supervisor.screen(items):
                if isinstance(found, Row):
                    rows.append(self._whole(found))
                    counts[found.row["decision"] or found.row["status"]] += 1
                else:
                    same += 1
            if rows and self._plans.is_there():
                self._folder.commit(path, rows, self._task.settings.columns)
        except CxrEdgeError as error:
            result["error"] = str(error)
        except OSError as error:  # the disk is full, the plan is gone
            result["error"] = f"{error.strerror or error} ({error.filename or self._task.location})"
        result["same"] = same
        result["counts"] = " ".join(f"{name}:{count}" for name, count in counts.items())
        return result

    def _whole(self, found: Row) -> dict[str, Any]:
        item = found.item
        row = {**found.row, "run": self._task.run, "stamp": item["stamp"]}
        row["shard"] = item["source"] if item["shard"] else None
        row.setdefault("size", item["size"] if item["size"] >= 0 else None)
        return row
