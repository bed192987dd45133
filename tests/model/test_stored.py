"""What a GGUF can hold of a safetensors file, and what only other programs than llama.cpp load."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.safetensors import StoredTensor
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.model.storable import as_tensor_info, check_name

FILE = Path("model.safetensors")


def stored(shape: tuple[int, ...] = (2, 3), dtype: str = "BF16", name: str = "a") -> Stored:
    extent = Extent(path=FILE, offset=0, nbytes=0)
    return StoredTensor(name=name, dtype=dtype, shape=shape, extent=extent).source


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64"])
def test_dtypes_that_ggml_has(dtype: str) -> None:
    assert as_tensor_info(stored(dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "U16", "U32", "U64", "F8_E4M3", "F4", "C64"])
@pytest.mark.parametrize("name", [None, "token_embd.weight"])
def test_others(dtype: str, name: str | None) -> None:
    with pytest.raises(
        ModelError, match=f"tensor 'a' has the dtype {dtype}, which can't be converted"
    ) as error:
        as_tensor_info(stored(dtype=dtype), name)
    assert error.value.problems[0].file == FILE


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 1, 2, 1, 3), "has 5 dimensions; llama.cpp loads at most 4; drop or reshape it"),
        ((0, 4), r"is empty: its shape is \(0, 4\); drop it"),
        ((4, 0), r"is empty: its shape is \(4, 0\)"),
    ],
)
def test_what_llama_cpp_doesn_t_load_is_for_other_programs(shape: tuple[int, ...], said: str) -> None:
    assert as_tensor_info(stored(shape)).shape == shape
    with pytest.raises(ModelError, match=f"tensor 'a' {said}"):
        as_tensor_info(stored(shape), "token_embd.weight")


def test_four_dimensions_and_none() -> None:
    assert as_tensor_info(stored((1, 2, 3, 4)), "token_embd.weight").shape == (1, 2, 3, 4)
    assert as_tensor_info(stored(()), "token_embd.weight").shape == (1,)


def test_names() -> None:
    info = as_tensor_info(stored(name="model.layers.0.x"), "blk.7.attn_q.weight")
    assert (info.name, info.layer, info.role) == ("blk.7.attn_q.weight", 7, "attn_q")
    assert as_tensor_info(stored(name="x" * 63)).name == "x" * 63
    check_name("é" * 31 + "x", FILE)
    for name in ("x" * 64, "é" * 32):
        with pytest.raises(ModelError, match=r"has 64 bytes; ggml loads at most 63; rename it") as error:
            check_name(name, FILE)
        assert error.value.problems[0].file == FILE
