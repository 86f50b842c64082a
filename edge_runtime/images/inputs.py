"""Command-line paths to files to screen: lazily, in a stable order, without ever stopping."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterable, Iterator

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import ErrorCode, ImageError

_SORTED_AT_ONCE = 10_000
# Left behind by file managers; nobody's radiograph.
_BY_PRODUCTS = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})


@frozen
class Input:
    """One thing to screen, or why there is nothing to read (a missing path, a closed folder)."""

    path: str
    error: ImageError | None = None

    @property
    def source(self) -> str:
        r"""The path as text: bytes that are not UTF-8 appear as \\xNN, line breaks as \\n and \\r.

        So a result is one line in every format, and a cut line is never taken for a whole one.
        """
        text = os.fsencode(self.path).decode("utf-8", "backslashreplace")
        return text.replace("\n", r"\n").replace("\r", r"\r")


def find_inputs(paths: Iterable[str], exclude: Collection[str] = ()) -> Iterator[Input]:
    """Every file named or found below a named folder, folders in the order of their names.

    Hidden files and file managers' by-products are left out inside folders; links to folders are
    not followed, so that loops cannot occur.

    Args:
        paths: Files and folders.
        exclude: Files and folders to leave out (our own output), by whatever name they are found.
    """
    own = _Own(exclude) if exclude else None
    for path in paths:
        if os.path.isdir(path):
            yield from _walk(path, own)
        elif not (own and own.is_one(path, None)):
            yield Input(path)


def is_by_product(name: str) -> bool:
    """Whether a file or folder inside a folder is left out: hidden, or a file manager's."""
    return name.startswith(".") or name.lower() in _BY_PRODUCTS


class _Own:
    """Files and folders that are ours: known by what they are, not by what they are called."""

    def __init__(self, paths: Collection[str]) -> None:
        self._missing = list(paths)  # some are made only when there is something to write
        self._known: set[tuple[int, int]] = set()

    def is_one(self, path: str, inode: int | None) -> bool:
        """Whether a path leads to one of them; `inode` where it is known and no link's."""
        for own in list(self._missing):
            with contextlib.suppress(OSError, ValueError):
                status = os.stat(own)
                self._known.add((status.st_dev, status.st_ino))
                self._missing.remove(own)
        if inode is not None and all(inode != known for _, known in self._known):
            return False
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return False
        return (status.st_dev, status.st_ino) in self._known


def _walk(folder: str, own: _Own | None) -> Iterator[Input]:
    """Every folder in turn; no depth is too deep, and an entry that fails is one entry."""
    open_folders = [_entries(folder)]
    while open_folders:
        try:
            entry = next(open_folders[-1])
        except StopIteration:
            open_folders.pop()
            continue
        except OSError as error:  # of the folder: what was read of it has been given
            open_folders.pop()
            yield _closed(error)
            continue
        if is_by_product(entry.name):
            continue
        try:
            if own and own.is_one(entry.path, None if entry.is_symlink() else entry.inode()):
                continue
            if entry.is_dir(follow_symlinks=False):
                open_folders.append(_entries(entry.path))
            elif not entry.is_dir():  # a link to a folder is neither
                yield Input(entry.path)
        except OSError:  # a link that leads to itself, say: reading it will tell
            yield Input(entry.path)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Of one folder, sorted by parts: a folder of a million files is never held as a whole."""
    try:
        with os.scandir(folder) as entries:
            part: list[os.DirEntry[str]] = [*itertools.islice(entries, _SORTED_AT_ONCE)]
            while len(part) == _SORTED_AT_ONCE:
                yield from sorted(part, key=_name)
                part = [*itertools.islice(entries, _SORTED_AT_ONCE)]
    except OSError as error:
        error.filename = folder
        raise
    # Closed before any folder below is opened: descriptors are few.
    yield from sorted(part, key=_name)


def _closed(error: OSError) -> Input:
    reason = error.strerror or str(error)
    return Input(
        os.fspath(error.filename), ImageError(ErrorCode.UNREADABLE_FILE, f"folder: {reason}")
    )


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
