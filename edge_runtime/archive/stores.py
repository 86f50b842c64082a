"""Files here and in object stores, by pyarrow's filesystems; other schemes by fsspec's."""

from __future__ import annotations

import importlib.util
import os
import re
import urllib.parse
from typing import Any

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.install import install_extra
from edge_runtime.errors import ErrorCode, ImageError, InvalidValueError
from edge_runtime.images.file import MAX_FILE_BYTES, read_file

EXTRA = "archive"
PACKAGES = ("ray", "pyarrow", "duckdb", "fsspec")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_OWN = ("s3", "gs", "gcs")  # schemes that pyarrow speaks itself


def check_installed() -> None:
    """Raise InvalidValueError where a package of the extra is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidValueError(f"archive needs: {install_extra(EXTRA)} ({', '.join(missing)})")


def is_url(text: str) -> bool:
    return _URL.match(text) is not None


@frozen
class Store:
    """Where files are: a filesystem, by what opens it again on another machine."""

    uri: str  # "" of this machine's disks; else scheme://bucket?options

    @property
    def scheme(self) -> str:
        return self.uri.partition(":")[0]

    @property
    def has_folders(self) -> bool:
        """Whether a folder may have to be made before a file in it; buckets have none."""
        return self.scheme not in _OWN

    def open(self) -> Any:
        """A `pyarrow.fs.FileSystem`.

        Raises:
            InvalidValueError: No filesystem of that scheme, or it cannot be reached.
        """
        from pyarrow import fs

        if not self.uri:
            return fs.LocalFileSystem()
        try:
            if self.scheme in _OWN:
                return fs.FileSystem.from_uri(self.uri)[0]
            import fsspec

            return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(self.scheme)))
        except Exception as error:  # each filesystem raises classes of its own
            raise InvalidValueError(f"{self.uri}: {error}") from error


def divide(location: str) -> tuple[Store, str]:
    """A path or URL as a store and the path inside it.

    Raises:
        InvalidValueError: The URL holds a password, or no bucket.
    """
    if not is_url(location):
        return Store(""), os.path.abspath(location)
    parts = urllib.parse.urlsplit(location)
    if parts.scheme == "file" and not parts.netloc:
        return Store(""), os.path.abspath(urllib.parse.unquote(parts.path))
    if "@" in parts.netloc:
        raise InvalidValueError(
            f"{parts.scheme}://…@…: keys do not belong into an address, it is kept beside the "
            "results; name them in the environment (AWS_ACCESS_KEY_ID and the like)"
        )
    if not parts.netloc:
        raise InvalidValueError(f"{location}: names no bucket")
    options = f"?{parts.query}" if parts.query else ""
    path = f"{parts.netloc}{urllib.parse.unquote(parts.path)}".rstrip("/")
    return Store(f"{parts.scheme}://{parts.netloc}{options}"), path


def shown(store: Store, path: str) -> str:
    """What records call a file of a store: its URL, without options."""
    return f"{store.scheme}://{path}" if store.uri else path


def read_object(filesystem: Any, path: str) -> bytes:
    """The bytes of one object.

    Raises:
        ImageError: It cannot be read, or is larger than any radiograph.
    """
    try:
        with filesystem.open_input_file(path) as file:
            size = file.size()
            if size > MAX_FILE_BYTES:
                raise ImageError(
                    ErrorCode.FILE_TOO_LARGE,
                    f"{size} bytes is more than the limit of {MAX_FILE_BYTES}",
                )
            return bytes(file.read())
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(ErrorCode.UNREADABLE_FILE, brief(error)) from error


def read_input(filesystem: Any, uri: str, path: str) -> bytes:
    """One input, here or elsewhere.

    Raises:
        ImageError: As for `read_object`.
    """
    return read_object(filesystem, path) if uri else read_file(path)


def brief(error: Exception) -> str:
    """An error of a filesystem in a line."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason).splitlines()[0][:200]
