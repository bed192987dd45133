"""Names of types in a recipe: a format that can encode, or `keep`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantrecipe.recipe.document import Node
from quantrecipe.recipe.reader import Reader

if TYPE_CHECKING:
    from quantrecipe.registry import Registry

__all__ = ["KEEP", "is_type", "read_type"]

KEEP = "keep"
"""The type that means: as the source has it."""


def is_type(name: str, registry: Registry) -> bool:
    """True for a format that can encode, and for `keep`."""
    return name == KEEP or (name in registry.formats and registry.formats[name].spec.codec)


def read_type(node: Node | None, key: str, read: Reader, registry: Registry) -> str | None:
    """The name; a problem is noted where there is no such type, and what to do about it."""
    name = read.text(node, key, line=True)
    if node is None or not name or name == KEEP:
        return name
    if name.lower() == KEEP:
        read.add(node, f"there is no format {name!r}", "did you mean 'keep'?", "QR003")
    elif (fmt := registry.formats.get(name)) is None:
        problem = registry.missing_format(name)
        read.add(node, problem.what, problem.remedy, "QR003")
    elif not fmt.spec.codec:
        read.add(node, f"nothing can be turned into {name}; it only passes through", "use `type: keep`")
    return name
