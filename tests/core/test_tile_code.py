"""The tile of a product, as machine code for CPUs with wide registers and for others: the same numbers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from llvmlite import binding as llvm
from llvmlite import ir

from quantrecipe.core.tile_code import TILE_BYTES, TILE_ROWS, write_tile

WORD = ir.IntType(64)


def compiled(number: Any, *, wide: bool) -> tuple[Any, Any]:
    """tile(a, x, y, strides of a, of x and of y, count), and the engine that it lives in."""
    module = ir.Module()
    arguments = [number.as_pointer()] * 3 + [WORD] * 5
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    a, x, y, *strides, count = function.args
    write_tile(builder, number, a, x, y, tuple(strides), count, wide)
    builder.ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 5)
    return kind(engine.get_function_address("tile")), engine


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_each_number_takes_its_products_in_order(count: int, dtype: Any, wide: bool) -> None:
    rng, lanes = np.random.default_rng(count), TILE_BYTES // np.dtype(dtype).itemsize
    tile, _engine = compiled(ir.FloatType() if dtype == np.float32 else ir.DoubleType(), wide=wide)
    # Numbers of few bits: products and sums of two are exact in float64, so that float32 rounds them once, as fma does.
    a, x, y = (
        (rng.integers(-999, 999, shape) / 1024).astype(dtype)
        for shape in ((count + 1, TILE_ROWS + 3), (count + 1, lanes + 5), (TILE_ROWS, lanes + 9))
    )
    wanted = y.copy()
    for j in range(count):
        products = a[j, :TILE_ROWS, None].astype(np.float64) * x[j, :lanes]
        wanted[:, :lanes] = (wanted[:, :lanes] + products).astype(dtype)
    tile(a.ctypes.data, x.ctypes.data, y.ctypes.data, 1, a.shape[1], x.shape[1], y.shape[1], count)
    assert y.tobytes() == wanted.tobytes()
