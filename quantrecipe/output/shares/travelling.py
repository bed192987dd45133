"""dumped, loaded: values on their way to workers: plans, models, and what becomes of tensors.

They are made of values that can be pickled. Only formats and encoders aren't taken along, but looked up by name where
the worker is: they are programs, with kernels for that machine. Paths are made absolute. What a worker has already is
sent as its number.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantrecipe.api import Encoder, QuantFormat
from quantrecipe.registry import Registry

__all__ = ["dumped", "loaded"]

_PLAIN_PATH = type(Path())  # not those of files that lie elsewhere


def dumped(value: Any, there: Sequence[object] = ()) -> bytes:
    """there: what `loaded` is given, too; the values themselves, not their equals."""
    buffer = io.BytesIO()
    _Dumping(buffer, there).dump(value)
    return buffer.getvalue()


def loaded(data: bytes, registry: Registry, there: Sequence[object] = ()) -> Any:
    """The value. PluginError or FormatError where a format or encoder isn't there."""
    return _Loading(io.BytesIO(data), registry, there).load()


class _Dumping(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, there: Sequence[object]) -> None:
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self._there = {id(it): number for number, it in enumerate(there) if it is not None}

    def persistent_id(self, thing: Any) -> Any:
        """Formats and encoders by name and options."""
        if isinstance(thing, QuantFormat):
            return "format", thing.spec.name, dict(thing.options)
        if isinstance(thing, Encoder):
            return "encoder", thing.name, dict(thing.options)
        if (number := self._there.get(id(thing))) is not None:
            return "there", number, {}
        return None

    def reducer_override(self, thing: Any) -> Any:
        """Views of dicts, which pickle leaves out; and paths, which a worker may read from another folder."""
        if isinstance(thing, MappingProxyType):
            return _view, (dict(thing),)
        if type(thing) is _PLAIN_PATH:
            return Path, (str(thing.absolute()),)
        return NotImplemented


def _view(content: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(content)


class _Loading(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, registry: Registry, there: Sequence[object]) -> None:
        super().__init__(buffer)
        self._registry, self._there = registry, there

    def persistent_load(self, said: Any) -> Any:
        kind, name, options = said
        if kind == "there":
            return self._there[name]
        found = self._registry.format(name) if kind == "format" else self._registry.encoder(name)
        return found.with_options(options) if options else found
