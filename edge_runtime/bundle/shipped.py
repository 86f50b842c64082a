"""The bundles in this package, by name; imports the standard library alone, as `doctor` must."""

from __future__ import annotations

import os

from edge_runtime.errors import BundleError

# os.path here and below: pathlib brings ten modules along, which a cold start pays for.
_MODELS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "models")
DEFAULT_BUNDLE = os.path.join(_MODELS, "default")
# By name, the slowest and most accurate first.
SHIPPED = ("default", "small", "tiny")


def bundle_folder(name: str | os.PathLike[str] | None = None) -> str:
    """The folder of a bundle.

    Args:
        name: One of SHIPPED, or a folder; None is the default.

    Raises:
        BundleError: The name of a shipped bundle is that of a bundle's folder here, too.
    """
    if name is None:
        return DEFAULT_BUNDLE
    if name not in SHIPPED:
        return os.fspath(name)
    if os.path.isfile(os.path.join(name, "manifest.json")):
        raise BundleError(
            f"{name!r} is a bundle of this package, and a folder here holds another one; write "
            f"{os.path.join('.', name)} for the folder, or start elsewhere"
        )
    return os.path.join(_MODELS, name)
