"""What has to be the same where workers are: versions of packages, and files under the same paths."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any, TypeAlias

import quantrecipe
from quantrecipe.errors import ModelError
from quantrecipe.output.run_key import file_key
from quantrecipe.registry import Registry

__all__ = ["OURS", "Keys", "keys_of", "packages_of", "require_same"]

OURS = ("quantrecipe", quantrecipe.__version__)
"""The package that every worker has to have."""

Keys: TypeAlias = "list[tuple[Path, list[Any]]]"
"""Files, each with what it is known by."""


def packages_of(
    registry: Registry, formats: Set[str], encoders: Set[str] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """quantrecipe, and the packages that these formats and encoders come from, each with its version."""
    packages = {OURS}
    for plugin in registry.plugins[1:]:  # the first is quantrecipe itself
        if formats & set(plugin.formats) or encoders & set(plugin.encoders):
            packages.add((plugin.distribution, plugin.version))
    return tuple(sorted(packages))


def keys_of(files: Iterable[Path]) -> Keys:
    """For `require_same`. ModelError where one can't be read."""
    return [(path.resolve(), file_key(path, copies=True)) for path in files]


def require_same(files: Keys) -> None:
    """ModelError where a file here isn't the one that the order was made with."""
    for path, key in files:
        if file_key(path, copies=True) != key:
            raise ModelError(
                f"isn't the same file on {platform.node()} as where the command runs",
                "have all machines see the same files under the same paths",
                file=path,
            )
