"""Compiled kernels without the price of a compiler: the one module that imports numba, and only when a kernel runs.

    from quantrecipe.core import kernel

    @kernel
    def half(x: Any) -> Any:                  # types follow from the caller's
        return x * np.float32(0.5)

    @kernel(DECODE)                           # a signature: called from Python with exactly these types
    def decode(data: Any, rows: Any) -> None:
        ... half(...)

A kernel compiles at its first call, or is loaded from the user's cache (see `cache.py`). It may call other
kernels and use constants that are globals of its module or free variables of the function around it. It can't
use fastmath: the compiled code does the float32 operations that are written, in that order.

The name of a cached file holds a digest of all that the machine code depends on: the source files of every
kernel reached and of this module, the values of their constants, the types, the CPU, and the versions of Python,
numba and quantrecipe.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import numpy as np

from quantrecipe.core.cache import kernel_folder, read_cached, write_cached

__all__ = ["DECODE", "ENCODE", "ENCODE_WEIGHTED", "NotCached", "disjoint_kernel", "kernel", "only_cached"]

P = ParamSpec("P")
R = TypeVar("R")

DECODE = "void(Array(uint8, 2, 'C', True), float32[:,::1])"
"""data uint8 (n, row_bytes), rows float32 (n, k): fill rows. What is only read is typed read-only."""
ENCODE = "void(Array(float32, 2, 'C', True), uint8[:,::1])"
"""rows float32 (n, k), out uint8 (n, row_bytes): fill out."""
ENCODE_WEIGHTED = "void(Array(float32, 2, 'C', True), Array(float32, 1, 'C', True), uint8[:,::1])"
"""rows float32 (n, k), importance float32 (k,), out uint8 (n, row_bytes): fill out."""


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
    """Mark a function as a kernel; with a signature (numba's notation), as one that Python calls."""
    if isinstance(what, str):
        return lambda function: Kernel(function, what)
    return Kernel(what, None)


def disjoint_kernel(function: Callable[P, R], /) -> Callable[P, R]:
    """Mark a function as a kernel whose array arguments never overlap.

    The compiler takes that for granted, so a loop that reads one array at places known only at run time, and writes
    another, vectorises without a check at each turn.
    """
    return Kernel(function, None, disjoint=True)


class Kernel(Generic[P, R]):
    """A function that is compiled when it is first called. Safe to call from any number of threads."""

    def __init__(self, function: Callable[P, R], signature: str | None, *, disjoint: bool = False) -> None:
        self.function = function
        self.signature = signature
        self.disjoint = disjoint
        self._compiled: Callable[P, R] | None = None
        self._callable: Callable[P, R] | None = None
        self._lock = threading.Lock()
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(self, name, getattr(function, name))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self._callable or self.callable())(*args, **kwargs)

    def callable(self) -> Callable[P, R]:
        """numba's dispatcher for this kernel, as Python calls it."""
        if self.signature is not None:
            self._callable = self.compiled()
            return self._callable
        with self._lock:
            if self._callable is None:
                self._callable = _dispatcher(self, from_python=True)
            return self._callable

    def compiled(self) -> Callable[P, R]:
        """numba's dispatcher for this kernel, as other kernels call it."""
        with self._lock:
            if self._compiled is None:
                self._compiled = _dispatcher(self, from_python=self.signature is not None)
            return self._compiled

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__qualname__}>"

    __module__: str
    __name__: str
    __qualname__: str


def _dispatcher(lazy: Kernel[P, R], *, from_python: bool) -> Callable[P, R]:
    import numba
    from numba.core import sigutils

    signatures: Any = sigutils  # numba has no types of its own
    cache = _Cache(lazy, from_python=from_python)
    function = _bind(cast(types.FunctionType, lazy.function))
    # numba names a machine-code symbol by the function and a count in the process. Loaded from the cache, symbols of
    # several processes meet, and of two with one name the first is taken for both; so the name says what it computes.
    function.__qualname__ = f"{function.__qualname__}_{cache.digest.hex()[:24]}"
    # What no one calls from Python needs no wrapper for it: a quarter of the time that compiling takes.
    options: Any = {"no_cpython_wrapper": not from_python, "no_cfunc_wrapper": True}
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if lazy.disjoint:
        dispatcher._compiler._customize_flags = _arguments_are_disjoint
    dispatcher._cache = cache
    if lazy.signature is not None:
        arguments, _ = signatures.normalize_signature(lazy.signature)
        dispatcher.compile(arguments)
        dispatcher.disable_compile()
    return cast(Callable[P, R], dispatcher)


def _arguments_are_disjoint(flags: Any) -> Any:
    flags.noalias = True
    return flags


def _bind(function: types.FunctionType) -> types.FunctionType:
    """The same function, with numba's dispatchers in the place of the kernels that it names."""

    def bound(value: object) -> object:
        return value.compiled() if isinstance(value, Kernel) else value

    names = set(_global_names(function.__code__))
    scope = {name: bound(value) if name in names else value for name, value in function.__globals__.items()}
    cells = tuple(types.CellType(bound(cell.cell_contents)) for cell in function.__closure__ or ())
    copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _sources(lazy: Kernel[..., Any], seen: dict[int, Kernel[..., Any]]) -> Iterator[bytes]:
    """All that decides what a kernel computes: source files and constants, its callees' included."""
    function = cast(types.FunctionType, lazy.function)
    seen[id(lazy)] = lazy
    yield f"{function.__module__}.{function.__qualname__}".encode()
    yield Path(function.__code__.co_filename).read_bytes()
    named = {name: function.__globals__.get(name) for name in sorted(set(_global_names(function.__code__)))}
    free = zip(
        function.__code__.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=True
    )
    for name, value in (*named.items(), *free):
        if isinstance(value, Kernel):
            if id(value) not in seen:
                yield from _sources(value, seen)
        elif isinstance(value, (np.ndarray, np.generic)):
            yield f"{name} {value.dtype.str} {value.shape}".encode() + value.tobytes()
        elif isinstance(value, (bool, int, float, str, tuple)):
            yield f"{name}={value!r}".encode()


class _Cache:
    """What a numba dispatcher asks of its cache, with one file for each kernel and set of types."""

    def __init__(self, lazy: Kernel[..., Any], *, from_python: bool) -> None:
        import numba

        from quantrecipe import __version__

        digest = hashlib.sha256(f"{sys.version} {numba.__version__} {from_python}".encode())
        try:
            digest.update(Path(__file__).read_bytes())  # how kernels are compiled
            for part in _sources(lazy, {}):
                digest.update(len(part).to_bytes(8, "little") + part)
        except OSError:  # no source file, as in a frozen application: nothing to key by
            self.folder = None
        else:
            self.folder = kernel_folder(__version__)
        self.cache_path = str(self.folder or "")
        self.digest = digest.digest()
        self.name = f"{lazy.__module__}.{lazy.__name__}".removeprefix("quantrecipe.")

    def load_overload(self, signature: object, target: Any) -> object | None:
        from numba.core import compiler

        results: Any = compiler.CompileResult
        target.refresh()
        path = self._path(signature, target.codegen())
        data = None if path is None else read_cached(path)
        try:
            if data is not None:
                return cast(object, results._rebuild(target, *pickle.loads(data)))
        except Exception:  # noqa: BLE001  # a damaged file can fail in any way; the kernel is compiled again
            pass
        if _ONLY_CACHED.get():
            raise NotCached(self.name)
        return None

    def save_overload(self, signature: object, compiled: Any) -> None:
        from numba.core import serialize

        pickler: Any = serialize
        if path := self._path(signature, compiled.codegen):
            write_cached(path, pickler.dumps(compiled._reduce()))

    def _path(self, signature: object, codegen: Any) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(self.digest + f"{signature} {codegen.magic_tuple()}".encode())
        return self.folder / f"{self.name}-{digest.hexdigest()[:24]}.bin"
