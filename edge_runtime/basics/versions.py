"""Versions of installed packages, for records of provenance and for people."""

from __future__ import annotations

from collections.abc import Iterable


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Version by distribution name; what is not installed is left out."""
    # Here, because it imports a good part of the standard library.
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
