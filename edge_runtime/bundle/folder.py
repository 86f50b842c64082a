"""A model bundle: a folder with manifest.json, the model files and MODEL_CARD.md."""

from __future__ import annotations

import hashlib
import os
import stat

from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.regular_file import TooLargeError, read_regular
from edge_runtime.bundle.manifest import BundledFile, Manifest, parse_manifest
from edge_runtime.bundle.shipped import bundle_folder
from edge_runtime.errors import BundleError

_MAX_MANIFEST_BYTES = 4_000_000


@frozen
class Bundle:
    """An opened bundle. `sha256` is that of manifest.json, which pins every other file."""

    folder: str
    manifest: Manifest
    sha256: str

    def read(self, file: BundledFile) -> bytes:
        """Content of a bundled file, size and checksum verified on the very bytes returned.

        Raises:
            BundleError: Missing, not a regular file, or not what the manifest says.
        """
        path = os.path.join(self.folder, file.path)
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path}: not a regular file")
            if status.st_size != file.size_bytes:
                raise BundleError(
                    f"{path}: {status.st_size} bytes, the manifest says {file.size_bytes}; "
                    "copy the bundle again"
                )
            data = read_regular(path, file.size_bytes)
        except TooLargeError as error:
            raise BundleError(f"{path}: {error}") from error
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror or error}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != file.sha256:
            raise BundleError(
                f"{path}: SHA-256 is {found[:16]}…, the manifest says {file.sha256[:16]}…; "
                "the file was altered or damaged, copy the bundle again"
            )
        return data

    def verify_files(self) -> None:
        """Check size and checksum of every file.

        Raises:
            BundleError: The first file that does not match.
        """
        for file in self.manifest.files:
            self.read(file)


def load_bundle(folder: str | os.PathLike[str] | None = None) -> Bundle:
    """Open a bundle: a folder, or the name of one in the package. Files are verified when read.

    Raises:
        BundleError: No manifest there, or an invalid one.
    """
    path = bundle_folder(folder)
    manifest_path = os.path.join(path, "manifest.json")
    try:
        text = read_regular(manifest_path, _MAX_MANIFEST_BYTES)
    except TooLargeError as error:
        raise BundleError(f"{manifest_path}: larger than any manifest of ours: {error}") from error
    except OSError as error:
        raise BundleError(
            f"{path} is not a model bundle: manifest.json: {error.strerror or error}"
        ) from error
    return Bundle(path, parse_manifest(text), hashlib.sha256(text).hexdigest())
