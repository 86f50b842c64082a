"""The films of a tar shard (WebDataset's layout), streamed, with nothing believed that it says."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO, cast

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


def films_of(stream: BinaryIO, source: str) -> Generator[Film, None, None]:
    """Every film of a shard, in its order, one in memory at a time.

    Args:
        stream: The shard; packed by gzip where `source` says so.
        source: What records call it; a film is `source#member`.

    Raises:
        ImageError: The shard cannot be read to its end; what came before was given.
    """
    seen: dict[str, int] = {}
    try:
        with (
            _unpacked(stream, source) as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member) as archive,
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
        is_damage = isinstance(error, gzip.BadGzipFile)
        code = ErrorCode.CORRUPT_IMAGE if is_damage else ErrorCode.UNREADABLE_FILE
        raise ImageError(code, f"the shard: {error.strerror or error}") from error


@contextlib.contextmanager
def _unpacked(stream: BinaryIO, source: str) -> Iterator[BinaryIO]:
    if not source.lower().endswith("gz"):
        yield stream
        return
    with gzip.GzipFile(fileobj=stream, mode="rb") as plain:
        yield cast(BinaryIO, plain)


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
