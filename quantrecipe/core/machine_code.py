"""Machine code of kernels: kept in files, and called without numba.

    first line    SHA-256 of all that follows, in hex
    second line   JSON: what the function takes and gives back, and what it needs of the process
    the rest      an object file, as LLVM makes it for this CPU

The object has one function, which takes the address of 64-bit words and gives back a status, 0 if all went well:

    words[0]              where the result goes, as one word; 0 if there is none
    words[1] …            the arguments: a scalar is one word, an array its address and its shape, a tuple its items
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
import struct
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quantrecipe.core.cache import kernel_folder, read_cached, write_cached

if TYPE_CHECKING:
    from quantrecipe.core.jit import Kernel

__all__ = [
    "LEVELS",
    "SHIPPED",
    "Argument",
    "MachineCode",
    "cpu_level",
    "find_machine_code",
    "keep_machine_code",
    "link",
    "ship_machine_code",
]

SHIPPED: Final = Path(__file__).with_name("kernels")
"""Kernels that a package carries, a folder for each level of CPUs. A package of pure Python has none."""

_V3 = ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS: Final = {"x86-64-v3": _V3, "x86-64-v4": _V4, "arm64": ()}
"""Levels of CPUs, with LLVM's names of what a CPU must have: of the x86-64 psABI, and all 64-bit ARM."""

_VOID: Final = "void"
_HEADER: Final = object.__basicsize__
_ADDRESS: Final = ctypes.c_void_p.from_address


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """What a kernel takes: a scalar (ndim 0), a C-contiguous array, or a tuple of such.

    dtype: as numpy calls it; "" for a tuple
    """

    dtype: str = ""
    ndim: int = 0
    writeable: bool = False
    items: tuple[Argument, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineCode:
    """A kernel as an object file.

    symbol:    name of its function
    returns:   dtype of the result; "void" where there is none
    externals: functions of the process that it calls, such as malloc
    """

    symbol: str
    arguments: tuple[Argument, ...]
    returns: str
    externals: tuple[str, ...]
    obj: bytes


def find_machine_code(kernel: Kernel[..., Any]) -> MachineCode | None:
    """What the package, or else an earlier process, has kept of the kernel for this CPU, if it isn't damaged."""
    for path in (_shipped_path(kernel), _path(kernel)):
        data = None if path is None else read_cached(path)
        code = None if data is None else _decoded(data)
        if code is not None:
            return code
    return None


def keep_machine_code(kernel: Kernel[..., Any], code: MachineCode) -> None:
    """Keep it for later processes, if there is a place for it."""
    path = _path(kernel)
    if path is not None:
        write_cached(path, _encoded(code))


def ship_machine_code(kernel: Kernel[..., Any], code: MachineCode, folder: Path) -> None:
    """Put it where a package carries it: `folder` is that of a level of CPUs."""
    (folder / _file_name(kernel, folder.name)).write_bytes(_encoded(code))


@cache
def cpu_level() -> str:
    """Which of the levels that packages may carry kernels for this CPU reaches; "" if none."""
    import llvmlite.binding as llvm

    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return "arm64"
    features = llvm.get_host_cpu_features()
    reached = [
        level for level, needs in LEVELS.items() if needs and all(features.get(name) for name in needs)
    ]
    return reached[-1] if reached and machine in ("x86_64", "amd64") else ""


def link(code: MachineCode, name: str) -> Callable[..., Any]:
    """The kernel as Python calls it, without the GIL. `name` is what errors call it."""
    with _LINKING:
        address = _linker().address(code)
    return _Function(address, code, name)


_LINKING: Final = threading.Lock()
"""One thread at a time, from the making of the linker on: of two linkers one would be dropped, with what it loaded."""


class _Linker:
    """LLVM's own loader of object files, one for the process; what it has loaded stays."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self._llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        # Code of an object file reaches its constants at most 2 GiB away. LLVM's own memory manager puts each section
        # wherever there is room, which in a large process may be further; llvmlite's keeps an object's together.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=True)

    def address(self, code: MachineCode) -> int:
        """Where the code's function begins, in memory. Not for two threads at once."""
        if any(self._llvm.address_of_symbol(name) is None for name in code.externals):
            # LLVM ends the process over a name that it can't find. numba brings what kernels may call beyond the
            # C library: random numbers, for example.
            from quantrecipe.core.compiler import provide_externals

            provide_externals()
        self._engine.add_object_file(self._llvm.ObjectFileRef.from_data(code.obj))
        self._engine.finalize_object()
        return int(self._engine.get_function_address(code.symbol))


@cache
def _linker() -> _Linker:
    return _Linker()


class _Function:
    """A function in memory, with a check of what it is called with: it would write wherever an address leads."""

    __slots__ = ("_call", "_name", "_pack", "_result", "_takers")

    def __init__(self, address: int, code: MachineCode, name: str) -> None:
        self._name = name
        self._takers = [_Taker(argument) for argument in code.arguments]
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p)(address)
        self._result = None if code.returns == _VOID else np.dtype(code.returns)
        self._pack = struct.Struct("=q" + "".join(taker.letters for taker in self._takers)).pack

    def __call__(self, *args: Any) -> Any:
        if len(args) != len(self._takers):
            raise TypeError(f"{self._name} takes {len(self._takers)} arguments, not {len(args)}")
        words: list[Any] = []
        for position, (value, taker) in enumerate(zip(args, self._takers, strict=True)):
            if not taker.take(value, words):
                raise TypeError(f"{self._name}: argument {position} must be {taker}, but is {_given(value)}")
        if self._result is None:
            status, result = self._call(self._pack(0, *words)), None
        else:
            room = np.zeros(8, np.uint8)
            status = self._call(self._pack(_address(room), *words))
            result = room.view(self._result)[0]
        if status:
            raise MemoryError(f"{self._name} found no memory to work in, or failed in another way")
        return result


class _Taker:
    """Turns a value into the words of an argument, if it is of the right kind. letters: struct's of these words."""

    __slots__ = ("_dtype", "_items", "_ndim", "_writeable", "letters")

    def __init__(self, argument: Argument) -> None:
        self._items = [_Taker(item) for item in argument.items]
        self._ndim, self._writeable = argument.ndim, argument.writeable
        self._dtype = None if argument.items else np.dtype(argument.dtype)
        self.letters: str
        if self._dtype is None:
            self.letters = "".join(item.letters for item in self._items)
        elif self._ndim:
            self.letters = "q" + self._ndim * "q"
        elif self._dtype.kind == "f":
            self.letters = {4: "f4x", 8: "d"}[self._dtype.itemsize]
        else:
            self.letters = "q" if self._dtype.kind == "i" else "Q"

    def take(self, value: Any, words: list[Any]) -> bool:
        """Add the words; False if the value isn't what the kernel takes."""
        if self._dtype is None:
            return len(value) == len(self._items) and all(
                taker.take(item, words) for item, taker in zip(value, self._items, strict=True)
            )
        if not self._ndim:
            words.append(self._dtype.type(value).item())
            return True
        if not isinstance(value, np.ndarray) or value.dtype != self._dtype or value.ndim != self._ndim:
            return False
        flags = value.flags
        if not (flags.c_contiguous and flags.aligned and (flags.writeable or not self._writeable)):
            return False
        words.append(_address(value))
        words.extend(value.shape)
        return True

    def __str__(self) -> str:
        if self._dtype is None:
            return f"a tuple of {' and '.join(map(str, self._items))}"
        if not self._ndim:
            return f"a number that {self._dtype} can hold"
        dimensions = "1 dimension" if self._ndim == 1 else f"{self._ndim} dimensions"
        return f"{'a writeable' if self._writeable else 'a'} C-contiguous array of {self._dtype} with {dimensions}"


def _address(array: np.ndarray[Any, Any]) -> int:
    """Where the array's data begins: `array.ctypes.data`, which takes longer than many a kernel.

    It is the first field of numpy's arrays, which their C interface fixes.
    """
    return _ADDRESS(id(array) + _HEADER).value or 0


def _given(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    layout = "" if value.flags.c_contiguous else ", not C-contiguous"
    return f"an array of {value.dtype} of shape {value.shape}{layout}{'' if value.flags.writeable else ', read-only'}"


def _encoded(code: MachineCode) -> bytes:
    facts = asdict(code)
    del facts["obj"]
    content = json.dumps(facts).encode() + b"\n" + code.obj
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _decoded(data: bytes) -> MachineCode | None:
    """None where the file is damaged: LLVM, or a call of what isn't there, would end the process."""
    digest, _, content = data.partition(b"\n")
    if digest.decode("ascii", "replace") != hashlib.sha256(content).hexdigest():
        return None
    head, _, obj = content.partition(b"\n")
    facts = json.loads(head)
    arguments = tuple(map(_argument, facts.pop("arguments")))
    return MachineCode(arguments=arguments, externals=tuple(facts.pop("externals")), obj=obj, **facts)


def _argument(facts: dict[str, Any]) -> Argument:
    return Argument(items=tuple(map(_argument, facts.pop("items"))), **facts)


def _shipped_path(kernel: Kernel[..., Any]) -> Path | None:
    """Where the package would carry the kernel for CPUs of this level; None if it carries none, or has no source."""
    level = cpu_level() if SHIPPED.is_dir() else ""
    try:
        return SHIPPED / level / _file_name(kernel, level) if level else None
    except OSError:  # as in `_path`
        return None


def _path(kernel: Kernel[..., Any]) -> Path | None:
    """The file of the kernel for this CPU; None where there is no folder for it, or no source to tell it by."""
    from quantrecipe import __version__

    folder = kernel_folder(__version__)
    try:
        return None if folder is None else folder / _file_name(kernel, _cpu())
    except OSError:  # no source file, as in a frozen application: nothing to tell it by
        return None


def _file_name(kernel: Kernel[..., Any], target: str) -> str:
    digest = hashlib.sha256(f"{kernel.digest} {_compiler()} {target}".encode()).hexdigest()
    name = f"{kernel.__module__}.{kernel.__name__}".removeprefix("quantrecipe.")
    return f"{name}-{digest[:24]}.o"


@cache
def _compiler() -> str:
    """Digest of how kernels are compiled."""
    here = Path(__file__)
    digest = hashlib.sha256()
    for path in (here, *(here.with_name(name) for name in ("compiler.py", "tile_code.py", "runtime.ll"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _cpu() -> str:
    """What machine code depends on beside: the CPU, and the versions of numba and LLVM."""
    import llvmlite
    import llvmlite.binding as llvm

    parts = (
        _numba_version().read_text(encoding="utf-8"),
        llvmlite.__version__,
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
    )
    return " ".join(parts)


def _numba_version() -> Path:
    """The file that says which numba is installed; importlib.metadata takes longer to load than a run's kernels."""
    found = find_spec("numba")
    if found is None or found.origin is None:
        raise OSError("numba isn't installed as files")
    return Path(found.origin).with_name("_version.py")
