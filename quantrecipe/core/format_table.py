"""read_formats: formats whose facts stand in a table, and whose kernels are found when one of them first runs.

    [Q4_K]                         # types.toml, beside the modules of the kernels
    ggml_type = 12
    block = 256
    …

    KERNELS = six_bit_kernels(…)   # q4_k.py: what is called like the format, in lower case

A plan asks formats for their facts only. Kernels are most of the source, with tables that take time to build, so
nothing of them is imported before a row is encoded or decoded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core.kernel_format import KernelFormat

if TYPE_CHECKING:
    from quantrecipe.core.kernel_format import Kernels

__all__ = ["read_formats"]

_NO_BASES: Mapping[str, type[QuantFormat]] = {}


def read_formats(
    table: Path, package: str, bases: Mapping[str, type[QuantFormat]] = _NO_BASES
) -> tuple[QuantFormat, ...]:
    """One of each format of a TOML table, in its order, with default options.

    table:   name of the format → the fields of its `FormatSpec`, without the name
    package: where the modules of the kernels are
    bases:   by name, the classes of formats that are more than a spec and kernels
    """
    rows = tomllib.loads(table.read_text(encoding="utf-8"))
    return tuple(_format(name, row, package, bases.get(name, KernelFormat)) for name, row in rows.items())


def _format(name: str, row: dict[str, Any], package: str, base: type[QuantFormat]) -> QuantFormat:
    floats = tuple(_stored_float(**stored) for stored in row.pop("floats", ()))
    spec = FormatSpec(name=name, floats=floats, **row)
    members: dict[str, object] = {"spec": spec, "__module__": base.__module__}
    if spec.codec:  # others have no kernels
        module = f"{package}.{name.lower()}"
        members |= {"kernels": _FoundWhenUsed(module), "__module__": module}
    return cast("type[QuantFormat]", type(name, (base,), members))()


def _stored_float(**stored: Any) -> StoredFloat:
    at = stored.pop("at", 0)
    return StoredFloat(at=tuple(at) if isinstance(at, list) else at, **stored)


class _FoundWhenUsed:
    """A class attribute that is the kernels of a module."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __get__(self, instance: object, owner: type[object]) -> Kernels:
        return self._kernels

    @cached_property
    def _kernels(self) -> Kernels:
        kernels: Kernels = import_module(self._module).KERNELS
        return kernels
