"""The process that screens: items of a part on standard input, a row per film on standard output.

It is a process of its own so that a film on which a decoder crashes, hangs or takes all memory ends
this process, and not the actor that feeds it and knows which film that was.

A line in is a batch of items, or the settings, which come first. A line out is one of
{"ready": conditions}, {"fatal": why}, {"film": source} before a film, {"row": row} and {"same":
source} after it, and {"end": item} after an item.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from edge_runtime.archive.folder import made_with
from edge_runtime.archive.rows import NAMED, row_of
from edge_runtime.archive.sources import unreadable
from edge_runtime.archive.stores import Store, brief, read_input
from edge_runtime.archive.tar import Film, films_of
from edge_runtime.basics.in_order import map_in_order
from edge_runtime.basics.memory import share_one_heap
from edge_runtime.basics.regular_file import open_regular
from edge_runtime.errors import CxrEdgeError, ErrorCode, ImageError
from edge_runtime.images.file import sha256
from edge_runtime.records.record import Examination
from edge_runtime.screener import Screener

Item = Mapping[str, Any]
_REQUEST = 8 << 20  # bytes of a shard: every read of an object store is a request of its own
_READERS = 4  # of objects elsewhere, ahead of the one that is screened
_READ_AHEAD = 16_000_000  # bytes: a larger one is read when it is its turn


def main() -> None:
    """Serve until standard input ends; then end at once, whatever is being screened."""
    warnings.simplefilter("ignore")  # pydicom's quote values of what it reads
    # Whatever an engine prints must not end up between the answers.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    share_one_heap()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, lines), daemon=True).start()
    settings = json.loads(lines.get())
    try:
        screener = Screener.load(**settings["screener"], threads=1, parallel=2)
        for answer in screener.bundle.manifest.known_answers[1:]:
            screener.check_known_answer(answer)
    except CxrEdgeError as error:
        _say(out, {"fatal": str(error)})
        return
    gc.freeze()
    _say(out, {"ready": made_with(screener.conditions)})
    worker = _Worker(screener, out, tuple(settings["columns"]))
    while True:
        worker.serve(json.loads(lines.get()))


def _listen(stream: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    os._exit(0)  # who feeds us is gone: a film that hangs must not keep us


def _say(out: Any, message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[out.write(data) :]


class _Worker:
    def __init__(self, screener: Screener, out: Any, columns: tuple[str, ...]) -> None:
        self._screener, self._out, self._columns = screener, out, columns
        self._filesystems: dict[str, Any] = {}

    def serve(self, batch: Mapping[str, Any]) -> None:
        """One batch: {"items": […]}; or one film that has ended processes, to be set aside."""
        items: list[Item] = batch["items"]
        if "set_aside" in batch:
            self._set_aside(items[0], batch)
            return
        is_far = any(item["store"] and not item["shard"] for item in items)
        pairs = map_in_order(self._ahead, items, _READERS) if is_far else ((i, None) for i in items)
        for item, data in pairs:
            if item["shard"] and not item["error"]:
                self._shard(item)
            elif not item["skip"]:
                self._film(item, data)
            _say(self._out, {"end": item["number"]})

    def _ahead(self, item: Item) -> tuple[Item, bytes | ImageError | None]:
        if not item["store"] or item["shard"] or item["skip"] or item["error"]:
            return item, None
        if not 0 <= item["size"] <= _READ_AHEAD:
            return item, None
        return item, self._read(item)

    def _read(self, item: Item) -> bytes | ImageError:
        if item["error"]:
            return unreadable(item["error"])
        try:
            return read_input(self._filesystem(item), item["store"], item["path"])
        except ImageError as error:
            return error

    def _filesystem(self, item: Item) -> Any:
        uri = item["store"]
        found = self._filesystems.get(uri)
        if found is None and uri:
            try:
                found = self._filesystems[uri] = Store(uri).open()
            except CxrEdgeError as error:
                raise unreadable(str(error)) from error
        return found

    def _film(self, item: Item, data: bytes | ImageError | None) -> None:
        source = item["source"]
        _say(self._out, {"film": source})
        if data is None and (item["store"] or item["error"] or item["known"] or self._columns):
            data = self._read(item)
        self._screen(item, source, item["path"] if data is None else data)

    def _screen(self, item: Item, source: str, data: str | bytes | ImageError) -> None:
        if isinstance(data, ImageError):
            row = row_of(self._screener.error_record(source, None, data))
        else:
            if item["known"] and isinstance(data, bytes) and _key(item, source, data) in set(
                item["known"]
            ):  # fmt: skip
                _say(self._out, {"same": source})
                return
            examination = self._screener.examine(data, source)
            row = row_of(examination.record, examination.facts)
            if isinstance(data, bytes):
                row["size"] = len(data)
                if self._columns:
                    row |= _named(data, examination, self._columns)
        _say(self._out, {"row": row})

    def _shard(self, item: Item) -> None:
        number = 0
        try:
            filesystem = self._filesystem(item)
            with _films(filesystem, item) as films:
                for film in films:
                    number += 1
                    if number <= item["skip"]:
                        continue
                    _say(self._out, {"film": film.source})
                    self._screen(item, film.source, film.data)
        except ImageError as error:
            # In the place of what could not be read, under the shard's own name.
            _say(self._out, {"film": item["source"]})
            record = self._screener.error_record(item["source"], None, error)
            _say(self._out, {"row": row_of(record)})

    def _set_aside(self, item: Item, batch: Mapping[str, Any]) -> None:
        digest = self._hash(item) if batch["read"] else None
        seconds = batch["seconds"]
        what = f"took more than {seconds:g} s" if seconds else "ended while it screened this"
        error = ImageError(
            ErrorCode.SET_ASIDE,
            f"the process {what}, twice, so it is set aside; screen it by itself: cxr-edge screen "
            "FILE",
        )
        record = self._screener.error_record(batch["set_aside"], digest, error)
        _say(self._out, {"row": row_of(record)})

    def _hash(self, item: Item) -> str | None:
        data: bytes | ImageError | None = None
        try:
            if not item["shard"]:
                data = self._read(item)
            else:
                with _films(self._filesystem(item), item) as films:
                    data = next((f.data for n, f in enumerate(films) if n == item["skip"]), None)
        except ImageError:
            return None
        return sha256(data) if isinstance(data, bytes) else None


@contextlib.contextmanager
def _films(filesystem: Any, item: Item) -> Iterator[Iterator[Film]]:
    """The films of a shard; of this machine's files by a reader that waits for no pipe."""
    path = item["path"]
    try:
        stream = (
            filesystem.open_input_stream(path, compression=None, buffer_size=_REQUEST)
            if item["store"]
            else open_regular(path)
        )
    except Exception as error:  # each filesystem raises classes of its own
        raise unreadable(brief(error)) from error
    with stream, contextlib.closing(films_of(stream, item["source"])) as films:
        yield films


def _key(item: Item, source: str, data: bytes) -> str:
    """By what a film that has its row already is known: see `plan.known`."""
    return f"{sha256(data)} {source}" if item["shard"] else sha256(data)


def _named(data: bytes, examination: Examination, keywords: tuple[str, ...]) -> dict[str, str]:
    if examination.facts is None or data[128:132] != b"DICM":
        return {}
    from edge_runtime.images.readers.dicom import read_named

    return {f"{NAMED}{name}": value for name, value in read_named(data, keywords).items()}


if __name__ == "__main__":
    main()
