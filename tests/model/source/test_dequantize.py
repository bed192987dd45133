"""Weights of other programs, against straightforward NumPy on whole arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.sources import in_any_runs, stored

from quantrecipe.errors import ModelError
from quantrecipe.model.source import dequantize
from quantrecipe.model.source.dequantize import GPTQ, BitNet, Fp8, PackedInt, fp8
from quantrecipe.model.source.floats import from_float32, table_of_8_bits
from quantrecipe.model.source.layout import Transpose, rope_order, stack
from quantrecipe.model.source.source import Stored, TensorSource

CUTS = st.lists(st.integers(0, 60), max_size=5)
GIVES = st.sampled_from(["F32", "BF16"])
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> object:
    """So that a few rows are several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dequantize, "_CHUNK", 40)
        yield


def agree(source: TensorSource, expected: Floats, gives: str, cuts: list[int]) -> None:
    assert (source.shape, source.dtype) == (expected.shape, gives)
    rounded = from_float32(expected.reshape(-1, expected.shape[-1]), gives)
    assert in_any_runs(source, cuts).tobytes() == rounded.tobytes()
    assert pickle.loads(pickle.dumps(source)) == source


def draw(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Bits of 8-bit floats, none of which is NaN in either type."""
    return np.random.default_rng(seed).integers(0, 0x7C, shape, dtype=np.uint8) | np.random.default_rng(
        seed + 1
    ).choice(np.array([0, 0x80], np.uint8), shape)


def scales_of(shape: tuple[int, ...], seed: int = 2) -> Floats:
    return np.random.default_rng(seed).uniform(0.001, 3, shape).astype(np.float32)


BLOCKS = st.tuples(st.integers(1, 7), st.integers(1, 9))


@given(st.sampled_from(["F8_E4M3", "F8_E5M2"]), BLOCKS, st.integers(1, 20), st.integers(1, 20), GIVES, CUTS)
def test_fp8_in_blocks(
    folder: Path, dtype: str, block: tuple[int, int], rows: int, cols: int, gives: str, cuts: list[int]
) -> None:
    bits, (height, width) = draw((rows, cols)), block
    scales = scales_of((-(-rows // height), -(-cols // width)))
    source = fp8(stored(folder / "w", bits, dtype), stored(folder / "s", scales, "F32"), block)
    spread = scales.repeat(height, 0)[:rows].repeat(width, 1)[:, :cols]
    expected = table_of_8_bits(dtype)[bits] * spread
    agree(Fp8(weights=source.weights, scales=source.scales, block=block, gives=gives), expected, gives, cuts)
    agree(source, expected, "BF16", cuts)


@pytest.mark.parametrize("shape", [(), (1,), (12,), (12, 1)], ids=str)
@given(cuts=CUTS)
def test_fp8_with_a_scale_of_the_tensor_or_of_each_row(
    folder: Path, shape: tuple[int, ...], cuts: list[int]
) -> None:
    bits, scales = draw((12, 10)), scales_of(shape)
    halves = (scales.reshape(-1).view(np.uint32) >> 16).astype(np.uint16)
    source = fp8(stored(folder / "w", bits, "F8_E4M3"), stored(folder / "s", halves.reshape(shape), "BF16"))
    exact = (halves.astype(np.uint32) << 16).view(np.float32).reshape(-1, 1)
    agree(source, table_of_8_bits("F8_E4M3")[bits] * exact, "BF16", cuts)


@given(st.integers(1, 5), st.integers(1, 9), BLOCKS, CUTS)
def test_experts_of_fp8_are_one_value(
    folder: Path, experts: int, rows: int, block: tuple[int, int], cuts: list[int]
) -> None:
    """Two leaves, whatever the number of experts, each with its own blocks."""
    made, expected = [], []
    for e in range(experts):
        bits, (height, width) = draw((rows, 8), 10 * e), block
        scales = scales_of((-(-rows // height), -(-8 // width)), 10 * e)
        weights = stored(folder / f"w{e}", bits, "F8_E4M3")
        made.append(fp8(weights, stored(folder / f"s{e}", scales, "F32"), block))
        spread = scales.repeat(height, 0)[:rows].repeat(width, 1)[:, :8]
        expected.append(table_of_8_bits("F8_E4M3")[bits] * spread)
    source = stack(made)
    assert isinstance(source, Fp8)
    assert len(source.leaves) == 2
    agree(source, np.stack(expected), "BF16", cuts)


def test_experts_with_different_scales_stay_apart(folder: Path) -> None:
    bits = draw((4, 8))
    weights = stored(folder / "w", bits, "F8_E4M3")
    one = fp8(weights, stored(folder / "s1", scales_of(()), "F32"))
    each = fp8(weights, stored(folder / "s4", scales_of((4,)), "F32"))
    values = table_of_8_bits("F8_E4M3")[bits]
    agree(
        stack([one, each]),
        np.stack([values * scales_of(()), values * scales_of((4, 1))]),
        "BF16",
        [2, 5],
    )


def test_blocks_are_read_whole_where_that_reads_no_scale_twice(folder: Path) -> None:
    weights = stored(folder / "w", draw((12, 8)), "F8_E4M3")

    def blocks(height: int) -> Fp8:
        scales = stored(folder / f"s{height}", scales_of((-(-12 // height), 1)), "F32")
        return fp8(weights, scales, (height, 8))

    assert [blocks(height).together for height in (1, 3, 4, 5, 12, 128)] == [1, 3, 4, 1, 1, 1]
    assert blocks(4).stored_bytes(8) >= 8 * 8 + 2 * 4
    assert [rope_order(blocks(height), 2).together for height in (3, 4)] == [6, 12]


def test_rows_whose_zero_points_share_a_number_are_read_together() -> None:
    with_zeros = PackedInt(packed=P, scales=G, zeros=nothing("z", "I32", 1, 2), length=32, group=16)
    assert (with_zeros.together, PackedInt(packed=P, scales=G, length=32, group=16).together) == (8, 1)


def test_nan_stays_nan(folder: Path) -> None:
    bits = np.array([[0x7F, 0x38], [0xFF, 0x38]], np.uint8)
    source = fp8(stored(folder / "w", bits, "F8_E4M3"), stored(folder / "s", scales_of(()), "F32"))
    found = (in_any_runs(source, []).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert np.isnan(found).tolist() == [[True, False], [True, False]]


def pack(numbers: NDArray[np.int64], bits: int, axis: int) -> NDArray[np.int32]:
    """Integers into I32, the first in the lowest bits, along an axis whose end is filled with zeros."""
    each = 32 // bits
    numbers = np.moveaxis(numbers, axis, -1)
    padded = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % each)])
    grouped = padded.reshape(*numbers.shape[:-1], -1, each).astype(np.uint64)
    packed = (grouped << (np.arange(each, dtype=np.uint64) * np.uint64(bits))).sum(-1, dtype=np.uint64)
    return np.moveaxis(packed.astype(np.uint32).view(np.int32), -1, axis)


@given(
    st.sampled_from([2, 4, 8]), st.integers(1, 20), st.integers(1, 30), st.integers(1, 9), st.booleans(), CUTS
)
def test_packed_integers(
    folder: Path, bits: int, rows: int, cols: int, group: int, zeroed: bool, cuts: list[int]
) -> None:
    random, groups = np.random.default_rng(rows), -(-cols // group)
    numbers = random.integers(0, 1 << bits, (rows, cols))
    zeros, scales = random.integers(0, 1 << bits, (rows, groups)), scales_of((rows, groups))
    source = PackedInt(
        packed=stored(folder / "p", pack(numbers, bits, 1), "I32"),
        scales=stored(folder / "s", scales, "F32"),
        zeros=stored(folder / "z", pack(zeros, bits, 0), "I32") if zeroed else None,
        length=cols,
        group=group,
        bits=bits,
    )
    off = zeros if zeroed else np.full_like(zeros, 1 << (bits - 1))
    plain = (numbers - off.repeat(group, 1)[:, :cols]).astype(np.float32)
    agree(source, plain * scales.repeat(group, 1)[:, :cols], "BF16", cuts)


@given(st.sampled_from([2, 4, 8]), st.integers(1, 4), st.integers(1, 20), st.integers(0, 1), CUTS)
def test_gptq(folder: Path, bits: int, words: int, outputs: int, added: int, cuts: list[int]) -> None:
    """Inputs belong to groups in any order, as with act-order."""
    random, groups = np.random.default_rng(outputs), 3
    inputs = words * 32 // bits
    numbers = random.integers(0, 1 << bits, (inputs, outputs))
    zeros, scales = random.integers(0, 1 << bits, (groups, outputs)), scales_of((groups, outputs))
    group_of = random.integers(0, groups, inputs).astype(np.int32)
    source = GPTQ(
        packed=stored(folder / "p", pack(numbers, bits, 0), "I32"),
        zeros=stored(folder / "z", pack(zeros, bits, 1), "I32"),
        scales=stored(folder / "s", scales, "F32"),
        group_of=stored(folder / "g", group_of, "I32"),
        bits=bits,
        added=added,
    )
    expected = scales[group_of] * (numbers - zeros[group_of] - added).astype(np.float32)
    agree(source, expected, "BF16", cuts)
    agree(Transpose(source=source), np.ascontiguousarray(expected.T), "BF16", cuts)


@given(st.integers(1, 6), st.integers(1, 20), CUTS)
def test_bitnet(folder: Path, quarter: int, cols: int, cuts: list[int]) -> None:
    numbers = np.random.default_rng(quarter).integers(0, 3, (4, quarter, cols), dtype=np.uint8)
    packed = (numbers << (2 * np.arange(4, dtype=np.uint8))[:, np.newaxis, np.newaxis]).sum(0, dtype=np.uint8)
    scale = scales_of((1,))
    source = BitNet(packed=stored(folder / "p", packed, "U8"), scale=stored(folder / "s", scale, "F32"))
    expected = (numbers.astype(np.float32) - 1).reshape(4 * quarter, cols) / scale
    agree(source, expected, "BF16", cuts)


def nothing(name: str, dtype: str, *shape: int) -> Stored:
    return Stored(name=name, shape=shape, dtype=dtype, extents=())


W, S = nothing("w", "F8_E4M3", 8, 6), nothing("s", "F32", 2, 3)
P, G = nothing("p", "I32", 8, 4), nothing("g", "BF16", 8, 2)
Q, Z = nothing("q", "I32", 2, 24), nothing("z", "I32", 2, 3)
H, OF = nothing("h", "F16", 2, 24), nothing("i", "I32", 16)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda: fp8(W, S, (4, 3)),
            r"'w' .* has scales of the shape \(2, 3\), which isn't one for each block of 4 x 3",
        ),
        (lambda: fp8(W, S), r"has scales of the shape \(2, 3\) \(expected: one, or one for each of 8 rows\)"),
        (
            lambda: fp8(nothing("w", "BF16", 8, 6), S, (4, 2)),
            r"'w' \(BF16 \(8, 6\)\) isn't of a type of 8-bit floats",
        ),
        (lambda: fp8(W, nothing("s", "I32", 2, 3), (4, 2)), r"'s' \(I32 \(2, 3\)\) can't be a scale"),
        (lambda: fp8(nothing("w", "F8_E4M3", 8), S), "is no matrix, so its scales can't be told apart"),
        (
            lambda: fp8(nothing("w", "F8_E4M3", 2, 8, 6), S),
            r"has scales of the shape \(2, 3\) \(expected: one, or one for each of 8 rows of 2 matrices\)",
        ),
        (
            lambda: Fp8(weights=W, scales=S, block=(2, 2)),
            r"has scales of the shape \(2, 3\) \(expected: \(4, 3\)\)",
        ),
        (lambda: Fp8(weights=W, scales=S, block=(0, 2)), r"is no matrix of blocks of \(0, 2\)"),
        (lambda: Fp8(weights=nothing("w", "F8_E4M3", 8), scales=S, block=(2, 2)), "is no matrix of blocks"),
        (lambda: fp8(nothing("w", "F8_E4M3", 0, 6), S), "'w' .* is empty; drop it from the file"),
        (lambda: fp8(W, S, (0, 4)), "isn't one for each block of 0 x 4"),
        (lambda: GPTQ(packed=Q, zeros=Z, scales=OF, group_of=OF), "isn't a scale for each group and output"),
        (
            lambda: PackedInt(packed=P, scales=G, length=32, group=16, bits=3),
            "has integers of 3 bits in groups of 16",
        ),
        (lambda: PackedInt(packed=P, scales=G, length=33, group=17), "can't hold 33 columns of 4 bits"),
        (lambda: PackedInt(packed=P, scales=G, length=32, group=8), r"'g' .* \(expected: \(8, 4\)\)"),
        (lambda: PackedInt(packed=P, scales=G, zeros=P, length=32, group=16), r"zero point .* I32 \(1, 2\)"),
        (lambda: GPTQ(packed=Q, zeros=Z, scales=H, group_of=OF, bits=3), "has integers of 3 bits"),
        (
            lambda: GPTQ(packed=Q, zeros=Q, scales=H, group_of=OF),
            r"'q' .* go with tensor 'h' .* I32 \(2, 3\)",
        ),
        (lambda: GPTQ(packed=Q, zeros=Z, scales=H, group_of=Z), r"'z' .* \(expected: I32 \(16,\)\)"),
        (lambda: BitNet(packed=P, scale=S), "isn't a matrix of bytes"),
        (lambda: BitNet(packed=nothing("p", "U8", 2, 3), scale=S), "'s' .* isn't one scale"),
    ],
)
def test_what_does_not_go_together(wrong: Callable[[], TensorSource], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        wrong()


def test_a_group_that_isn_t_there(folder: Path) -> None:
    group_of = stored(folder / "g", np.array([0, 1, 2, 0, 0, 0, 0, 0], np.int32), "I32", "g_idx")
    source = GPTQ(
        packed=stored(folder / "p", np.zeros((1, 8), np.int32), "I32"),
        zeros=stored(folder / "z", np.zeros((2, 1), np.int32), "I32"),
        scales=stored(folder / "s", np.ones((2, 8), np.float32), "F32"),
        group_of=group_of,
    )
    with pytest.raises(ModelError, match=r"'g_idx' .* names a group that isn't there \(expected: 0 to 1\)"):
        in_any_runs(source, [])
