"""Ray: of this machine alone and gone afterwards, or a cluster that is named."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator
from typing import Any

from edge_runtime.archive.stores import EXTRA
from edge_runtime.basics.install import install_extra
from edge_runtime.errors import InvalidValueError

_OBJECT_STORE = 128 << 20  # bytes; what travels is small
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextlib.contextmanager
def ray_at(address: str | None, processors: int) -> Iterator[Any]:
    """The module `ray`, connected.

    Args:
        address: Of a cluster; None: Ray is started here, on loopback alone, without dashboard and
            usage reports.
        processors: That Ray has here.

    Raises:
        InvalidValueError: Ray is missing, does not start, or is not there.
    """
    if importlib.util.find_spec("ray") is None:
        raise InvalidValueError(f"Ray needs: {install_extra(EXTRA)}")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if address is None:
        os.environ.pop("RAY_ADDRESS", None)
        # Ray's own switch for a node that nobody joins: every address is this machine's loopback.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with _stderr_closed():  # its native part says there that it will be quiet
        import ray

        folder = _connect(ray, address, processors)
    try:
        yield ray
    finally:
        ray.shutdown()
        if folder is not None:  # logs, in which names of films may stand
            shutil.rmtree(folder, ignore_errors=True)


def _connect(ray: Any, address: str | None, processors: int) -> str | None:
    """The folder of Ray's logs, where Ray is ours."""
    try:
        if address is not None:
            ray.init(address=address, **_QUIET)
            return None
        context = ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=processors,
            object_store_memory=_OBJECT_STORE,
            **_QUIET,
        )
        return str(context.address_info["session_dir"])
    except Exception as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:300]
        where = address or "this machine"
        raise InvalidValueError(f"Ray does not start on {where}: {told}") from error


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
