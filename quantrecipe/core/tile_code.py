"""The code of one tile of a matrix product, in registers, which a compiler doesn't find by itself.

    y[i, r] += a[i, 0] x[0, r], then a[i, 1] x[1, r], …        one fused multiply-add after the other

A tile is `TILE_ROWS` rows of y, of `TILE_BYTES` each. It is made of smaller ones, whose sums stay in registers while
all of x passes: with AVX-512 (32 registers of 64 bytes) 8 rows of two registers, elsewhere 4 rows of 64 bytes, which is
8 registers of AVX2's 16, and 16 of the 32 that arm64 has. Each number takes its products in the same order everywhere.

What is written is LLVM's code; `compiler.py` makes an instruction of it, which kernels call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

__all__ = ["TILE_BYTES", "TILE_ROWS", "write_tile"]

TILE_ROWS = 16
TILE_BYTES = 128
_VECTOR = 64
"""Bytes that are one vector here. Where registers are smaller, LLVM takes several."""
_Llvm = Any  # llvmlite has no annotations
_WORD = ir.IntType(64)


def write_tile(
    builder: _Llvm,
    number: _Llvm,
    a: _Llvm,
    x: _Llvm,
    y: _Llvm,
    strides: tuple[_Llvm, ...],
    count: _Llvm,
    wide: bool,
) -> None:
    """Write the code at the builder's place.

    number:  ir.FloatType or ir.DoubleType
    a, x, y: addresses of the first number of each
    strides: in numbers: of a from one row to the next, and from one column to the next; of x and y from row to row
    count:   columns of a, which are rows of x
    wide:    whether registers hold 64 bytes
    """
    size = 4 if isinstance(number, ir.FloatType) else 8
    lanes = _VECTOR // size
    vector = ir.VectorType(number, lanes)
    rows, vectors = (8, 2) if wide else (4, 1)
    per_row, per_column, x_step, y_step = strides
    fma = _function(builder.module, f"llvm.fma.v{lanes}f{8 * size}", vector, 3)
    spread = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    nothing = ir.Constant(vector, ir.Undefined)

    def from_(base: _Llvm, away: _Llvm, more: int = 0) -> _Llvm:
        return builder.gep(base, [builder.add(away, _WORD(more)) if more else away])

    def as_vector(address: _Llvm) -> _Llvm:
        return builder.bitcast(address, vector.as_pointer())

    with _loop(builder, _WORD(TILE_BYTES // _VECTOR // vectors)) as (part, _):
        column = builder.mul(part, _WORD(vectors * lanes))
        x_part, y_part = from_(x, column), from_(y, column)
        with _loop(builder, _WORD(TILE_ROWS // rows)) as (group, _):
            first = builder.mul(group, _WORD(rows))
            of_rows = [builder.add(first, _WORD(r)) for r in range(rows)]
            starts = [from_(a, builder.mul(row, per_row)) for row in of_rows]
            places = [
                as_vector(from_(y_part, builder.mul(row, y_step), v * lanes))
                for row in of_rows
                for v in range(vectors)
            ]
            before = [builder.load(place, align=size) for place in places]
            with _loop(builder, count, before) as (at, sums):
                here = builder.mul(at, x_step)
                xs = [
                    builder.load(as_vector(from_(x_part, here, v * lanes)), align=size)
                    for v in range(vectors)
                ]
                away = builder.mul(at, per_column)
                for r in range(rows):
                    factor = builder.insert_element(nothing, builder.load(from_(starts[r], away)), _WORD(0))
                    factors = builder.shuffle_vector(factor, nothing, spread)
                    for v in range(vectors):
                        i = r * vectors + v
                        sums[i] = builder.call(fma, [factors, xs[v], sums[i]])
            for place, total in zip(places, sums, strict=True):
                builder.store(total, place, align=size)


@contextmanager
def _loop(
    builder: _Llvm, count: _Llvm, values: list[_Llvm] | None = None
) -> Iterator[tuple[_Llvm, list[_Llvm]]]:
    """The body for 0, 1, … below count: yields the number, and values that the body replaces in the list.

    After the body, the list has what they are in the end.
    """
    values = [] if values is None else values
    entry, function = builder.block, builder.function
    head, body, end = (function.append_basic_block(name) for name in ("head", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_WORD)
    index.add_incoming(_WORD(0), entry)
    phis = [builder.phi(value.type) for value in values]
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, entry)
    builder.cbranch(builder.icmp_signed("<", index, count), body, end)
    builder.position_at_end(body)
    values[:] = phis
    yield index, values
    index.add_incoming(builder.add(index, _WORD(1)), builder.block)
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, builder.block)
    values[:] = phis
    builder.branch(head)
    builder.position_at_end(end)


def _function(module: _Llvm, name: str, kind: _Llvm, count: int) -> _Llvm:
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(kind, [kind] * count), name)
