"""What goes through the pipes between a session and its worker: pickled values, each after its length.

Both sides are this program, and what a value holds is ours: dataclasses, arrays, and functions by their names.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from quantrecipe.errors import Problem

__all__ = ["Ask", "Call", "Failed", "Finished", "Open", "Told", "receive", "send"]

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What the engine says of itself is wanted; no model is opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Open:
    """A model is to be loaded. The fields are LanguageModel's."""

    path: str
    threads: int | None
    gpu_layers: int | None
    writable: bool
    overrides: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A function is to be called with the open model, its arguments, and a way to tell how far it is."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a function tells while it runs."""

    what: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What was asked for is done."""

    result: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """It can't be done; the session goes on."""

    problems: tuple[Problem, ...]


def send(pipe: IO[bytes], message: object) -> None:
    """Write a message at once. OSError where nobody reads any more."""
    data = pickle.dumps(message, protocol=5)
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read the next message. EOFError where there is none, or only a part of one."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)  # what our own other half wrote
