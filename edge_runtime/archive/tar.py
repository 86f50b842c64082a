"""The films of a tar shard (WebDataset's layout), streamed, with nothing believed that it says."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Generator
from typing import Any, cast

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.file import MAX_FILE_BYTES
from edge_runtime.images.inputs import Input, is_by_product

# What lies beside the films of a shard and is none.
_SIDECARS = (
    ".json", ".txt", ".cls", ".cls2", ".csv", ".tsv", ".xml", ".npy", ".npz", ".pyd", ".pickle",
    ".pkl", ".id", ".index", ".md", ".yaml", ".yml", ".bbox", ".transcript",
)  # fmt: skip
_LARGEST_HEADER = 1 << 20
_REQUEST = 8 << 20  # bytes: every read of an object store is a request of its own
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Member(tarfile.TarInfo):
    """A member whose extended header cannot be larger than names are."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        found = super()._proc_member(archive)  # type: ignore[misc]  # meant to be overridden
        return cast(tarfile.TarInfo, found)


@frozen
class Film:
    """One member: its bytes, or why there are none."""

    source: str
    size: int
    data: bytes | ImageError


def films_of(filesystem: Any, path: str, source: str) -> Generator[Film, None, None]:
    """Every film of a shard, in its order, one in memory at a time.

    Args:
        filesystem: A `pyarrow.fs.FileSystem`.
        path: Of the shard in it.
        source: What records call it; a film is `source#member`.

    Raises:
        ImageError: The shard cannot be read, or not to its end; what came before was given.
    """
    seen: dict[str, int] = {}
    try:
        with (
            filesystem.open_input_stream(
                path, compression=_compression(path), buffer_size=_REQUEST
            ) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,
        ):
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
                if not member.isfile() or _is_other(member.name):
                    continue
                name = Input(f"{source}#{member.name}").source
                seen[name] = number = seen.get(name, 0) + 1
                yield Film(name if number == 1 else f"{name}#{number}", member.size,
                           _data_of(archive, member))  # fmt: skip
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE, f"the shard ends early or is damaged: {error}"
        ) from error
    except OSError as error:
        is_damage = type(error).__name__ == "BadGzipFile" or "zlib" in str(error).lower()
        code = ErrorCode.CORRUPT_IMAGE if is_damage else ErrorCode.UNREADABLE_FILE
        raise ImageError(code, f"the shard: {error.strerror or error}") from error


def _compression(path: str) -> str | None:
    return "gzip" if path.lower().endswith(("gz",)) else None


def _is_other(name: str) -> bool:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return (
        any(is_by_product(part) for part in parts)
        or name.lower().endswith(_SIDECARS)
    )  # fmt: skip


def _data_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | ImageError:
    if member.size > MAX_FILE_BYTES or member.issparse():
        return ImageError(
            ErrorCode.FILE_TOO_LARGE,
            f"{member.size} bytes is more than the limit of {MAX_FILE_BYTES}",
        )
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    if len(data) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data
