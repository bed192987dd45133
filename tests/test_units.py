"""Sizes and contexts: what people write, what is understood, and what is said of what isn't."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.errors import RecipeError
from quantrecipe.units import (
    binary_unit,
    bytes_text,
    file_text,
    memory_text,
    parse_file_size,
    parse_memory,
    parse_tokens,
    require_size,
    tokens_text,
    whole_number,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500M", 500_000_000),
        ("500 mb", 500_000_000),
        ("48G", 48_000_000_000),
        ("4.5GiB", 4_831_838_208),
        ("5.2GiB", 5_583_457_484),
        ("5.2Gi", 5_583_457_484),
        ("2KiB", 2048),
        ("1TiB", 2**40),
        (" 0.5T ", 500_000_000_000),
        ("0.7K", 700),
        ("300000B", 300_000),
        ("5200000000", 5_200_000_000),
    ],
)
def test_sizes_of_files_are_thousands_unless_they_say_gib(text: str, size: int) -> None:
    assert parse_file_size(text) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8", 8 * GIB),
        ("8G", 8 * GIB),
        ("8g", 8 * GIB),
        ("8 G", 8 * GIB),
        ("8GB", 8 * GIB),
        ("8Gi", 8 * GIB),
        ("8GiB ", 8 * GIB),
        ("7.5", 15 * GIB // 2),
        ("1T", 1024 * GIB),
        ("12282MiB", 12282 << 20),
        ("12282MB", 12282 << 20),
        ("8589934592", 8 * GIB),
    ],
)
def test_memory_is_gib_whatever_it_says(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("8192", 8192),
        ("8k", 8192),
        ("8K", 8192),
        ("128k", 131072),
        ("1.5k", 1536),
        ("1M", 1 << 20),
        ("8,192", 8192),
        ("8,192 tokens", 8192),
        ("131,072", 131072),
        ("128", 128),
    ],
)
def test_tokens_are_counted_in_1024(text: str, tokens: int) -> None:
    assert parse_tokens(text) == tokens


HOSTILE = [
    "",
    "x",
    "G",
    "-8",
    "1.",
    ".5G",
    "1e3GB",
    "nan",
    "inf",
    "8GBB",
    "5GiBs",
    "1" + "0" * 30,
    "8 8",
    "0x8",
]


@pytest.mark.parametrize("text", [*HOSTILE, "8,5G", "\uff18GB", "\u0663G"])
def test_what_is_no_size(text: str) -> None:
    for parse in (parse_memory, parse_file_size):
        with pytest.raises(RecipeError, match="is no size"):
            parse(text)
    with pytest.raises(RecipeError, match="is no number of tokens"):
        parse_tokens(text)
    with pytest.raises(RecipeError, match="is no size"):
        require_size(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("8,5G", "8.5G"), ("\uff18GB", "8GB"), ("\u0663G", None), ("8,192G", None), ("8,19 G", "8.19 G")],
)
def test_what_was_probably_meant(text: str, meant: str | None) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_memory(text)
    said = str(caught.value)
    assert f"did you mean {meant}?" in said if meant else "did you mean" not in said


@pytest.mark.parametrize("text", ["0", "0.0GiB", "0.4B"])
def test_nothing_is_no_size(text: str) -> None:
    for parse in (parse_memory, parse_file_size):
        with pytest.raises(RecipeError, match="more than nothing"):
            parse(text)


@pytest.mark.parametrize("text", ["10000000T", "999999999999999G"])
def test_more_than_there_is_anywhere(text: str) -> None:
    for parse in (parse_memory, parse_file_size):
        with pytest.raises(RecipeError, match="more than there is anywhere"):
            parse(text)
    with pytest.raises(RecipeError, match="more than there is anywhere"):
        parse_tokens("5000M")


@pytest.mark.parametrize(
    ("text", "meant"),
    [("5", "5GB"), ("5.2", "5.2GB"), ("1023", "1023GB"), ("5000", "5000MB"), ("999999", "999999MB")],
)
def test_a_small_file_without_a_unit_is_refused(text: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=f"has no unit, and would be .* bytes; did you mean {meant}"):
        parse_file_size(text)


@pytest.mark.parametrize("text", ["1024", "12282", "999999"])
def test_a_memory_that_may_be_mib_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=f"could be MiB or GiB; write {text}MiB, or {text}GiB"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["8B", "8k", "500kB", "0.0001"])
def test_a_memory_that_holds_nothing_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="which is no memory"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["8", "32", "127"])
def test_a_context_that_is_meant_in_k_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=f"too short for anything; did you mean {text}k"):
        parse_tokens(text)


@pytest.mark.parametrize(("value", "size"), [(8, 8 * GIB), (7.5, 15 * GIB // 2), (8_589_934_592, 8 * GIB)])
def test_numbers_of_yaml(value: float, size: int) -> None:
    assert parse_memory(value) == size
    assert parse_file_size(5_200_000_000) == 5_200_000_000
    for wrong in (1e300, -1.5, 0.0):
        with pytest.raises(RecipeError):
            parse_memory(wrong)


@given(st.text() | st.from_regex(r"[0-9]{0,4}[.,]?[0-9]{0,3} ?[kKmMgGtTiIbB]{0,4}", fullmatch=True))
def test_any_text_is_an_amount_or_an_error(text: str) -> None:
    for parse in (parse_memory, parse_file_size, parse_tokens):
        with suppress(RecipeError):
            assert parse(text) > 0


@given(st.integers(2_000_000, 1 << 50))
def test_what_is_told_reads_back(size: int) -> None:
    """To the digits that are shown."""
    assert parse_memory(memory_text(size)) == pytest.approx(size, rel=0.006)
    assert parse_file_size(file_text(size).partition(" (")[0]) == pytest.approx(size, rel=0.006)


@given(st.integers(1, 4096).map(lambda n: n * GIB // 4), st.integers(128, 1 << 31))
def test_quarters_of_a_gib_and_tokens_read_back_exactly(size: int, tokens: int) -> None:
    assert parse_memory(memory_text(size)) == size
    assert parse_tokens(tokens_text(tokens)) == tokens


@pytest.mark.parametrize("text", ["²", "٣", "", "-1", "1.0", " 1", "9" * 10, "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    """str.isdigit takes some of these, and int refuses them."""
    assert whole_number(text) is None


def test_whole_numbers_have_as_many_digits_as_are_allowed() -> None:
    assert [whole_number("007"), whole_number("9" * 9), whole_number("123", 3)] == [7, 999_999_999, 123]
    assert whole_number("1234", 3) is None


def test_what_is_told() -> None:
    assert memory_text(8 * GIB) == "8 GiB"
    assert memory_text(100 * GIB) == "100 GiB"
    assert memory_text(12282 << 20) == "11.99 GiB"
    assert file_text(5_200_000_000) == "5.2 GB (4.84 GiB)"
    assert file_text(700) == "700 B"
    assert tokens_text(131072) == "131,072 tokens"


@pytest.mark.parametrize(
    ("nbytes", "text", "unit"),
    [
        (0, "0 B", ("B", 1)),
        (1023, "1023 B", ("B", 1)),
        (1024, "1.00 KiB", ("KiB", 2**10)),
        (2**20 - 1, "1024.00 KiB", ("KiB", 2**10)),
        (4_920_000_000, "4.58 GiB", ("GiB", 2**30)),
        (-3 * 2**30, "-3.00 GiB", ("GiB", 2**30)),
        (2**50, "1024.00 TiB", ("TiB", 2**40)),
    ],
)
def test_bytes_for_people(nbytes: int, text: str, unit: tuple[str, int]) -> None:
    assert bytes_text(nbytes) == text
    assert binary_unit(nbytes) == unit
