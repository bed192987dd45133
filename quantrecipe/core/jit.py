"""Compiled kernels without the price of a compiler: functions that become machine code when they are first called.

    from quantrecipe.core import kernel

    @kernel
    def half(x: Any) -> Any:                  # types follow from the caller's
        return x * np.float32(0.5)

    @kernel(DECODE)                           # a signature: called from Python with exactly these types
    def decode(data: Any, rows: Any) -> None:
        ... half(...)

A kernel with a signature is loaded from the user's cache (see `cache.py` and `machine_code.py`), or compiled, which
alone needs numba (see `compiler.py`). It may call other kernels, and use constants that are globals of its module or
free variables of the function around it. It can't use fastmath: the compiled code does the float32 operations that
are written, in that order.

The name of a cached file holds a digest of all that the machine code depends on: the source files of every kernel
reached and of the compiler, the values of their constants, the types, the CPU, and the versions of numba and LLVM.
"""

from __future__ import annotations

import hashlib
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import numpy as np

__all__ = [
    "DECODE",
    "ENCODE",
    "ENCODE_WEIGHTED",
    "GRID_PUT",
    "GRID_SCALES",
    "GRID_STEPS",
    "POINT_BOOKS",
    "POINT_PUT",
    "POINT_SCALES",
    "Instruction",
    "Kernel",
    "NotCached",
    "disjoint_kernel",
    "global_names",
    "kernel",
    "only_cached",
]

P = ParamSpec("P")
R = TypeVar("R")

DECODE = "void(Array(uint8, 2, 'C', True), float32[:,::1])"
"""data uint8 (n, row_bytes), rows float32 (n, k): fill rows. What is only read is typed read-only."""
ENCODE = "void(Array(float32, 2, 'C', True), uint8[:,::1])"
"""rows float32 (n, k), out uint8 (n, row_bytes): fill out."""
ENCODE_WEIGHTED = "void(Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), uint8[:,::1])"
"""rows float32 (n, k), importance float32 (k,), out uint8 (n, row_bytes): fill out."""

GRID_SCALES = "void(Array(uint8, 2, 'C', True), float32[:,::1], float32[:,::1])"
"""data uint8 (n, row_bytes), scales and offsets float32 (n, k / group): fill both."""
GRID_PUT = "void(Array(uint8, 2, 'C', True), uint8[:,::1])"
"""choices uint8 (n, k), data uint8 (n, row_bytes): store the choices, leave the rest."""
GRID_STEPS = "void(Array(int16, 2, 'C', True), Array(int16, 2, 'C', True), uint8[:,::1])"
"""steps and lows int16 (n, k / group), data uint8 (n, row_bytes): store both, leave the rest. lows may be unused."""
POINT_SCALES = "void(Array(uint8, 2, 'C', True), float32[:,::1])"
"""data uint8 (n, row_bytes), scales float32 (n, k / group): fill the scales."""
POINT_BOOKS = "void(Array(uint8, 2, 'C', True), uint8[:,::1])"
"""data uint8 (n, row_bytes), books uint8 (n, k / group): fill the books."""
POINT_PUT = "void(Array(uint16, 2, 'C', True), Array(uint8, 2, 'C', True), uint8[:,::1])"
"""choices uint16 (n, k / size), signs uint8 (n, k / 8), data uint8 (n, row_bytes): store both, leave the rest."""

_ONLY_CACHED: ContextVar[bool] = ContextVar("only_cached", default=False)


class NotCached(Exception):  # noqa: N818  # no error, but an answer
    """A kernel that was called within `only_cached()` would have to be compiled; its name."""


@contextmanager
def only_cached() -> Iterator[None]:
    """Within this, kernels are loaded in this thread, and NotCached is raised where one would have to be compiled.

    So one knows beforehand whether the compiler has to run. What was loaded stays.
    """
    token = _ONLY_CACHED.set(True)
    try:
        yield
    finally:
        _ONLY_CACHED.reset(token)


@overload
def kernel(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def kernel(signature: str, /) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def kernel(what: Callable[P, R] | str, /) -> Any:
    """Mark a function as a kernel; with a signature (numba's notation), as one that Python calls.

    A signature has scalars and C-contiguous arrays. Such arrays have to be aligned and in native byte order.
    """
    if isinstance(what, str):
        return lambda function: Kernel(function, what)
    return Kernel(what, None)


def disjoint_kernel(function: Callable[P, R], /) -> Callable[P, R]:
    """Mark a function as a kernel whose array arguments never overlap.

    The compiler takes that for granted, so a loop that reads one array at places known only at run time, and writes
    another, vectorises without a check at each turn.
    """
    return Kernel(function, None, disjoint=True)


@dataclass(frozen=True)
class Instruction:
    """What a processor does in one step and Python has no operator for. Only kernels can call it.

    name: of LLVM's intrinsic: "fma"
    """

    name: str

    def __call__(self, *numbers: Any) -> Any:
        raise TypeError(f"{self.name} is an instruction of compiled kernels, and Python has none")


class Kernel(Generic[P, R]):
    """A function that is compiled when it is first called. Safe to call from any number of threads."""

    def __init__(self, function: Callable[P, R], signature: str | None, *, disjoint: bool = False) -> None:
        self.function = function
        self.signature = signature
        self.disjoint = disjoint
        self._callable: Callable[P, R] | None = None
        self._lock = threading.Lock()
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(self, name, getattr(function, name))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self._callable or self._find())(*args, **kwargs)

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of what the kernel computes: its source, its constants, and those of what it calls."""
        digest = hashlib.sha256(f"{self.signature}".encode())
        for part in _sources(self, {}):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    @property
    def reached(self) -> int:
        """How many kernels it consists of, itself included; about in proportion to the time that compiling takes."""
        seen: dict[int, Kernel[..., Any]] = {}
        for _ in _sources(self, seen):
            pass
        return len(seen)

    def _find(self) -> Callable[P, R]:
        with self._lock:
            if self._callable is None:
                self._callable = self._load() if self.signature is not None else self._untyped()
            return self._callable

    def _load(self) -> Callable[P, R]:
        from quantrecipe.core.machine_code import find_machine_code, keep_machine_code, link

        found = find_machine_code(self)
        if found is None:
            if _ONLY_CACHED.get():
                raise NotCached(f"{self.__module__}.{self.__name__}")
            from quantrecipe.core.compiler import compile_kernel

            found = compile_kernel(self)
            keep_machine_code(self, found)
        return cast(Callable[P, R], link(found, repr(self)))

    def _untyped(self) -> Callable[P, R]:
        """For tests and experiments: nothing is kept of what is compiled for the types of a call."""
        from quantrecipe.core.compiler import untyped

        return untyped(self)

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__qualname__}>"

    __module__: str
    __name__: str
    __qualname__: str


def global_names(code: types.CodeType) -> Iterator[str]:
    """The names in a function's code, and in that of the functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from global_names(constant)


def _sources(lazy: Kernel[..., Any], seen: dict[int, Kernel[..., Any]]) -> Iterator[bytes]:
    """All that decides what a kernel computes: source files and constants, its callees' included."""
    function = cast(types.FunctionType, lazy.function)
    seen[id(lazy)] = lazy
    yield f"{function.__module__}.{function.__qualname__} {lazy.disjoint}".encode()
    yield _file_digest(function.__code__.co_filename)
    named = {name: function.__globals__.get(name) for name in sorted(set(global_names(function.__code__)))}
    free = zip(
        function.__code__.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=True
    )
    for name, value in (*named.items(), *free):
        if isinstance(value, Kernel):
            if id(value) not in seen:
                yield from _sources(value, seen)
        elif isinstance(value, Instruction):
            yield f"{name} is {value.name}".encode()
        elif isinstance(value, (np.ndarray, np.generic)):
            yield f"{name} {value.dtype.str} {value.shape}".encode() + value.tobytes()
        elif isinstance(value, (bool, int, float, str, tuple)):
            yield f"{name}={value!r}".encode()


@cache
def _file_digest(path: str) -> bytes:
    """Of a source file. A process imports a file once, so it reads it once. OSError where there is none."""
    return hashlib.sha256(Path(path).read_bytes()).digest()
