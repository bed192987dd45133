"""Kernels → machine code, by numba and LLVM: the one module that imports numba, and only to compile something.

A kernel and all that it calls become one module of LLVM, with what numba's arrays need of numba's runtime, so that the
code needs the C library alone. Each function is optimised before it is copied into its callers: what is known there,
such as how often a loop runs, has LLVM unroll short loops before anybody tries to vectorise them, which was measured to
make kernels up to six times slower.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import llvmlite.binding as llvm
import numba
import numba.extending
from llvmlite import ir
from numba.core import codegen, sigutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys
from numba.np import arrayobj

from quantrecipe.core.jit import Instruction, Kernel, global_names
from quantrecipe.core.machine_code import Argument, MachineCode
from quantrecipe.core.tile_code import write_tile

__all__ = ["HOST", "compile_kernel", "provide_externals", "untyped"]

HOST = "host"
"""This CPU, with all that it has."""
_RUNTIME = Path(__file__).with_name("runtime.ll")
_WORD = ir.IntType(64)
_Numba = Any  # numba has annotations in some places only
_types: _Numba = numba.types


def compile_kernel(kernel: Kernel[..., Any], level: str = HOST) -> MachineCode:
    """The machine code of a kernel that has a signature, for this CPU, or for a level of CPUs (see `LEVELS`).

    A process compiles for one of these: what a kernel calls is optimised for the first that it was asked for.
    """
    symbol = f"kernel_{kernel.digest[:32]}"
    with _compiling(level) as context:
        dispatcher: _Numba = _dispatcher(kernel)
        arguments, _ = cast(_Numba, sigutils).normalize_signature(kernel.signature)
        dispatcher.compile(kernel.signature)
        compiled = dispatcher.overloads[arguments]
        restype = compiled.fndesc.restype
        library = context.codegen().create_library(symbol)
        library.add_linking_library(compiled.library)
        _add_entry(context, library, compiled.fndesc, symbol)
        externals, obj = library.emit(symbol)
    return MachineCode(
        symbol=symbol,
        arguments=tuple(_argument(kind) for kind in arguments),
        returns="void" if restype is _types.none else _dtype(restype),
        externals=externals,
        obj=obj,
    )


def untyped(kernel: Kernel[..., Any]) -> Callable[..., Any]:
    """numba's own dispatcher of the kernel: compiles for the types of each call, and keeps nothing."""
    return cast(Callable[..., Any], numba.njit(nogil=True, error_model="numpy")(_bind(kernel.function)))


def provide_externals() -> None:
    """Make known to LLVM, in this process, whatever numba lets compiled code call."""
    context = cpu_target.target_context
    context.refresh()
    rtsys.initialize(context)


class _Library(codegen.AOTCodeLibrary):  # type: ignore[misc]
    """Functions on their way into one module, and into their callers' modules; only a kernel becomes machine code."""

    def finalize(self) -> None:
        """Copy in what the functions call, and optimise."""
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)
        self._finalized = True

    def get_pointer_to_function(self, _name: str) -> int:
        """numba asks for a place in memory, which there is none of."""
        return 0

    def emit(self, symbol: str) -> tuple[tuple[str, ...], bytes]:
        """(functions of the process that are called, the object file) of the function and all that it calls."""
        self._ensure_finalized()
        module = self._final_module
        module.link_in(llvm.parse_assembly(_RUNTIME.read_text(encoding="utf-8")))
        for function in module.functions:
            if not function.is_declaration and function.name != symbol:
                function.linkage = "internal"  # so that what was copied into its callers goes
        self._optimize_final_module()
        module.verify()
        obj = self._codegen._tm.emit_object(module)
        declared = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
        return tuple(sorted(declared)), bytes(obj)


class _Codegen(codegen.AOTCPUCodegen):  # type: ignore[misc]
    """LLVM for a CPU, and object files instead of code in memory."""

    _library_class = _Library

    def __init__(self, level: str) -> None:
        self.level = level
        super().__init__("quantrecipe", cpu_name={"arm64": "generic"}.get(level, level))

    def _customize_tm_features(self) -> str:
        features = cast(str, self._get_host_cpu_features()) if self.level == HOST else ""
        if self.level == "arm64" or not llvm.get_process_triple().startswith("x86"):
            return features
        # LLVM halves its vectors on Intel's CPUs with AVX-512, for the clock of the oldest of them. Lanes lose by that:
        # with whole ones, encoders were measured to be 1.1 to 2 times as fast. The last word counts.
        return ",".join(filter(None, (features, "-prefer-256-bit")))

    def set_env(self, _name: str, _environment: object) -> None:
        """Kernels raise nothing that would need an environment."""


def _fma(_context: _Numba, a: _Numba, b: _Numba, c: _Numba) -> _Numba:
    """a * b + c, rounded once. LLVM makes one instruction of it, and never of a product and a sum that are written."""
    if not (a == b == c and isinstance(a, _types.Float)):
        raise TypeError(f"fma takes three floats of one type, not {a}, {b} and {c}")

    def generate(_context: _Numba, builder: _Numba, _signature: _Numba, numbers: _Numba) -> _Numba:
        return builder.fma(*numbers)

    return a(a, b, c), generate


def _add_tile(
    _context: _Numba, a: _Numba, a_at: _Numba, per_row: _Numba, per_column: _Numba,
    x: _Numba, x_at: _Numba, x_step: _Numba, count: _Numba, y: _Numba, y_at: _Numba, y_step: _Numba,
) -> _Numba:  # fmt: skip
    """y += a x, of one tile (see `tile_code`): arrays in their order in memory, and the numbers of their first items.

    Strides and places are in items. Nothing is checked.
    """
    arrays = {0: a, 4: x, 8: y}
    if not all(
        isinstance(it, _types.Array) and it.layout == "C" and it.dtype == y.dtype for it in arrays.values()
    ):
        raise TypeError(f"add_tile takes three C-contiguous arrays of one type, not {a}, {x} and {y}")

    def generate(context: _Numba, builder: _Numba, signature: _Numba, given: _Numba) -> _Numba:
        def item(place: int) -> _Numba:
            array = arrayobj.make_array(signature.args[place])(context, builder, given[place])
            return builder.gep(array.data, [given[place + 1]])

        number, strides = context.get_data_type(y.dtype), (given[2], given[3], given[6], given[10])
        write_tile(
            builder, number, item(0), item(4), item(8), strides, given[7], _has_wide_registers(context)
        )
        return context.get_dummy_value()

    places = [arrays.get(place, _types.intp) for place in range(11)]
    return _types.void(*places), generate


def _has_wide_registers(context: _Numba) -> bool:
    """Whether the CPU that code is generated for has AVX-512."""
    codegen = context.codegen()
    if not isinstance(codegen, _Codegen):  # numba's own, for `untyped`
        return False
    return codegen.level == "x86-64-v4" or "+avx512f" in codegen._tm_features.split(",")


_INSTRUCTIONS = {
    "fma": cast(_Numba, numba.extending).intrinsic(_fma),
    "add_tile": cast(_Numba, numba.extending).intrinsic(_add_tile),
}
_DISPATCHERS: dict[int, tuple[Kernel[..., Any], Callable[..., Any]]] = {}
"""By identity of the kernel: numba's dispatcher, as other kernels call it. Filled under numba's lock."""
_CODEGENS: dict[str, _Codegen] = {}


@contextmanager
def _compiling(level: str) -> Iterator[_Numba]:
    """numba's context, with our code generation in the place of its own; one thread at a time."""
    with cast(_Numba, global_compiler_lock):
        context: _Numba = cpu_target.target_context
        provide_externals()  # numba's own functions, compiled by numba's own code generation
        if level not in _CODEGENS:
            _CODEGENS[level] = _Codegen(level)
        usual = context._internal_codegen
        context._internal_codegen = _CODEGENS[level]
        try:
            yield context
        finally:
            context._internal_codegen = usual


def _dispatcher(kernel: Kernel[..., Any]) -> Callable[..., Any]:
    """numba's dispatcher of a kernel. What no one calls from Python needs no wrappers for it."""
    if id(kernel) not in _DISPATCHERS:
        options: _Numba = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        dispatcher: _Numba = numba.njit(nogil=True, error_model="numpy", **options)(_bind(kernel.function))
        if kernel.disjoint:
            dispatcher._compiler._customize_flags = _arguments_are_disjoint
        _DISPATCHERS[id(kernel)] = kernel, dispatcher
    return _DISPATCHERS[id(kernel)][1]


def _arguments_are_disjoint(flags: _Numba) -> _Numba:
    flags.noalias = True
    return flags


def _bind(marked: Callable[..., Any]) -> types.FunctionType:
    """The same function, with numba's dispatchers in the place of the kernels that it names."""
    function = cast(types.FunctionType, marked)

    def bound(value: object) -> object:
        if hasattr(
            value, "py_func"
        ):  # numba's own would be compiled for no place in memory, and not be in the digest
            raise TypeError(
                f"{function.__qualname__} calls {value}, which numba compiles: mark it with @kernel"
            )
        if isinstance(value, Instruction):
            return _INSTRUCTIONS[value.name]
        return _dispatcher(value) if isinstance(value, Kernel) else value

    names = set(global_names(function.__code__))
    scope = {name: bound(value) if name in names else value for name, value in function.__globals__.items()}
    cells = tuple(types.CellType(bound(cell.cell_contents)) for cell in function.__closure__ or ())
    copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy


def _add_entry(context: _Numba, library: _Library, described: _Numba, symbol: str) -> None:
    """Add the function that Python calls (see `machine_code`): it makes numba's arrays of addresses and shapes."""
    module = context.create_module(symbol)
    calls = context.call_conv
    callee = ir.Function(
        module, calls.get_function_type(described.restype, described.argtypes), described.llvm_func_name
    )
    entry = ir.Function(module, ir.FunctionType(ir.IntType(32), [_WORD.as_pointer()]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block())
    position = 0

    def word() -> _Numba:
        nonlocal position
        position += 1
        return builder.load(builder.gep(entry.args[0], [ir.Constant(_WORD, position - 1)]))

    result = word()
    values = [_value(context, builder, kind, word) for kind in described.argtypes]
    status, returned = calls.call_function(builder, callee, described.restype, described.argtypes, values)
    if described.restype is not _types.none:
        data = context.get_value_as_data(builder, described.restype, returned)
        builder.store(data, builder.inttoptr(result, data.type.as_pointer()))
    builder.ret(status.code)
    library.add_ir_module(module)


def _value(context: _Numba, builder: _Numba, kind: _Numba, word: Callable[[], _Numba]) -> _Numba:
    """An argument of numba's function, from its words."""
    if isinstance(kind, _types.BaseTuple):
        return context.make_tuple(
            builder, kind, [_value(context, builder, item, word) for item in kind.types]
        )
    if not isinstance(kind, _types.Array):
        data_type = context.get_data_type(kind)
        if isinstance(data_type, ir.DoubleType):
            return builder.bitcast(word(), data_type)
        if isinstance(data_type, ir.FloatType):
            return builder.bitcast(builder.trunc(word(), ir.IntType(32)), data_type)
        data = word() if data_type.width == _WORD.width else builder.trunc(word(), data_type)
        return context.get_data_as_value(builder, kind, data)
    array = arrayobj.make_array(kind)(context, builder)
    data = builder.inttoptr(word(), context.get_data_type(kind.dtype).as_pointer())
    shape = [word() for _ in range(kind.ndim)]
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [ir.Constant(_WORD, size)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    arrayobj.populate_array(
        array, data=data, shape=shape, strides=strides, itemsize=ir.Constant(_WORD, size), meminfo=None
    )
    return array._getvalue()


def _argument(kind: _Numba) -> Argument:
    if isinstance(kind, _types.BaseTuple):
        return Argument(items=tuple(_argument(item) for item in kind.types))
    if isinstance(kind, _types.Array):
        if kind.layout != "C" or not kind.aligned:
            raise TypeError(f"a kernel's arrays are C-contiguous and aligned, and {kind} isn't")
        return Argument(dtype=_dtype(kind.dtype), ndim=kind.ndim, writeable=kind.mutable)
    return Argument(dtype=_dtype(kind))


def _dtype(kind: _Numba) -> str:
    """numpy's name of a scalar type."""
    if not isinstance(kind, (_types.Integer, _types.Float, _types.Boolean)):
        raise TypeError(
            f"a kernel that Python calls takes numbers, arrays of them and tuples, and gives a number: not {kind}"
        )
    return "bool" if isinstance(kind, _types.Boolean) else str(kind)
