"""The numbers of `general.file_type` are llama.cpp's."""

from __future__ import annotations

import gguf
import pytest

from quantrecipe.gguf.file_types import FILE_TYPES, file_type_name

PEER = {
    it.name.removeprefix("MOSTLY_").removeprefix("ALL_"): int(it)
    for it in gguf.LlamaFileType
    if it.name != "GUESSED"
}


@pytest.mark.parametrize("name", FILE_TYPES)
def test_they_are_those_of_gguf_py(name: str) -> None:
    assert FILE_TYPES[name] == PEER.get(name, FILE_TYPES[name])
    assert file_type_name(FILE_TYPES[name]) == name


def test_newer_ones_than_gguf_py_knows_are_few() -> None:
    assert {name: FILE_TYPES[name] for name in FILE_TYPES.keys() - PEER.keys()}.items() <= {
        "MXFP4_MOE": 38, "NVFP4": 39, "Q1_0": 40, "Q2_0": 41,
    }.items()  # fmt: skip
    assert len(FILE_TYPES) == len(set(FILE_TYPES.values())) == 36


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (135, "Q6_0"), (138, "IQ2_K"), (139, "IQ3_K"), (140, "IQ4_K"), (141, "IQ5_K"), (142, "IQ6_K"),
        (145, "IQ4_KS"), (146, "IQ3_KL"), (147, "IQ2_KS"), (148, "IQ4_KSS"), (150, "IQ5_KS"), (151, "IQ2_KT"),
        (152, "IQ3_KT"), (153, "IQ4_KT"), (154, "IQ3_KS"), (155, "IQ2_KL"), (156, "IQ1_KT"),
    ],
)  # fmt: skip
def test_those_that_only_ik_llama_cpp_has_are_read_and_not_written(number: int, name: str) -> None:
    assert file_type_name(number) == name
    assert name not in FILE_TYPES


@pytest.mark.parametrize("number", [-1, 4, 5, 6, 33, 34, 35, 42, 136, 1024])
def test_other_numbers_have_no_name(number: int) -> None:
    assert file_type_name(number) is None
