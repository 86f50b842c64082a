"""SOURCE arguments to inputs: folders, object stores, lists of either, and tar shards."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from edge_runtime.archive.stores import Store, divide, is_url, shown
from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import ErrorCode, ImageError, InvalidValueError
from edge_runtime.images.inputs import Input, find_inputs, is_by_product

_NAMED = re.compile(r"([A-Za-z0-9._-]{1,64})=(.+)", re.DOTALL)
_SHARD = (".tar", ".tar.gz", ".tgz")


@frozen
class Listed:
    """One thing to screen: a film, or a shard of many."""

    source: str  # what its record will call it
    path: str  # in its store; bytes that are no text as `os.fsdecode` gives them
    store: str  # see `Store.uri`
    origin: str  # where it came from: a name for groups, part of a folder's name
    size: int = -1  # bytes; -1: not asked
    stamp: str = ""  # changes when the file does: time of its last change; "": not asked
    error: str = ""  # why there is nothing to read

    @property
    def is_shard(self) -> bool:
        """Whether it is a tar file of many films."""
        return self.path.lower().endswith(_SHARD)


@frozen
class Source:
    """One SOURCE argument."""

    location: str
    origin: str
    is_list: bool = False


def parse_source(text: str) -> Source:
    """`[NAME=]PATH-OR-URL`, or `[NAME=]@LIST` of such, one a line.

    Raises:
        InvalidValueError: Nothing is named.
    """
    match = None if os.path.exists(text) else _NAMED.fullmatch(text)
    origin, location = (match[1], match[2]) if match else ("", text)
    is_list = location.startswith("@") and not os.path.exists(location)
    if is_list:
        location = location[1:]
    if not location.strip():
        raise InvalidValueError(f"{text!r} names no folder, address or list")
    return Source(location, origin or _origin_of(location), is_list)


def _origin_of(location: str) -> str:
    """A name for groups, from the last part of a path."""
    path = location.partition("?")[0] if is_url(location) else os.path.abspath(location)
    last = os.fsencode(path).decode("utf-8", "replace").rstrip("/\\").replace("\\", "/")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last.rpartition("/")[2]).strip(".-")[:64] or "films"


def list_inputs(sources: Iterable[Source], exclude: Collection[str] = ()) -> Iterator[Listed]:
    """Everything the sources hold, lazily; what cannot be reached is an input with an error.

    Args:
        sources: In the order of the command line.
        exclude: Folders of this machine to leave out (our own output).

    Raises:
        InvalidValueError: A list or an object store cannot be read at all.
    """
    for source in sources:
        if source.is_list:
            for line in _lines_of(source.location):
                yield from _list_one(line, source.origin, exclude, is_line=True)
        else:
            yield from _list_one(source.location, source.origin, exclude)


def _lines_of(location: str) -> Iterator[str]:
    store, path = divide(location)
    try:
        with store.open().open_input_stream(path) as stream:
            rest = b""
            while block := stream.read(1 << 20):
                *lines, rest = (rest + block).split(b"\n")
                yield from _texts(lines)
            yield from _texts([rest])
    except OSError as error:
        raise InvalidValueError(f"@{location}: {error.strerror or error}") from error


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        if path := line.rstrip(b"\r"):
            yield os.fsdecode(path)


def _list_one(
    location: str, origin: str, exclude: Collection[str], is_line: bool = False
) -> Iterator[Listed]:
    store, path = divide(location)
    if not store.uri:
        for item in find_inputs([path], exclude):
            yield _local(item, origin)
        return
    if is_line:  # to ask for each of a million would take hours
        yield Listed(shown(store, path), path, store.uri, origin)
        return
    yield from _remote(store, path, origin)


def _local(item: Input, origin: str) -> Listed:
    if item.error is not None:
        return Listed(item.source, item.path, "", origin, error=str(item.error))
    try:
        status = os.stat(item.path)
    except (OSError, ValueError):  # reading it will say why
        return Listed(item.source, item.path, "", origin)
    return Listed(item.source, item.path, "", origin, status.st_size, str(status.st_mtime_ns))


def _remote(store: Store, path: str, origin: str) -> Iterator[Listed]:
    from pyarrow import fs

    filesystem = store.open()
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            found = [info]
        else:
            found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except Exception as error:  # each filesystem raises classes of its own
        raise InvalidValueError(
            f"{shown(store, path)}: {str(error).splitlines()[0][:300]}"
        ) from error
    found.sort(key=lambda each: each.path)
    for each in found:
        if each.type != fs.FileType.File or _is_hidden(
            each.path.partition(path)[2] or each.base_name
        ):
            continue
        yield Listed(
            Input(shown(store, each.path)).source, each.path, store.uri, origin,
            each.size if each.size is not None else -1, _stamp(each),
        )  # fmt: skip


def _stamp(info: Any) -> str:
    return "" if info.mtime_ns is None else str(info.mtime_ns)


def _is_hidden(path: str) -> bool:
    return any(is_by_product(part) for part in path.split("/") if part)


def unreadable(listed_error: str) -> ImageError:
    """The error of an input that could not even be listed."""
    return ImageError(ErrorCode.UNREADABLE_FILE, listed_error)
